"""A Kubernetes without a node: a real control plane, and Pods as local processes.

    async with KubeRunner(folder, {"ofevents:test": Image((OFEVENTS,))}) as runner:
        await runner.call("POST", "/apis/apps/v1/namespaces/default/deployments", {...})
        runner.pod("default", name).pid

For machines that cannot run tests/servers/kube_node.py. API server and controllers are
Kubernetes' own: Deployments roll, what belongs to something goes with it, namespaces have
their accounts. Scheduler and kubelet are in the test's process. Each Pod has an address of
its own in 127.0.0.0/8, which Linux answers without being told of it. There are no
containers: no users, limits or file systems, and no Services, as nobody routes to them.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import aiohttp

from tests.servers import ServerFailed, ServerMissing, free_address
from tests.servers.kube_api import ADMIN, KubeApi
from tests.servers.kube_build import KUBENODE
from tests.servers.kube_pod import Image, PodProcess
from tests.servers.kube_watch import Watched

NODE: Final = "runner"
_CONTROLLERS: Final = ("deployment", "replicaset", "garbage-collector", "serviceaccount",
                       "namespace", "root-ca-certificate-publisher")  # fmt: skip
_AWAY: Final = (OSError, aiohttp.ClientError, TimeoutError)
"""What a call raises while the API server is away."""


class KubeRunner(KubeApi):
    """See the module; the API server's part is KubeApi's.

    Attributes:
        images: what each image is here, by name.
        pause: seconds before a container's second restart; 10 on a node.
    """

    def __init__(
        self,
        folder: Path,
        images: Mapping[str, Image],
        *,
        users: tuple[str, ...] = (),
        pause: float = 2.0,
    ) -> None:
        super().__init__(folder, users=users)
        self.images = images
        self.pause = pause
        self._pods: dict[str, PodProcess] = {}  # by uid
        self._seen: set[tuple[str, str | None]] = set()  # uid, and node if it is placed
        self._watched: dict[str, Watched] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await super().__aexit__(kind, error, trace)
        if self._failure is not None and error is None:
            raise ServerFailed("the process runner failed") from self._failure

    # -- its own processes and tasks -------------------------------------------------------

    async def start(self) -> None:
        """Start all; Pods can be created when it returns."""
        if sys.platform != "linux":
            raise ServerMissing("Pods as processes need Linux: all of 127.0.0.0/8 is loopback")
        await super().start()
        self.start_controllers()
        await self._register()
        for kind, plural in {"Pod": "pods", "ConfigMap": "configmaps", "Secret": "secrets"}.items():
            changed = self._look if kind == "Pod" else self._refresh
            url = f"{self.url}/api/v1/{plural}"
            self._watched[kind] = Watched(url, self._trust, ADMIN, changed)
            self._spawn(self._watched[kind].run())
        for watched in self._watched.values():
            await self.until(watched.listed.is_set, "the runner has looked")

    def start_controllers(self) -> None:
        """Start the controller-manager, which was not running; see `end`."""
        self.run(
            "controller-manager",
            str(KUBENODE.find("kubenode")),
            "controller-manager",
            f"--kubeconfig={self.kubeconfig(self.folder / 'kubeconfig')}",
            f"--root-ca-file={self.ca}",
            f"--service-account-private-key-file={self.folder / 'sa.key'}",
            f"--controllers={','.join(f'{each}-controller' for each in _CONTROLLERS)}",
            "--leader-elect=false",
            "--secure-port=0",
        )

    async def _register(self) -> None:
        node = {"metadata": {"name": NODE}}
        condition = {"type": "Ready", "status": "True", "reason": "ProcessRunner"}
        try:
            await self.call("POST", "/api/v1/nodes", node)
        except RuntimeError as error:
            if not str(error).startswith("409"):  # it is there from before a restart
                raise
        await self.call("PATCH", f"/api/v1/nodes/{NODE}/status",
                        {"status": {"conditions": [condition]}}, kind="merge-patch")  # fmt: skip

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            traceback.print_exception(error)  # now, beside the test that waits in vain
            self._failure = self._failure or error

    async def kill(self) -> None:
        """SIGKILL every Pod and every process, and wait."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pods.clear()
        self._seen.clear()
        await super().kill()

    # -- scheduler and kubelet -------------------------------------------------------------

    def _look(self) -> None:
        """Act on what the Pods are now."""
        there = set()
        for pod in self._watched["Pod"].objects.values():
            metadata, place = pod["metadata"], pod["spec"].get("nodeName")
            uid = metadata["uid"]
            there.add(uid)
            if (uid, place) not in self._seen:
                self._seen.add((uid, place))
                if place is None:
                    self._spawn(self._bind(pod))
                elif place == NODE:
                    self._pods[uid] = self._process(pod)
                    self._spawn(self._run(pod))
            if "deletionTimestamp" in metadata and uid in self._pods:
                self._pods[uid].end(metadata["deletionGracePeriodSeconds"])
        for uid in self._pods.keys() - there:
            self._pods[uid].end(0)
        self._seen = {(uid, place) for uid, place in self._seen if uid in there}

    def _refresh(self) -> None:
        for pod in self._pods.values():
            pod.refresh()

    async def _bind(self, pod: Any) -> None:
        binding = {
            "metadata": {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]},
            "target": {"kind": "Node", "name": NODE},
        }
        await self._settle("POST", f"{_path(pod)}/binding", binding)

    def _process(self, pod: Any) -> PodProcess:
        metadata, (container,) = pod["metadata"], pod["spec"]["containers"]
        folder = self.folder / "pods" / f"{metadata['namespace']}_{metadata['name']}"
        folder.mkdir(parents=True, exist_ok=True)
        ports = [each["containerPort"] for each in container.get("ports") or ()]

        def find(kind: str, name: str) -> Any:
            return self._watched[kind].objects.get((metadata["namespace"], name))

        return PodProcess(
            pod,
            self.images[container["image"]],
            folder,
            free_address(*ports),
            find=find,
            report=self._report,
            pause=self.pause,
        )

    async def _run(self, pod: Any) -> None:
        """Run a Pod to its end, and say that it is gone."""
        uid = pod["metadata"]["uid"]
        await self._pods[uid].run()
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        await self._settle("DELETE", _path(pod), options)
        del self._pods[uid]

    async def _report(self, pod: Any, status: dict[str, Any]) -> bool:
        change = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}
        return await self._write("PATCH", f"{_path(pod)}/status", change, "merge-patch")

    async def _settle(self, method: str, path: str, body: Any) -> None:
        """Write, however long the API server is away."""
        while True:
            if await self._write(method, path, body):
                return
            await asyncio.sleep(0.2)

    async def _write(self, method: str, path: str, body: Any, kind: str = "json") -> bool:
        """Whether nothing is left to write: it is done, or the Pod is gone.

        Raises:
            RuntimeError: the API server refuses it as wrong.
        """
        try:
            await self.call(method, path, body, kind=kind)
        except LookupError:
            return True
        except RuntimeError as error:
            code = str(error)[:3]
            if code == "409":  # a Pod of the same name, which is another
                return True
            if "NamespaceTerminating" in str(error):  # nothing is bound there any more
                return True
            if code[0] == "4" and code != "429":
                raise
            return False
        except _AWAY:
            return False
        return True

    # -- what tests do with it -------------------------------------------------------------

    def pods(self, namespace: str, **labels: str) -> dict[str, PodProcess]:
        """The Pods that run or wait to, by name, but for those on their way out."""
        return {
            name: self._pods[pod["metadata"]["uid"]]
            for (where, name), pod in self._watched["Pod"].objects.items()
            if where == namespace
            and "deletionTimestamp" not in pod["metadata"]
            and labels.items() <= (pod["metadata"].get("labels") or {}).items()
            and pod["metadata"]["uid"] in self._pods
        }

    @property
    def pids(self) -> set[int]:
        """The processes of all Pods, those on their way out included."""
        return {pod.pid for pod in self._pods.values() if pod.pid is not None}


def _path(pod: Any) -> str:
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
