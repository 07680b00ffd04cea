"""A daprd that this process owns: the sidecar of `ofevents run`.

    async with Sidecar(folder, binary, bus, clock=clock) as sidecar:
        ResolvedBus(driver="dapr", options={**bus.options, **sidecar.options})

In the folder lie its component files, which the driver adds to, its configuration and
its log. It needs no control plane and its API is on loopback only. It runs in a process
group of its own, as Ctrl-C must not end it before everything that uses it; one that
ended, for example because the broker was away when it started, is started again on
the same ports, and one that a killed run left behind is ended first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil
import yaml

from ofevents.api.resolved import ResolvedBus
from ofevents.bus.dapr_options import read_options
from ofevents.bus.dapr_resources import write_base
from ofevents.clock import Clock
from ofevents.errors import ConfigError
from ofevents.telemetry import Log

_BACKOFF: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_STEADY: Final = 10.0
"""Seconds that a start must last for the backoff to begin anew."""
_END_WITHIN: Final = 3.0
_MESSAGE: Final = re.compile(r'msg="((?:[^"\\]|\\.)*)"')
_PLACE: Final = re.compile(r".*initialization error occurred for \S+ \(([^)]*)\): ")
_CONFIGURATION: Final = {
    "apiVersion": "dapr.io/v1alpha1",
    "kind": "Configuration",
    "metadata": {"name": "ofevents"},
    "spec": {"features": [{"name": "HotReload", "enabled": True}]},
}


class Sidecar:
    """See the module.

    Attributes:
        options: what the bus's driver needs to know of it.
        why: why it ended last, "" if it never did.
    """

    def __init__(self, folder: Path, binary: Path, bus: ResolvedBus, *, clock: Clock) -> None:
        self._folder = folder.resolve()
        self._binary = binary
        self._bus = bus
        self._clock = clock
        self._log = Log(server="daprd")
        ports = _free_ports(5)
        self._flags = {
            "--app-id": "ofevents",
            "--app-port": str(ports[0]),
            "--app-protocol": "grpc",
            "--dapr-grpc-port": str(ports[1]),
            "--dapr-http-port": str(ports[2]),
            "--dapr-internal-grpc-port": str(ports[3]),
            "--metrics-port": str(ports[4]),
            "--dapr-listen-addresses": "127.0.0.1",
            "--resources-path": str(self.resources),
            "--config": str(self._folder / "config.yaml"),
            # Without it a daprd that waited long for this process hands nothing over.
            "--enable-app-health-check": "true",
            "--app-health-probe-interval": "1",
        }
        self.options: dict[str, Any] = {
            "sidecar": f"127.0.0.1:{ports[1]}",
            "app_port": ports[0],
            "resources": str(self.resources),
        }
        self.why = ""
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def resources(self) -> Path:
        return self._folder / "resources"

    @property
    def log_file(self) -> Path:
        return self._folder / "daprd.log"

    @property
    def pid(self) -> int | None:
        """Of the process, None while it does not run."""
        return self._process.pid if self._process else None

    async def __aenter__(self) -> Self:
        """Start it. Whether it works its driver finds out: it may have to wait for the broker.

        Raises:
            ConfigError: an option is wrong.
        """
        options = read_options({**self._bus.options, **self.options})
        await self._end_orphans()
        if self.resources.exists():
            shutil.rmtree(self.resources)
        write_base(self.resources, options, self._bus.name)
        (self._folder / "config.yaml").write_text(yaml.safe_dump(_CONFIGURATION))
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
        if process is not None and process.returncode is None:
            await _end(process)

    async def _keep(self) -> None:
        """Run it, again and again."""
        attempt = 0
        while True:
            began = self._clock.monotonic()
            with self.log_file.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    str(self._binary),
                    *(f"{name}={value}" for name, value in self._flags.items()),
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
            ours = f"--resources-path={self.resources}" in line
            if ours and Path(line[0]).name.startswith("daprd"):
                self._log.warning("stopped", reason="left behind by a killed run", pid=process.pid)
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
                    await asyncio.to_thread(psutil.wait_procs, [process], _END_WITHIN)


def last_words(log_file: Path) -> str:
    """Why a daprd ended: the last error in its log, without what it says twice about the place."""
    lines = log_file.read_bytes()[-4000:].decode(errors="replace").splitlines()
    told = [line for line in lines if "level=fatal" in line or "level=error" in line]
    line = (told or lines or [""])[-1]
    if message := _MESSAGE.search(line):
        line = message[1].replace('\\"', '"')
    return _PLACE.sub(r"\1: ", line)[-500:]


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_END_WITHIN):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def find_binary(given: Path | None = None) -> Path:
    """The daprd to run: the one given, on PATH, or where `dapr init` puts it.

    Raises:
        ConfigError: there is none; says how to get it.
    """
    if given is not None:
        if os.access(given, os.X_OK) and given.is_file():
            return given.resolve()
        raise ConfigError(f"--daprd {given}: no program is there")
    found = shutil.which("daprd") or shutil.which("daprd", path=Path.home() / ".dapr" / "bin")
    if not found:
        raise ConfigError(
            "a dapr bus needs a sidecar, and no daprd was found: install Dapr (`dapr init "
            "--slim` puts it into ~/.dapr/bin), or say where it is with --daprd PATH",
            path="dapr",
        )
    return Path(found).resolve()


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
