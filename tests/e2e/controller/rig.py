"""A cluster for the controller: the real API server, its CRDs, rights, and a bus.

There is no scheduler and no kubelet: tests play them by patching status. The controller
runs in the test's process, logged in as a user who has `controller.rights` and nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ofevents.clock import SystemClock
from ofevents.cluster import kinds
from ofevents.cluster.client import Api
from ofevents.cluster.kinds import Kind, kind_of
from ofevents.controller.render import Platform
from ofevents.controller.rights import RIGHTS
from ofevents.controller.run import Controller, Options
from tests.servers import until
from tests.servers.kube_api import KubeApi
from tests.servers.nats import NatsServer

ROOT = Path(__file__).parents[3]
TOKEN = "controller-token"
SYSTEM = "ofevents-system"
IMAGE = "ofevents:test"
EVENTS = "events.openfunction.io/v1alpha1"
WRITES = ("POST", "PUT", "PATCH", "DELETE")
CRD_FILES = sorted(ROOT.glob("crds/*.yaml"))


def resource(kind: str, name: str, spec: dict[str, Any], namespace: str = "shop") -> Any:
    """One of ours."""
    metadata = {"name": name} | ({"namespace": namespace} if kind != "ClusterEventBus" else {})
    return {"apiVersion": EVENTS, "kind": kind, "metadata": metadata, "spec": spec}


def secret(name: str, namespace: str = "shop", **data: str) -> Any:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


def cron(name: str = "clock", **more: Any) -> Any:
    """An EventSource that needs no server."""
    return resource(
        "EventSource",
        name,
        {"eventBus": "default", "cron": {"tick": {"schedule": "@every 1h"}}, **more},
    )


def trigger(name: str = "audit", source: str = "clock", event: str = "tick", **more: Any) -> Any:
    spec = {
        "eventBus": "default",
        "inputs": {"tick": {"eventSource": source, "event": event}},
        "subscribers": [{"name": "log", "sink": {"uri": "http://log.shop.svc/"}}],
        **more,
    }
    return resource("Trigger", name, spec)


def definition(kind: Kind) -> Any:
    """A CRD that takes anything."""
    names = {"kind": kind.kind, "plural": kind.plural, "listKind": f"{kind.kind}List"}
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": kind.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": kind.crd,
            # Asked for in groups that end in k8s.io.
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {"group": kind.group, "names": names, "scope": "Namespaced", "versions": [version]},
    }


class Running:
    """A controller at work, and the requests it has made since it was last asked."""

    def __init__(self, controller: Controller, api: Api) -> None:
        self.controller = controller
        self.api = api

    @property
    def writes(self) -> int:
        return sum(self.api.requests.get(each, 0) for each in WRITES)

    def resync(self) -> None:
        """Have every resource looked at again, changed or not."""
        self.controller.changes.all()

    async def idle(self, seconds: float = 60) -> None:
        """Nothing is to be done any more."""
        await until(
            lambda: self.controller.changes.opened and self.controller.queue.idle,
            seconds=seconds,
            what="the controller has nothing to do",
        )


class Cluster:
    """The API server as its administrator sees it."""

    def __init__(self, api: KubeApi, folder: Path) -> None:
        self.api = api
        self.folder = folder

    async def set_up(self) -> None:
        """CRDs, namespaces, and the rights of the controller."""
        for file in CRD_FILES:
            await self.create(yaml.safe_load(file.read_text()))
        for name in ("shop", "billing", SYSTEM):
            await self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        account = {"name": "default", "namespace": "shop"}
        # Applied: where there is a controller-manager, it makes the same.
        await self.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        rbac = "rbac.authorization.k8s.io"
        role = {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "ofevents-everywhere"},
            "rules": [right.rule() for right in RIGHTS],
        }
        await self.api.call("POST", f"/apis/{rbac}/v1/clusterroles", role)
        binding = {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "ofevents-everywhere"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "ofevents-everywhere"},
            "subjects": [{"kind": "User", "name": "controller", "apiGroup": rbac}],
        }
        await self.api.call("POST", f"/apis/{rbac}/v1/clusterrolebindings", binding)
        for kind in kinds.OWN:
            await until(partial(self._served, kind), seconds=60, what=f"{kind.kind} is served")

    async def _served(self, kind: Kind) -> bool:
        try:
            await self.api.call("GET", kind.path())
        except LookupError:
            return False
        return True

    # -- as kubectl ------------------------------------------------------------------------

    async def create(self, *manifests: Any) -> None:
        for manifest in manifests:
            await self.api.call("POST", _path(manifest, named=False), manifest)

    async def create_strictly(self, manifest: Any) -> None:
        """As `kubectl create` does: a field that the server does not know is refused."""
        path = _path(manifest, named=False) + "?fieldValidation=Strict"
        await self.api.call("POST", path, manifest)

    @asynccontextmanager
    async def defined(self, *wanted: Kind) -> AsyncIterator[None]:
        """CRDs of others, whose kinds are served inside the `async with` alone."""
        try:
            for kind in wanted:
                await self.create(definition(kind))
            for kind in wanted:
                await until(partial(self._served, kind), seconds=60, what=f"{kind} is served")
            yield
        finally:
            for kind in wanted:
                await self.api.call("DELETE", kinds.CRD.path(name=kind.crd))
            for kind in wanted:
                await until(partial(self._gone, kind), seconds=60, what=f"{kind} is gone")

    async def _gone(self, kind: Kind) -> bool:
        """The kind, and its definition: one that is on its way out takes no objects."""
        return not await self._served(kind) and await self.get(kinds.CRD, kind.crd, "") is None

    async def apply(self, *manifests: Any) -> None:
        """As `kubectl apply --server-side` does."""
        for manifest in manifests:
            path = _path(manifest) + "?fieldManager=kubectl&force=true"
            await self.api.call("PATCH", path, manifest, kind="apply-patch")

    async def merge(
        self, kind: Kind, name: str, change: Any, sub: str = "", namespace: str = "shop"
    ) -> Any:
        path = kind.path(namespace, name, sub)
        return await self.api.call("PATCH", path, change, kind="merge-patch")

    async def get(self, kind: Kind, name: str, namespace: str = "shop") -> Any:
        """The object, None without one."""
        try:
            return await self.api.call("GET", kind.path(namespace, name))
        except LookupError:
            return None

    async def all(self, kind: Kind, namespace: str = "shop") -> list[Any]:
        return (await self.api.call("GET", kind.path(namespace)))["items"]

    async def delete(self, kind: Kind, name: str, namespace: str = "shop") -> None:
        await self.api.call("DELETE", kind.path(namespace, name))

    # -- what the tests look at -------------------------------------------------------------

    async def condition(
        self, kind: Kind, name: str, type: str = "Ready", namespace: str = "shop"
    ) -> Any:
        """A condition, `{}` while there is none."""
        found = await self.get(kind, name, namespace)
        conditions = ((found or {}).get("status") or {}).get("conditions") or ()
        return next((each for each in conditions if each["type"] == type), {})

    async def becomes(
        self,
        kind: Kind,
        name: str,
        type: str,
        reason: str,
        *,
        namespace: str = "shop",
        seconds: float = 60,
    ) -> Any:
        """Wait until a condition has that reason, and return it."""
        seen: dict[str, Any] = {}

        async def has() -> bool:
            seen.clear()
            seen.update(await self.condition(kind, name, type, namespace))
            return seen.get("reason") == reason

        try:
            await until(has, seconds=seconds, what=f"{kind.kind} {name} is {type}: {reason}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; it is {seen}") from None
        return seen

    async def deployments(self, owner: str, namespace: str = "shop") -> list[Any]:
        """Those that belong to a resource of that name."""
        found = await self.all(kinds.DEPLOYMENT, namespace)
        return [
            each
            for each in found
            if any(ref["name"] == owner for ref in each["metadata"].get("ownerReferences") or ())
        ]

    async def have(self, owner: str, count: int, seconds: float = 60) -> list[Any]:
        """Wait until a resource has that many Deployments, and return them."""

        async def enough() -> bool:
            return len(await self.deployments(owner)) == count

        await until(enough, seconds=seconds, what=f"{owner} has {count} Deployments")
        return await self.deployments(owner)

    async def play(self, deployment: Any, *, available: bool = True) -> None:
        """What the deployment controller writes once the Pods are up."""
        count = deployment["spec"].get("replicas", 1)
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": count,
            "updatedReplicas": count,
            "readyReplicas": count if available else 0,
            "availableReplicas": count if available else 0,
        }
        name, namespace = deployment["metadata"]["name"], deployment["metadata"]["namespace"]
        await self.merge(kinds.DEPLOYMENT, name, {"status": status}, "status", namespace)

    async def pod(self, deployment: Any, status: Any, port: int = 9090) -> str:
        """A Pod of it with that status; its name."""
        name = f"{deployment['metadata']['name']}-x"
        ports = [{"name": "probes", "containerPort": port}]
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": deployment["metadata"]["namespace"],
                "labels": deployment["spec"]["template"]["metadata"]["labels"],
            },
            "spec": {
                "automountServiceAccountToken": False,
                "containers": [{"name": "worker", "image": IMAGE, "ports": ports}],
            },
        }
        await self.create(manifest)
        await self.merge(kinds.POD, name, {"status": status}, "status")
        return name

    async def versions(self) -> dict[str, str]:
        """The resourceVersion of everything that a controller may write."""
        found = {}
        for kind in (*kinds.OWN, *kinds.CHILDREN, kinds.EVENT, kinds.POD):
            try:
                items = (await self.api.call("GET", kind.path()))["items"]
            except LookupError:
                continue
            for each in items:
                metadata = each["metadata"]
                name = f"{kind.kind} {metadata.get('namespace')}/{metadata['name']}"
                found[name] = metadata["resourceVersion"]
        return found

    @asynccontextmanager
    async def controller(
        self, *, image: str = IMAGE, token: str = TOKEN, **options: Any
    ) -> AsyncIterator[Running]:
        """One at work, with exactly the rights of `rights.py`, or those of another token."""
        config = self.api.kubeconfig(self.folder / "controller.kubeconfig", token)
        given = Options(platform=Platform(image=image), lease_namespace=SYSTEM, **options)
        async with Api(config) as api:
            controller = Controller(api, given, "test", SystemClock())
            task = asyncio.create_task(controller.run())
            try:
                await until(
                    lambda: task.done() or controller.caches.full, seconds=60, what="it has looked"
                )
                if task.done():
                    task.result()
                yield Running(controller, api)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled():
                task.result()


def _path(manifest: Any, *, named: bool = True) -> str:
    metadata = manifest["metadata"]
    if manifest["kind"] == "Namespace":
        return "/api/v1/namespaces" + (f"/{metadata['name']}" if named else "")
    kind = kind_of(manifest)
    return kind.path(metadata.get("namespace"), metadata["name"] if named else "")


@asynccontextmanager
async def open_cluster(folder: Path) -> AsyncIterator[Cluster]:
    """A fresh one."""
    async with KubeApi(folder, users=(f"{TOKEN},controller,controller",)) as api:
        cluster = Cluster(api, folder)
        await cluster.set_up()
        yield cluster


@asynccontextmanager
async def open_bus(folder: Path, cluster: Cluster) -> AsyncIterator[NatsServer]:
    """A NATS server, declared as the EventBus `default` of the namespace shop."""
    async with NatsServer(folder) as server:
        await cluster.apply(resource("EventBus", "default", {"jetstream": {"url": server.url}}))
        yield server
