"""One daprd that this process owns: a program, its files, its ports.

    daprd = Daprd(folder, binary, app_id="shop", app=True, end_within=1.0, clock=clock)
    async with daprd.running(manifests):
        daprd.grpc, daprd.http, daprd.app_port

Used by `buses` and `sidecars`. It needs no control plane and its API is on loopback only.
In the folder lie its component files, its configuration and its log. It runs in a process
group of its own, as Ctrl-C must not end it before everything that uses it; one that ended,
for example because the broker was away when it started, is started again on the same
ports, and one that a killed run left behind is ended first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import psutil
import yaml

from ofevents.api.dapr import Manifest
from ofevents.bus.dapr_files import write
from ofevents.clock import Clock
from ofevents.errors import ConfigError
from ofevents.telemetry import Log

_BACKOFF: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_STEADY: Final = 10.0
"""Seconds that a start must last for the backoff to begin anew."""
_MESSAGE: Final = re.compile(r'msg="((?:[^"\\]|\\.)*)"')
_PLACE: Final = re.compile(r".*initialization error occurred for \S+ \(([^)]*)\): ")
_HOT_RELOAD: Final = {
    "apiVersion": "dapr.io/v1alpha1",
    "kind": "Configuration",
    "metadata": {"name": "ofevents"},
    "spec": {"features": [{"name": "HotReload", "enabled": True}]},
}


class Daprd:
    """See the module.

    Args:
        app: whether it calls an app, at `app_port`; one that only calls out has none.
        hot_reload: whether it watches `resources`, to which others add then.
        end_within: seconds that it has to end.

    Attributes:
        grpc, http: addresses `host:port` of its APIs.
        resources: the folder of its component files.
        why: why it ended last, "" if it never did.
    """

    def __init__(
        self,
        folder: Path,
        binary: Path,
        *,
        app_id: str,
        app: bool,
        hot_reload: bool = False,
        end_within: float,
        clock: Clock,
    ) -> None:
        self._folder = folder.resolve()
        self.resources = self._folder / "resources"
        self._binary = binary
        self._hot_reload = hot_reload
        self._end_within = end_within
        self._clock = clock
        self._log = Log(server="daprd")
        ports = _free_ports(5)
        self.app_port = ports[0]
        self.grpc, self.http = f"127.0.0.1:{ports[1]}", f"127.0.0.1:{ports[2]}"
        flags = {
            "--app-id": app_id,
            "--dapr-grpc-port": str(ports[1]),
            "--dapr-http-port": str(ports[2]),
            "--dapr-internal-grpc-port": str(ports[3]),
            "--metrics-port": str(ports[4]),
            "--dapr-listen-addresses": "127.0.0.1",
        }
        if app:
            flags |= {"--app-port": str(ports[0]), "--app-protocol": "grpc"}
            # It asks the app again what to read when it was not there, and reads nothing while
            # it is not: an input binding would lose it, and a bus would get nothing any more.
            flags |= {"--enable-app-health-check": "true", "--app-health-probe-interval": "1"}
        if hot_reload:
            flags |= {"--config": str(self._configuration)}
        self._command = [str(binary), self._own, *(f"{k}={v}" for k, v in flags.items())]
        self.why = ""
        self._process: asyncio.subprocess.Process | None = None

    @property
    def _own(self) -> str:
        """The flag by which one that a killed run left behind is known."""
        return f"--resources-path={self.resources}"

    @property
    def _configuration(self) -> Path:
        return self._folder / "config.yaml"

    @property
    def log_file(self) -> Path:
        return self._folder / "daprd.log"

    @asynccontextmanager
    async def running(self, manifests: Sequence[Manifest]) -> AsyncIterator[None]:
        """Run it with these. Whether it works its users find out: it may have to wait for a
        broker."""
        await self._end_orphans()
        if self.resources.exists():
            shutil.rmtree(self.resources)
        write(self.resources, "given.yaml", manifests)
        if self._hot_reload:
            self._configuration.write_text(yaml.safe_dump(_HOT_RELOAD))
        keeper = asyncio.create_task(self._keep(), name="daprd: keeper")
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await self._end()

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

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

    async def _end(self) -> None:
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._end_within):
                await self._process.wait()
        except TimeoutError:
            pass  # it has had its time
        finally:
            self._signal(signal.SIGKILL)
        await self._process.wait()

    def _signal(self, what: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, what)

    async def _end_orphans(self) -> None:
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            # The program may be another one than the killed run's.
            if self._own in line and Path(line[0]).name.startswith(("daprd", self._binary.name)):
                self._log.warning("stopped", reason="left behind by a killed run", pid=process.pid)
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
                    await asyncio.to_thread(psutil.wait_procs, [process], self._end_within)


def last_words(log_file: Path) -> str:
    """Why a daprd ended: the last error in its log, without what it says twice about the place."""
    lines = log_file.read_bytes()[-4000:].decode(errors="replace").splitlines()
    told = [line for line in lines if "level=fatal" in line or "level=error" in line]
    line = (told or lines or [""])[-1]
    if message := _MESSAGE.search(line):
        line = message[1].replace('\\"', '"')
    return _PLACE.sub(r"\1: ", line)[-500:]


def find_binary(given: Path | None, *, user: str, path: str = "") -> Path:
    """The daprd to run: the one given, on PATH, or where `dapr init` puts it.

    Args:
        user: what needs it, for people.
        path: where that stands in its document.

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
            f"{user} needs a sidecar, and no daprd was found: install Dapr (`dapr init "
            "--slim` puts it into ~/.dapr/bin), or say where it is with --daprd PATH",
            path=path,
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
