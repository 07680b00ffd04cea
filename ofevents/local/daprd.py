"""One daprd that this process owns: a program, its files, its ports.

    async with Daprd(folder, binary, manifests, app=True, clock=clock) as daprd:
        daprd.grpc, daprd.http, daprd.app_port

It needs no control plane and its API is on loopback only. It runs in a process group of
its own, as Ctrl-C must not end it before the worker that it reads for; one that ended is
started again on the same ports, and one that a killed run left behind is ended first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from ofevents.api.dapr import Manifest
from ofevents.bus.dapr_resources import write
from ofevents.bus.daprd import last_words
from ofevents.clock import Clock
from ofevents.telemetry import Log

_BACKOFF: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_STEADY: Final = 10.0
"""Seconds that a start must last for the backoff to begin anew."""
_END_WITHIN: Final = 1.0
"""What it reads for has ended already: there is nothing to wait for but its commits."""


class Daprd:
    """See the module.

    Args:
        app: whether it calls an app, at `app_port`; one that only calls out has none.

    Attributes:
        grpc, http: addresses `host:port` of its APIs.
        why: why it ended last, "" if it never did.
    """

    def __init__(
        self, folder: Path, binary: Path, manifests: Sequence[Manifest], *, app: bool, clock: Clock
    ) -> None:
        self._folder = folder.resolve()
        self._binary = binary
        self._manifests = manifests
        self._clock = clock
        self._log = Log(server="daprd")
        ports = _free_ports(5)
        self.app_port = ports[0]
        self.grpc, self.http = f"127.0.0.1:{ports[1]}", f"127.0.0.1:{ports[2]}"
        flags = {
            "--app-id": folder.name.lower(),
            "--dapr-grpc-port": str(ports[1]),
            "--dapr-http-port": str(ports[2]),
            "--dapr-internal-grpc-port": str(ports[3]),
            "--metrics-port": str(ports[4]),
            "--dapr-listen-addresses": "127.0.0.1",
        }
        if app:
            flags |= {"--app-port": str(ports[0]), "--app-protocol": "grpc"}
            # It asks the app again what to read when it was not there, and reads nothing while
            # it is not: an input binding would lose it.
            flags |= {"--enable-app-health-check": "true", "--app-health-probe-interval": "1"}
        self._command = [str(binary), self._own, *(f"{k}={v}" for k, v in flags.items())]
        self.why = ""
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def _resources(self) -> Path:
        return self._folder / "resources"

    @property
    def _own(self) -> str:
        """The flag by which one that a killed run left behind is known."""
        return f"--resources-path={self._resources}"

    @property
    def log_file(self) -> Path:
        return self._folder / "daprd.log"

    async def __aenter__(self) -> Self:
        """Start it. Whether it works its worker finds out: it may have to wait for a broker."""
        await self._end_orphans()
        if self._resources.exists():
            shutil.rmtree(self._resources)
        self._resources.mkdir(parents=True)
        for one in self._manifests:
            write(self._resources, f"{one['metadata']['name']}.yaml", [one])
        self._keeper = asyncio.create_task(self._keep(), name="daprd: keeper")
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
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        _signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(_END_WITHIN):
                await process.wait()
        except TimeoutError:
            pass  # it has had its time
        finally:
            _signal(process, signal.SIGKILL)
        await process.wait()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            _signal(self._process, signal.SIGKILL)

    async def _keep(self) -> None:
        """Run it, again and again."""
        attempt = 0
        while True:
            began = self._clock.monotonic()
            with self.log_file.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            code = await self._process.wait()
            if self._clock.monotonic() - began > _STEADY:
                attempt = 0
            delay = _BACKOFF[min(attempt, len(_BACKOFF) - 1)]
            attempt += 1
            self.why = f"daprd ended with code {code}: {last_words(self.log_file)}"
            self._log.warning("reconnecting", reason=self.why, delay=delay)
            await self._clock.sleep(delay)

    async def _end_orphans(self) -> None:
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if self._own in line and line[0] == str(self._binary):
                self._log.warning("stopped", reason="left behind by a killed run", pid=process.pid)
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
                    await asyncio.to_thread(psutil.wait_procs, [process], _END_WITHIN)


def _signal(process: asyncio.subprocess.Process, what: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, what)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
