"""What somebody else made and happens to have a child's name is refused, whatever its kind."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.cluster import kinds
from ofevents.cluster.cache import name_of, owner_of
from ofevents.cluster.kinds import Kind
from tests.e2e.controller.rig import Cluster, Running, resource, trigger
from tests.e2e.controller.test_leaving import gone
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

CRDS = (
    kinds.HTTP_ROUTE,
    kinds.COMPONENT,
    kinds.RESILIENCY,
    kinds.SUBSCRIPTION,
    kinds.SCALED_OBJECT,
    kinds.TRIGGER_AUTHENTICATION,
)
STATE = {"type": "state.redis", "version": "v1", "metadata": []}
KAFKA = {
    "type": "pubsub.kafka",
    "version": "v1",
    "metadata": [
        {"name": "brokers", "value": "kafka:9092"},
        {"name": "authType", "value": "password"},
        {"name": "saslUsername", "value": "shop"},
        {"name": "saslPassword", "value": "hunter2"},
    ],
}
REDIS = {"type": "pubsub.redis", "version": "v1", "metadata": []}
SCALE = {"minReplicaCount": 2, "maxReplicaCount": 3}
HOOK = {
    "auth": {"bearer": "hunter2"},
    "expose": {"ingress": {"host": "a.example"}, "httpRoute": {"gateway": "front"}},
    "scaleOption": SCALE,
}
OWNERS = {
    "taken-hooks": kinds.EVENT_SOURCE,
    "taken-kafka": kinds.TRIGGER,
    "taken-redis": kinds.TRIGGER,
}


def declared() -> list[Any]:
    """Three that have at least one child of each kind between them."""
    hooks = {
        "sink": {"uri": "http://log.shop.svc/"},
        "webhook": {"in": HOOK},
        "cron": {"tick": {"schedule": "@daily"}},
    }
    return [
        resource("EventBus", "taken-kafka", {"dapr": {"pubsub": KAFKA, "state": STATE}}),
        resource("EventBus", "taken-redis", {"dapr": {"pubsub": REDIS, "state": STATE}}),
        resource("EventSource", "taken-hooks", hooks),
        trigger("taken-kafka", eventBus="taken-kafka", scaleOption=SCALE),
        trigger("taken-redis", eventBus="taken-redis"),
    ]


async def children(cluster: Cluster, owner: str) -> dict[tuple[Kind, str], Any]:
    """What belongs to it, but for its Deployments."""
    uid = (await cluster.get(OWNERS[owner], owner))["metadata"]["uid"]
    return {
        (kind, each["metadata"]["name"]): {
            "apiVersion": kind.api_version, "kind": kind.kind, **each
        }
        for kind in kinds.CHILDREN
        if kind is not kinds.DEPLOYMENT
        for each in await cluster.all(kind)
        if owner_of(each) == uid
    }  # fmt: skip


def theirs(child: Any, owned: bool) -> Any:
    """An object of somebody else's, with a controller of its own or without any."""
    namespace, name = name_of(child)
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": {"app": "theirs"}}
    if owned:
        theirs = {"apiVersion": "v1", "kind": "Theirs", "name": "x", "uid": "1", "controller": True}
        metadata["ownerReferences"] = [theirs]
    body = {key: value for key, value in child.items() if key not in ("metadata", "status")}
    if child["kind"] == "Service":
        body["spec"] = {"ports": body["spec"]["ports"]}
    return {**body, "metadata": metadata}


async def complete(cluster: Cluster, running: Running) -> None:
    """Wait until each has its Deployments, and what belongs to them."""
    await cluster.have("taken-hooks", 2)
    await cluster.have("taken-kafka", 1)
    await cluster.have("taken-redis", 1)
    await running.idle()


async def test_no_child_takes_over_what_is_there(cluster: Cluster, bus: NatsServer) -> None:
    async with cluster.defined(*CRDS):
        async with cluster.controller() as running:
            await cluster.apply(*declared())
            await complete(cluster, running)
        made = {owner: await children(cluster, owner) for owner in OWNERS}
        found = {kind for each in made.values() for kind, _ in each}
        assert found == set(kinds.CHILDREN) - {kinds.DEPLOYMENT}

        taken: dict[str, dict[tuple[Kind, str], Any]] = {}
        for owner, each in made.items():
            firsts: dict[Kind, str] = {}
            for kind, name in sorted(each, key=lambda one: one[1]):
                firsts.setdefault(kind, name)
            taken[owner] = {}
            for number, (kind, name) in enumerate(firsts.items()):
                await cluster.delete(kind, name)
                await cluster.create(theirs(each[kind, name], owned=number % 2 == 0))
                taken[owner][kind, name] = await cluster.get(kind, name)
        for owner in OWNERS:
            for deployment in await cluster.deployments(owner):
                await cluster.delete(kinds.DEPLOYMENT, deployment["metadata"]["name"])

        async with cluster.controller() as running:
            for owner, there in taken.items():
                told = await cluster.becomes(OWNERS[owner], owner, "Stalled", "NameTaken")
                for (kind, name), before in there.items():
                    holder = "Theirs x" if owner_of(before) else "somebody else"
                    sentence = f"{kind.kind} {name} exists and belongs to {holder}"
                    assert sentence in told["message"], told["message"]
                    assert await cluster.get(kind, name) == before
                # Nothing runs with what is somebody else's.
                names = {name for kind, name in there if kind in (kinds.SECRET, kinds.CONFIG_MAP)}
                now = {each["metadata"]["name"] for each in await cluster.deployments(owner)}
                assert names and not names & now

            for there in taken.values():
                for kind, name in there:
                    await cluster.delete(kind, name)
            running.resync()
            await complete(cluster, running)
            for owner, kind in OWNERS.items():
                await cluster.becomes(kind, owner, "Stalled", "None")

                async def whole(owner: str = owner) -> bool:
                    return set(await children(cluster, owner)) == set(made[owner])

                await until(whole, seconds=60, what=f"{owner} has all its children")
            # No worker has run, so that none has anything to take away.
            for name in ("taken-kafka", "taken-redis"):
                await cluster.merge(kinds.TRIGGER, name, {"spec": {"deletionPolicy": "Retain"}})
            for owner, kind in OWNERS.items():
                await cluster.delete(kind, owner)
            for owner, kind in OWNERS.items():
                await gone(cluster, kind, owner)
