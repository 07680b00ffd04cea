"""A real kube-apiserver on an etcd of its own, both alone on loopback.

    async with KubeApi(folder) as api:
        await api.call("POST", "/api/v1/namespaces/default/configmaps", {...})
        api.kubeconfig(api.folder / "config", token)

`make servers` builds it from the Go module in tests/servers/kube into the cache; the etcd
is Debian's. There is no controller, no scheduler and no node: objects are stored and
watched, and nothing becomes of them. Tokens are in a file, rights by RBAC. What it holds
is kept over `kill` and `restart`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import trustme
import yaml

from tests.servers import (
    ServerFailed,
    ServerMissing,
    cache_dir,
    find,
    free_port,
    listening,
    until,
)

VERSION: Final = "1.37.2"
ADMIN: Final = "admin-token"
MODULE: Final = Path(__file__).parent / "kube"
_BUILD_SECONDS: Final = 3600


def folder() -> Path:
    """Where the commands of the Go module are kept once they are built."""
    return cache_dir() / f"kubernetes-{VERSION}"


def find_built(command: str) -> Path:
    """A command of the Go module.

    Raises:
        ServerMissing: it is not built yet.
    """
    path = folder() / command
    if not path.exists():
        raise ServerMissing(f"no kube {command} {VERSION}: make servers builds it (needs Go)")
    return path


def build(command: str = "apiserver") -> Path:
    """Build a command of the Go module, once; it takes about ten minutes on two cores.

    Raises:
        ServerMissing: there is no Go, or the build fails.
    """
    path = folder() / command
    if path.exists():
        return path
    go = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")
    if go is None:
        raise ServerMissing("install Go 1.26 or newer")
    path.parent.mkdir(parents=True, exist_ok=True)
    major, minor, _ = VERSION.split(".")
    package = "k8s.io/component-base/version"
    names = {"gitVersion": f"v{VERSION}", "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X {package}.{name}={value}" for name, value in names.items())
    fresh = path.with_suffix(".new")
    done = subprocess.run(
        [go, "build", "-trimpath", f"-ldflags=-s -w {flags}", "-o", str(fresh), f"./{command}"],
        cwd=MODULE,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"},
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
    )
    if done.returncode:
        raise ServerMissing(f"go build failed: {done.stderr[-600:]}")
    fresh.rename(path)
    return path


class KubeApi:
    """An etcd and an API server; `users` are further rows `token,name,uid[,"groups"]`."""

    def __init__(self, folder: Path, *, users: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.port = free_port()
        self._etcd_ports = (free_port(), free_port())
        self._users = users
        self._etcd: asyncio.subprocess.Process | None = None
        self._api: asyncio.subprocess.Process | None = None
        self._trust = ssl.create_default_context()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """The certificate that its own is signed by."""
        return self.folder / "ca.pem"

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        own = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(self.ca)
        own.cert_chain_pems[0].write_to_path(self.folder / "cert.pem")
        own.private_key_pem.write_to_path(self.folder / "key.pem")
        authority.issue_cert("accounts").private_key_pem.write_to_path(self.folder / "sa.key")
        rows = [f"{ADMIN},admin,admin,system:masters", *self._users]
        (self.folder / "tokens.csv").write_text("\n".join(rows) + "\n")
        self._trust = ssl.create_default_context(cafile=str(self.ca))
        try:
            await self.start()
        except BaseException:
            await self.kill()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.kill()

    # -- the processes ------------------------------------------------------------------

    async def start(self) -> None:
        """Start both, and wait until the API answers and has its namespaces."""
        etcd = find("etcd")
        if etcd is None:
            raise ServerMissing("no etcd: apt-get install etcd-server")
        apiserver = find_built("apiserver")
        client, peer = (f"http://127.0.0.1:{port}" for port in self._etcd_ports)
        self._etcd = await self._run(
            "etcd",
            str(etcd),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )
        await self._until(lambda: listening(self._etcd_ports[0]), "etcd")
        self._api = await self._run(
            "apiserver",
            str(apiserver),
            f"--etcd-servers={client}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={self.port}",
            f"--tls-cert-file={self.folder / 'cert.pem'}",
            f"--tls-private-key-file={self.folder / 'key.pem'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--service-account-issuer=https://ofevents.test",
            f"--service-account-key-file={self.folder / 'sa.key'}",
            f"--service-account-signing-key-file={self.folder / 'sa.key'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
        )
        await self._until(self._ready, "kube-apiserver")

    async def _run(self, name: str, *command: str) -> asyncio.subprocess.Process:
        with (self.folder / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)

    async def _until(self, condition: Any, what: str) -> None:
        try:
            await until(condition, seconds=60, what=f"{what} answers")
        except TimeoutError as error:
            raise ServerFailed(f"{error}\n{self._logs()}") from error

    def _logs(self) -> str:
        return "\n".join(each.read_text()[-2000:] for each in self.folder.glob("*.log"))

    async def _ready(self) -> bool:
        for process in (self._etcd, self._api):
            if process is None or process.returncode is not None:
                raise ServerFailed(f"a process ended\n{self._logs()}")
        try:
            await self.call("GET", "/readyz")
            await self.call("GET", "/api/v1/namespaces/default")
        except (OSError, aiohttp.ClientError, LookupError, RuntimeError):
            return False
        return True

    async def kill_api(self) -> None:
        """SIGKILL the API server alone; `restart` brings it back."""
        process, self._api = self._api, None
        await _end(process)

    async def kill(self) -> None:
        """SIGKILL both, and wait; nothing when they do not run."""
        await self.kill_api()
        process, self._etcd = self._etcd, None
        await _end(process)

    async def restart(self) -> None:
        """Kill both and start them again on the same ports and data."""
        await self.kill()
        await self.start()

    # -- what it holds --------------------------------------------------------------------

    async def call(
        self, method: str, path: str, body: Any = None, *, token: str = ADMIN, kind: str = "json"
    ) -> Any:
        """Ask it, and return what it answers; `kind` is the media type of a patch.

        Raises:
            LookupError: 404.
            RuntimeError: it refuses; the text is its own.
        """
        form = "yaml" if kind == "apply-patch" else "json"  # JSON is YAML
        media = "application/json" if kind == "json" else f"application/{kind}+{form}"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": media}
        connector = aiohttp.TCPConnector(ssl=self._trust)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, self.url + path, json=body, headers=headers) as answer,
        ):
            if answer.status == 404:
                raise LookupError(await answer.text())
            if answer.status >= 400:
                raise RuntimeError(f"{answer.status}: {await answer.text()}")
            if answer.content_type != "application/json":
                return await answer.text()
            return await answer.json()

    def kubeconfig(self, path: Path, token: str = ADMIN) -> Path:
        """Write a kubeconfig for that token."""
        named = {"name": "test"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {**named, "cluster": {"server": self.url, "certificate-authority": str(self.ca)}}
            ],
            "users": [{**named, "user": {"token": token}}],
            "contexts": [{**named, "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(document))
        return path


async def _end(process: asyncio.subprocess.Process | None) -> None:
    if process is not None and process.returncode is None:
        process.send_signal(signal.SIGKILL)
        await process.wait()
