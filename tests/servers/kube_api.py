"""A real kube-apiserver on an etcd of its own, both alone on loopback.

    async with KubeApi(folder) as api:
        await api.call("POST", "/api/v1/namespaces/default/configmaps", {...})
        api.kubeconfig(api.folder / "config", token)

`make servers` builds it (tests/servers/kube_build.py); the etcd is Debian's. There is no
controller, no scheduler and no node: objects are stored and watched, and nothing becomes
of them (tests/servers/kube_runner.py has Pods as processes, tests/servers/kube_node.py a
whole node). Tokens are in a file, rights by RBAC. What it holds is kept over `kill` and
`restart`.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import psutil
import trustme
import yaml

from tests.servers import ServerFailed, ServerMissing, find, free_port, listening, until
from tests.servers.kube_build import KUBENODE

ADMIN: Final = "admin-token"


class KubeApi:
    """An etcd and an API server; `users` are further rows `token,name,uid[,"groups"]`.

    Attributes:
        names: what its certificate is for, beside loopback.
    """

    names: tuple[str, ...] = ()

    def __init__(self, folder: Path, *, users: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.port = free_port()
        self._etcd_ports = (free_port(), free_port())
        self._users = users
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
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
        own = authority.issue_cert("127.0.0.1", "localhost", *self.names)
        authority.cert_pem.write_to_path(self.ca)
        own.cert_chain_pems[0].write_to_path(self.folder / "cert.pem")
        own.private_key_pem.write_to_path(self.folder / "key.pem")
        # It calls extension API servers. Go refuses a certificate whose list of names is empty.
        front = authority.issue_cert("front-proxy", common_name="front-proxy")
        front.cert_chain_pems[0].write_to_path(self.folder / "front.pem")
        front.private_key_pem.write_to_path(self.folder / "front.key")
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

    def extra_flags(self) -> tuple[str, ...]:
        """Of the API server: where it is reached."""
        return (
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
        )

    async def start(self) -> None:
        """Start both, and wait until the API answers and has its namespaces."""
        await self.start_etcd()
        await self.start_api()

    async def start_etcd(self) -> None:
        """Start etcd alone, on the data that it had."""
        etcd = find("etcd")
        if etcd is None:
            raise ServerMissing("no etcd: apt-get install etcd-server")
        client, peer = (f"http://127.0.0.1:{port}" for port in self._etcd_ports)
        self.run(
            "etcd",
            str(etcd),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            # Processes are killed here, the machine is not: what waits for the disk, which all
            # tests write to, would be a controller's lease.
            "--unsafe-no-fsync",
        )
        await self.until(lambda: listening(self._etcd_ports[0], "127.0.0.1"), "etcd answers")

    async def start_api(self) -> None:
        """Start the API server alone; etcd runs."""
        self.run(
            "apiserver",
            str(KUBENODE.find("kubenode")),
            "apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_ports[0]}",
            f"--secure-port={self.port}",
            f"--tls-cert-file={self.folder / 'cert.pem'}",
            f"--tls-private-key-file={self.folder / 'key.pem'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--service-account-issuer=https://ofevents.test",
            f"--service-account-key-file={self.folder / 'sa.key'}",
            f"--service-account-signing-key-file={self.folder / 'sa.key'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            *self.extra_flags(),
        )
        await self.until(self.answers, "kube-apiserver answers")

    def run(self, name: str, *command: str, env: dict[str, str] | None = None) -> None:
        """Start a process that `kill` ends, with its log in the folder."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env
            )

    async def until(self, condition: Any, what: str, seconds: float = 120) -> None:
        """Wait for a condition.

        Raises:
            ServerFailed: it does not come, or a process ended; with the ends of the logs.
        """

        async def holds() -> bool:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise ServerFailed(f"{name} ended with {process.returncode}\n{self._logs()}")
            result = condition()
            return result if isinstance(result, bool) else bool(await result)

        try:
            await until(holds, seconds=seconds, what=what)
        except TimeoutError as error:
            raise ServerFailed(f"{error}\n{self._logs()}") from error

    def _logs(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(
            f"--- {each.stem}\n{each.read_text(errors='replace')[-2000:]}" for each in logs
        )

    async def answers(self) -> bool:
        """Whether it is ready, with its etcd."""
        try:
            await self.call("GET", "/readyz")
            await self.call("GET", "/api/v1/namespaces/default")
        except (OSError, aiohttp.ClientError, LookupError, RuntimeError):
            return False
        return True

    async def end(self, name: str) -> None:
        """SIGKILL one process, and wait; nothing when it does not run."""
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)

    def work(self) -> float:
        """Seconds of the processor that its processes have taken so far."""
        taken = (psutil.Process(each.pid).cpu_times() for each in self._processes.values())
        return sum(each.user + each.system for each in taken)

    async def kill_api(self) -> None:
        """SIGKILL the API server alone; `restart` brings it back."""
        await self.end("apiserver")

    async def kill(self) -> None:
        """SIGKILL all, and wait; nothing when they do not run."""
        for name in reversed(list(self._processes)):
            await self.end(name)

    async def restart(self) -> None:
        """Kill all and start them again on the same ports and data."""
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
