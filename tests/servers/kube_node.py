"""A real Kubernetes of one node: control plane, kubelet, containerd, kube-proxy, CoreDNS.

    async with KubeNode(folder) as node:         # in the namespace of kube_namespace.py
        await node.load_image(archive)
        await node.kubectl("apply", "-f", "-", text=manifest)

Pods really run, with probes, users, volumes, Service addresses and names; nothing can be
pulled (`imagePullPolicy: Never`). Everything but the Pods' processes is a child of the
test process, killed by pid, and can be killed and started again on its own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import psutil
import yaml

from tests.servers import ServerMissing, find, kube_config, kube_namespace
from tests.servers.kube_api import KubeApi
from tests.servers.kube_build import CONTAINERD, COREDNS, IMAGES, KUBENODE
from tests.servers.kube_config import NODE, PAUSE
from tests.servers.kube_image import pack
from tests.servers.kube_namespace import ADDRESS, DNS

PROBE_IMAGE: Final = "localhost/probe:1"
COMMANDS: Final = {
    "runc": "runc",
    "iptables": "iptables",
    "kubectl": "kubernetes-client",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
}
"""What Debian brings to a node, command -> package."""


class KubeNode(KubeApi):
    """See the module; the API server's part is KubeApi's."""

    address = ADDRESS
    names = (ADDRESS, "10.0.0.1", "kubernetes.default.svc", "kubernetes.default")

    def extra_flags(self) -> tuple[str, ...]:
        return (
            "--bind-address=0.0.0.0",
            f"--advertise-address={ADDRESS}",
            "--allow-privileged",
            "--kubelet-preferred-address-types=InternalIP",
            f"--requestheader-client-ca-file={self.ca}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={self.folder / 'front.pem'}",
            f"--proxy-client-key-file={self.folder / 'front.key'}",
        )

    @property
    def config(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def socket(self) -> Path:
        return self.folder / "ctd.sock"

    async def __aenter__(self) -> Self:
        kube_namespace.require()
        for command, package in COMMANDS.items():
            if find(command) is None:
                raise ServerMissing(f"no {command}: apt-get install {package}")
        for build in (KUBENODE, CONTAINERD, COREDNS, IMAGES):
            for name in build.commands:
                build.find(name)
        return await super().__aenter__()

    # -- the processes ------------------------------------------------------------------

    async def start(self) -> None:
        """Start all; the node is Ready and Pods can be created when it returns."""
        self._write_files()
        await self.start_containerd()
        for program, name in {"pause": PAUSE, "probe": PROBE_IMAGE}.items():
            archive = self.folder / f"{program}.tar"
            await self.load_image(pack(IMAGES.find(program), name, archive))
        await super().start()
        for name in ("controller-manager", "scheduler", "kubelet", "proxy"):
            self.start_component(name)
        await self._start_dns()
        await self.until(self.is_ready, "the node is Ready", seconds=120)
        await self.until(lambda: self._has_accounts("default"), "there are ServiceAccounts")

    def _write_files(self) -> None:
        self.kubeconfig(self.config)
        (self.folder / "cni").mkdir(exist_ok=True)
        files = {
            "kubelet.yaml": kube_config.kubelet(self.folder),
            "ctd.toml": kube_config.containerd(self.folder),
            "cni/10-pods.conflist": kube_config.cni(self.folder),
            "proxy.yaml": kube_config.proxy(self.config),
            "Corefile": kube_config.coredns(self.config),
            "resolv.conf": "",  # there is nobody to ask outside
        }
        for name, text in files.items():
            (self.folder / name).write_text(text)

    async def start_containerd(self) -> None:
        """Start containerd alone; it takes the Pods that run as they are."""
        binary = CONTAINERD.find("containerd")
        path = f"{binary.parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        config = str(self.folder / "ctd.toml")
        self.run("containerd", str(binary), "-c", config, env={**os.environ, "PATH": path})
        await self.until(self._containerd_answers, "containerd answers")

    async def _containerd_answers(self) -> bool:
        try:
            await self._ctr("images", "ls", "-q")
        except RuntimeError:
            return False
        return True

    def start_component(self, name: str) -> None:
        """Start a component that was not running; see `end`."""
        config, folder = f"--kubeconfig={self.config}", self.folder
        flags: dict[str, Sequence[str]] = {
            "controller-manager": (
                config,
                f"--service-account-private-key-file={folder / 'sa.key'}",
                f"--root-ca-file={self.ca}",
                "--leader-elect=false",
                # A test of scaling does not wait for minutes.
                "--horizontal-pod-autoscaler-sync-period=2s",
                "--horizontal-pod-autoscaler-downscale-stabilization=5s",
            ),
            "scheduler": (
                config,
                f"--authentication-kubeconfig={self.config}",
                f"--authorization-kubeconfig={self.config}",
                "--leader-elect=false",
                "--secure-port=0",
            ),
            "kubelet": (
                config,
                f"--config={folder / 'kubelet.yaml'}",
                f"--root-dir={folder / 'kubelet'}",
                f"--hostname-override={NODE}",
                f"--node-ip={ADDRESS}",
            ),
            "proxy": (f"--config={folder / 'proxy.yaml'}",),
        }
        self.run(name, str(KUBENODE.find("kubenode")), name, *flags[name])

    async def _start_dns(self) -> None:
        for resource in kube_config.on_node("kube-system", "kube-dns", 53, clusterIP=DNS):
            await self.apply(resource)
        self.run("coredns", str(COREDNS.find("coredns")), "-conf", str(self.folder / "Corefile"))

    async def is_ready(self) -> bool:
        """Whether the node says that Pods can run on it, and the DNS server answers."""
        try:
            node = await self.call("GET", f"/api/v1/nodes/{NODE}")
            async with (
                aiohttp.ClientSession() as session,
                session.get("http://127.0.0.1:8181/ready") as answer,
            ):
                names = answer.status == 200
        except (LookupError, OSError, aiohttp.ClientError):
            return False
        ready = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
        return names and ready.get("Ready") == "True"

    async def _has_accounts(self, namespace: str) -> bool:
        """A Pod is refused before its namespace has an account and the authority's ConfigMap."""
        root = f"/api/v1/namespaces/{namespace}"
        try:
            await self.call("GET", f"{root}/serviceaccounts/default")
            await self.call("GET", f"{root}/configmaps/kube-root-ca.crt")
        except LookupError:
            return False
        return True

    async def kill(self) -> None:
        """End every Pod and every process, and unmount what they had."""
        await self.end("kubelet")
        try:
            if listed := (await self._ctr("tasks", "ls", "-q")).split():
                await self._ctr("tasks", "delete", "--force", *listed)
        except (RuntimeError, ServerMissing):
            pass  # containerd does not run; the end of the namespace is the end of its Pods
        await super().kill()
        for process in self.leftovers():  # a shim that containerd did not know any more
            process.kill()
        await asyncio.to_thread(self._clear)

    def leftovers(self) -> list[psutil.Process]:
        """Processes of this node: their command line names its folder."""
        own, found = os.getpid(), []
        for process in psutil.process_iter():
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            if process.pid != own and any(str(self.folder) in word for word in line):
                found.append(process)
        return found

    def mounts(self) -> list[str]:
        """Where something is mounted in the folder, the innermost first."""
        points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        return [each for each in reversed(points) if each.startswith(f"{self.folder}/")]

    def _clear(self) -> None:
        for point in self.mounts():
            subprocess.run(["umount", "--lazy", point], check=False, timeout=30)
        for name in ("root", "state", "kubelet", "ipam", "opt"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    # -- what is done with it -------------------------------------------------------------

    async def load_image(self, archive: Path) -> None:
        """Make the images of an archive (OCI or docker, see kube_image.py) known to the node."""
        await self._ctr("images", "import", str(archive))

    async def remove_image(self, name: str) -> None:
        """Forget an image; what runs of it runs on, and nobody can pull it again."""
        await self._ctr("images", "rm", "--sync", name)

    async def kill_containers(self, pod: dict[str, Any]) -> None:
        """SIGKILL what a Pod runs, as a full memory does; the kubelet starts it again."""
        for each in pod["status"]["containerStatuses"]:
            _, _, id = each["containerID"].rpartition("/")
            await self._ctr("tasks", "kill", "--signal", "SIGKILL", id)

    async def create_namespace(self, name: str) -> None:
        """Create a Kubernetes namespace; Pods can be created in it when this returns."""
        await self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        await self.until(lambda: self._has_accounts(name), f"{name} has a ServiceAccount")

    async def apply(self, *resources: dict[str, Any]) -> None:
        """Server-side apply."""
        text = yaml.safe_dump_all(resources)
        await self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=text)

    async def kubectl(self, *arguments: str, text: str = "") -> str:
        """Run kubectl as the administrator, `text` at its input; what it printed.

        Raises:
            RuntimeError: it failed; the text is its own.
        """
        return await self.output("kubectl", f"--kubeconfig={self.config}", *arguments, text=text)

    async def _ctr(self, *arguments: str) -> str:
        binary = str(CONTAINERD.find("ctr"))
        return await self.output(binary, "-a", str(self.socket), "-n", "k8s.io", *arguments)

    async def output(self, *command: str, text: str = "") -> str:
        """Run a command of the machine, `text` at its input; what it printed.

        Raises:
            RuntimeError: it failed; the text is its own.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, error = await process.communicate(text.encode())
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: {(out + error).decode()[-8000:]}")
        return out.decode()
