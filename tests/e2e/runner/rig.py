"""A namespace in which ofevents is at work as a user has it, with its workers as processes.

Real are the API server and its controllers, `ofevents controller` with exactly its rights,
the workers, Kafka and nats-server; the functions are in the test's loop (`orders.Calls`).
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ofevents.api.resolved import ResolvedBus
from ofevents.bus.open import open_bus
from ofevents.clock import SystemClock
from ofevents.cluster import kinds
from ofevents.cluster.kinds import Kind
from ofevents.ports import BusReport
from tests.e2e.controller.rig import IMAGE, TOKEN, Cluster, resource
from tests.e2e.processes import OFEVENTS, Program
from tests.servers import until
from tests.servers.kafka import KafkaServer
from tests.servers.kube_pod import Image, PodProcess
from tests.servers.kube_runner import KubeRunner

OWN_IMAGE: Final = Image((str(OFEVENTS),), {"OFEVENTS_SECRETS": "/etc/ofevents/secrets"})
USERS: Final = (f"{TOKEN},controller,controller",)
SOON: Final = {"session.timeout.ms": "1500", "heartbeat.interval.ms": "300"}
"""So that a partition of a killed worker goes to the next one soon."""
MADE: Final = (
    kinds.DEPLOYMENT,
    kinds.SERVICE,
    kinds.CONFIG_MAP,
    kinds.SECRET,
    kinds.NETWORK_POLICY,
    kinds.POD,
)
_OWNER: Final = "events.openfunction.io/owner-name"
_INSTANCE: Final = "app.kubernetes.io/instance"


def controller(cluster: Cluster, folder: Path) -> Program:
    """`ofevents controller` as its image starts it."""
    config = cluster.api.kubeconfig(folder / "controller.kubeconfig", TOKEN)
    command: list[Any] = [OFEVENTS, "controller", "--image", IMAGE, "--kubeconfig", config]
    return Program(folder, *command)


@dataclass(frozen=True, slots=True)
class Shop:
    """One namespace of the cluster."""

    cluster: Cluster
    runner: KubeRunner
    namespace: str

    # -- what is declared ------------------------------------------------------------------

    def bus(self, url: str, kind: str = "EventBus", name: str = "default") -> Any:
        """An EventBus with streams of its own on that server."""
        spec = {"jetstream": {"url": url, "stream": f"{self.namespace}-{name}"}}
        return resource(kind, name, spec, self.namespace)

    def source(self, kafka: KafkaServer, *topics: str, bus: str = "default", **more: Any) -> Any:
        """EventSource `shop` of Kafka topics, an event each; `orders-1` is event `orders`."""
        entries = {
            topic.rpartition("-")[0]: {"brokers": kafka.brokers, "topic": topic, "config": SOON}
            for topic in topics
        }
        spec = {"eventBus": bus, "kafka": entries, **more}
        return resource("EventSource", "shop", spec, self.namespace)

    def trigger(self, name: str, *subscribers: Any, bus: str = "default", **more: Any) -> Any:
        """A Trigger of the event `orders`, unless `inputs` says otherwise."""
        spec = {
            "eventBus": bus,
            "startFrom": "earliest",
            "inputs": {"orders": {"eventSource": "shop", "event": "orders"}},
            "subscribers": list(subscribers),
            **more,
        }
        return resource("Trigger", name, spec, self.namespace)

    async def apply(self, *manifests: Any) -> None:
        await self.cluster.apply(*manifests)

    async def delete(self, kind: Kind, name: str) -> None:
        await self.cluster.delete(kind, name, self.namespace)

    async def close(self) -> None:
        """Delete the namespace with all that is in it; nothing when it is gone."""
        try:
            await self.runner.call("DELETE", f"/api/v1/namespaces/{self.namespace}")
        except LookupError:
            pass  # the test has looked at its deletion

    # -- what is there ---------------------------------------------------------------------

    async def becomes(
        self, kind: Kind, name: str, type: str = "Ready", status: str = "True", reason: str = ""
    ) -> Any:
        """Wait for a condition of the generation that is there now, and return it."""
        seen: dict[str, Any] = {}

        async def has() -> bool:
            found = await self.cluster.get(kind, name, self.namespace)
            conditions = found.get("status", {}).get("conditions", ())
            seen.clear()
            seen.update(next((one for one in conditions if one["type"] == type), {}))
            await asyncio.sleep(0.05)
            return (
                seen.get("observedGeneration") == found["metadata"]["generation"]
                and seen.get("status") == status
                and reason in ("", seen["reason"])
            )

        wanted = f"{kind.kind} {name} is {type} {status} {reason}"
        try:
            await until(has, seconds=120, what=wanted)
        except TimeoutError as error:
            raise AssertionError(f"{error}; it is {seen}") from None
        return seen

    async def rolled(self, *named: tuple[Kind, str], reason: str = "Running") -> None:
        """Wait until the resources are Ready, and their newest Pods are the only ones."""

        async def alone(deployment: Any) -> bool:
            metadata, namespace = deployment["metadata"], self.namespace
            found = await self.cluster.get(kinds.DEPLOYMENT, metadata["name"], namespace)
            status, wanted = found.get("status", {}), found["spec"]["replicas"]
            known = status.get("observedGeneration") == found["metadata"]["generation"]
            counts = ("replicas", "updatedReplicas", "availableReplicas")
            whole = all(status.get(count, 0) == wanted for count in counts)
            own = {_INSTANCE: metadata["labels"][_INSTANCE]}
            await asyncio.sleep(0.05)
            return known and whole and len(self.runner.pods(namespace, **own)) == wanted

        for kind, name in named:
            await self.becomes(kind, name, reason=reason)
            for one in await self.cluster.deployments(name, self.namespace):
                await until(lambda one=one: alone(one), seconds=120, what=f"{name} is rolled out")

    def only(self, owner: str) -> PodProcess:
        """The one Pod of an EventSource or Trigger."""
        (pod,) = self.pods(owner).values()
        return pod

    def pods(self, owner: str) -> dict[str, PodProcess]:
        """Those of an EventSource or Trigger that are not on their way out."""
        return self.runner.pods(self.namespace, **{_OWNER: owner})

    async def left(self) -> list[str]:
        """What ofevents has made here and is still there."""
        return [
            f"{kind.kind} {one['metadata']['name']}"
            for kind in MADE
            for one in await self.cluster.all(kind, self.namespace)
            if (one["metadata"].get("labels") or {}).get("app.kubernetes.io/name") == "ofevents"
        ]

    def show(self) -> None:
        """The ends of the logs of all Pods that there were."""
        for log in sorted((self.runner.folder / "pods").glob(f"{self.namespace}_*/log")):
            text = log.read_text(errors="replace")[-2500:]
            sys.stdout.write(f"--- {log.parent.name}\n{text}\n")


async def new_topic(kafka: KafkaServer, event: str = "orders") -> str:
    """A new Kafka topic for that event."""
    name = f"{event}-{uuid.uuid4().hex[:8]}"
    await kafka.create_topic(name, 3)
    return name


@dataclass(slots=True)
class Load:
    """Numbered orders on a Kafka topic; `numbers` are those that the broker has."""

    kafka: KafkaServer
    topic: str
    numbers: list[int] = field(default_factory=list)

    async def some(self, count: int) -> list[int]:
        """Write the next ones."""
        first = len(self.numbers)
        more = list(range(first, first + count))
        records = [{"value": json.dumps({"n": n}).encode()} for n in more]
        await self.kafka.produce(self.topic, records)
        self.numbers += more
        return more

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """About 100 orders a second while in the `with`."""
        enough = asyncio.Event()

        async def keep_on() -> None:
            while not enough.is_set():
                await self.some(10)
                await asyncio.sleep(0.1)

        async with asyncio.TaskGroup() as group:
            group.create_task(keep_on())
            yield
            enough.set()


async def look(url: str, shop: Shop, name: str = "default") -> BusReport:
    """What is on that EventBus."""
    options = {"url": url, "stream": f"{shop.namespace}-{name}"}
    resolved = ResolvedBus(driver="jetstream", options=options)
    async with open_bus(resolved, clock=SystemClock()) as bus:
        return await bus.inspect()
