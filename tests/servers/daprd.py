"""A real Dapr sidecar: daprd 1.14.0, built from `tests/servers/daprd` with Go.

    async with Daprd(folder, components=[...]) as daprd:
        daprd.grpc, daprd.http          # its ports on loopback

`components` are Dapr resources as dictionaries (Component, Subscription, Resiliency,
Configuration), written into a folder that daprd reads and, with the HotReload
feature, watches. It keeps its ports over `kill` and `start`. Used by the rigs of
the dapr bus and by whatever else speaks to Dapr.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml

from tests.servers import HOST, ServerFailed, free_port, until
from tests.servers.go_build import Build, sources

VERSION: Final = "1.14.0"
_SOURCE: Final = Path(__file__).parent / "daprd"
_HOT_RELOAD: Final = {
    "apiVersion": "dapr.io/v1alpha1",
    "kind": "Configuration",
    "metadata": {"name": "daprd"},
    "spec": {"features": [{"name": "HotReload", "enabled": True}]},
}
DAPRD: Final = Build(
    name="daprd",
    version=f"{VERSION}-{sources(_SOURCE)}",
    module=_SOURCE,
    commands={"daprd": "."},
    takes="3 minutes",
    link=f"-X github.com/dapr/dapr/pkg/buildinfo.version={VERSION}",
    files=("crds", "github.com/dapr/dapr", "charts/dapr/crds"),
)


def binary() -> Path:
    """daprd in the cache; built when it is not there, which takes some minutes.

    Raises:
        ServerMissing: Go is not installed, or could not build it.
    """
    return DAPRD.get() / "daprd"


def component(name: str, type: str, **metadata: str) -> dict[str, Any]:
    """A Component; a metadata name that is a keyword of Python ends with "_"."""
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": name},
        "spec": {
            "type": type,
            "version": "v1",
            "metadata": [
                {"name": key.rstrip("_"), "value": value} for key, value in metadata.items()
            ],
        },
    }


class Daprd:
    """See the module.

    Attributes:
        grpc, http: ports of its API.
        app_port: where it calls its app (gRPC), 0 for no app.
        resources: the folder of its files; with HotReload a new file counts at once.
    """

    def __init__(
        self,
        folder: Path,
        components: Sequence[dict[str, Any]] = (),
        *,
        app_id: str = "ofevents",
        app_port: int = 0,
        protocol: str = "grpc",
        health_check: bool = True,
    ) -> None:
        """`health_check` has daprd look whether its app is there, and begin again when it is."""
        self.grpc, self.http, self._internal = free_port(), free_port(), free_port()
        self.app_port = app_port
        self.resources = folder / "resources"
        self._app = ["--app-id", app_id]
        if app_port:
            self._app += ["--app-port", str(app_port), "--app-protocol", protocol]
        if app_port and health_check:
            self._app += ["--enable-app-health-check", "--app-health-probe-interval", "1"]
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self.resources.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(_HOT_RELOAD))
        for one in components:
            self.write(one)

    @property
    def address(self) -> str:
        """`host:port` of its gRPC API."""
        return f"{HOST}:{self.grpc}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def write(self, resource: dict[str, Any]) -> None:
        """One file of its own for a resource."""
        path = self.resources / f"{resource['kind']}-{resource['metadata']['name']}.yaml".lower()
        path.write_text(yaml.safe_dump(resource))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.kill()
        if error is not None:
            print(f"--- the end of daprd's log\n{self.log()}")

    async def start(self) -> None:
        """Start it; returns when its API answers (its app need not be there).

        Raises:
            ServerFailed: it ended, or is not up within 60 s; with the end of its log.
        """
        command: list[str | Path] = [await asyncio.to_thread(binary)]
        command += [*self._app, "--resources-path", self.resources]
        command += ["--config", self._folder / "config.yaml", "--log-level", "info"]
        command += ["--dapr-grpc-port", str(self.grpc), "--dapr-http-port", str(self.http)]
        command += ["--dapr-internal-grpc-port", str(self._internal), "--enable-metrics=false"]
        command += ["--dapr-listen-addresses", HOST]
        command += ["--dapr-internal-grpc-listen-address", "127.0.0.1"]
        with (self._folder / "daprd.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            await until(self._healthy, seconds=60, what="daprd's API answers")
        except TimeoutError as error:
            await self.kill()
            raise ServerFailed(f"{error}\n{self.log()}") from error

    async def _healthy(self) -> bool:
        if self._process is None or self._process.returncode is not None:
            raise ServerFailed(f"daprd ended\n{self.log()}")
        try:
            reader, writer = await asyncio.open_connection(HOST, self.http)
        except OSError:
            return False
        try:
            writer.write(b"GET /v1.0/healthz/outbound HTTP/1.0\r\n\r\n")
            line = await reader.readline()
        except OSError:
            return False
        finally:
            writer.close()
        return b" 204 " in line

    async def kill(self) -> None:
        """SIGKILL, and wait; nothing when it does not run."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and wait; daprd closes its subscriptions first."""
        await self._end(signal.SIGTERM)

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(how)
            await process.wait()

    async def restart(self) -> None:
        """Kill it and start it again on the same ports and files."""
        await self.kill()
        await self.start()

    def log(self, size: int = 6000) -> str:
        """The end of its log."""
        path = self._folder / "daprd.log"
        return path.read_bytes()[-size:].decode(errors="replace") if path.exists() else ""
