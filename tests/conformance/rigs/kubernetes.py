"""The `kubernetes` source on a real kube-apiserver, whose ConfigMaps are what is fed."""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ofevents.api.platform import KubernetesSpec
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.ports import SourceIdentity, Store
from ofevents_adapters.kubernetes import BATCH, KubernetesSource
from tests.servers.kube_api import KubeApi

IDENTITY = SourceIdentity("default", "shop", "kubernetes", "orders")
MAPS = "/api/v1/namespaces/default/configmaps"
_AT_ONCE = 20


class KubernetesRig:
    """See `SourceRig`; `fields` are further ones of the spec."""

    features = KubernetesSource.features
    in_flight = BATCH
    breakable = True
    poisonable = False

    def __init__(self, server: KubeApi, **fields: Any) -> None:
        self.store: Store | None = MemoryStore(
            Broker(max_bytes=1_000_000, window=60), SystemClock()
        )
        self.server = server
        self.fields = fields
        self._count = itertools.count()

    def make(self) -> KubernetesSource:
        document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "labelSelector": "shop=yes",
            **self.fields,
        }
        return KubernetesSource(
            KubernetesSpec.model_validate(document), IDENTITY, clock=SystemClock()
        )

    async def feed(self, count: int) -> Sequence[str]:
        names = [f"order-{next(self._count)}" for _ in range(count)]
        for at in range(0, count, _AT_ONCE):
            await asyncio.gather(*map(self.create, names[at : at + _AT_ONCE]))
        return names

    async def create(self, name: str, path: str = MAPS, **data: str) -> None:
        metadata = {"name": name, "labels": {"shop": "yes"}}
        await self.server.call("POST", path, {"metadata": metadata, "data": data})

    async def change(self, name: str, **data: str) -> None:
        await self.server.call("PATCH", f"{MAPS}/{name}", {"data": data}, kind="merge-patch")

    async def delete(self, name: str) -> None:
        await self.server.call("DELETE", f"{MAPS}/{name}")

    def key(self, event: Event) -> str:
        return str(event.value["metadata"]["name"])

    async def poison(self) -> bool:
        raise NotImplementedError("no object is malformed")

    async def break_(self) -> None:
        await self.server.kill()

    async def restart(self) -> None:
        await self.server.start()


@asynccontextmanager
async def open_rig(users: tuple[str, ...] = ()) -> AsyncIterator[KubernetesRig]:
    """A server of its own, and a kubeconfig in the environment."""
    before = os.environ.get("KUBECONFIG")
    with tempfile.TemporaryDirectory() as folder:
        async with KubeApi(Path(folder), users=users) as server:
            os.environ["KUBECONFIG"] = str(server.kubeconfig(Path(folder, "config")))
            try:
                yield KubernetesRig(server)
            finally:
                if before is None:
                    del os.environ["KUBECONFIG"]
                else:
                    os.environ["KUBECONFIG"] = before
