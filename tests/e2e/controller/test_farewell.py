"""A Trigger leaves a dapr bus by a last worker of its own, and is not held where none starts."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.cluster import kinds
from ofevents.controller import farewell, reconcile
from tests.e2e.controller.rig import Cluster, resource, trigger
from tests.e2e.controller.test_foreign import KAFKA, REDIS, STATE
from tests.e2e.controller.test_leaving import comes, gone, told
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="session")]

CRDS = (
    kinds.COMPONENT,
    kinds.RESILIENCY,
    kinds.SUBSCRIPTION,
    kinds.SCALED_OBJECT,
    kinds.TRIGGER_AUTHENTICATION,
)

NIGHT = {"start": "0 0 * * *", "end": "0 1 * * *", "timezone": "UTC", "desiredReplicas": "1"}


async def begun(cluster: Cluster, name: str, **more: Any) -> Any:
    """A Trigger on a dapr bus; its Deployment."""
    spec = {"dapr": {"pubsub": REDIS, "state": STATE}}
    await cluster.apply(resource("EventBus", "left-dapr", spec))
    await cluster.apply(trigger(name, eventBus="left-dapr", **more))
    (deployment,) = await cluster.have(name, 1)
    await cluster.play(deployment)
    await cluster.becomes(kinds.TRIGGER, name, "Ready", "Running")
    return deployment


async def turned(cluster: Cluster, name: str) -> Any:
    """Wait until its Deployment is that of the worker that removes."""

    async def removing() -> bool:
        (now,) = await cluster.deployments(name)
        (container,) = now["spec"]["template"]["spec"]["containers"]
        return container["args"][:2] == ["trigger", "--remove"]

    await until(removing, seconds=60, what="its worker is to remove what it has")
    (now,) = await cluster.deployments(name)
    return now


async def test_a_last_worker_removes_it(cluster: Cluster, bus: NatsServer) -> None:
    async with cluster.defined(*CRDS), cluster.controller() as running:
        before = await begun(cluster, "says-goodbye")
        await cluster.delete(kinds.TRIGGER, "says-goodbye")
        now = await turned(cluster, "says-goodbye")
        assert now["metadata"]["uid"] == before["metadata"]["uid"]
        assert now["spec"]["strategy"] == {"type": "Recreate"} and now["spec"]["replicas"] == 1
        # What it needs is there until it is done.
        assert await cluster.get(kinds.CONFIG_MAP, now["metadata"]["name"]) is not None
        assert await cluster.all(kinds.COMPONENT)
        assert await cluster.get(kinds.TRIGGER, "says-goodbye") is not None
        await cluster.play(now)
        await gone(cluster, kinds.TRIGGER, "says-goodbye")
        assert await cluster.deployments("says-goodbye") == []
        await running.idle()  # it tells after it has let go
        assert await told(cluster, "says-goodbye", "LeftOnBus") == []


async def test_its_daprd_is_woken_for_it(cluster: Cluster, bus: NatsServer) -> None:
    """KEDA has ended both, as daprd has a Pod of its own."""
    bus_spec = {"dapr": {"pubsub": KAFKA, "state": STATE}}
    leaver = trigger("sleeps", eventBus="sleeping-dapr", scaleOption={"metadata": NIGHT})
    leaver["metadata"]["annotations"] = {"openfunction.io/dapr-service-mode": "standalone"}
    async with cluster.defined(*CRDS), cluster.controller():
        await cluster.apply(resource("EventBus", "sleeping-dapr", bus_spec), leaver)
        both = await cluster.have("sleeps", 2)
        names = {each["metadata"]["name"] for each in both}

        async def scaled() -> set[str]:
            found = await cluster.all(kinds.SCALED_OBJECT)
            return {each["metadata"]["name"] for each in found} & names

        async def seen() -> bool:
            return await scaled() == names

        await until(seen, seconds=60, what="KEDA is told of both")
        for name in names:
            await cluster.merge(kinds.DEPLOYMENT, name, {"spec": {"replicas": 0}})
        await cluster.becomes(kinds.TRIGGER, "sleeps", "Ready", "ScaledToZero")
        await cluster.delete(kinds.TRIGGER, "sleeps")

        async def awake() -> bool:
            now = await cluster.deployments("sleeps")
            return [each["spec"]["replicas"] for each in now] == [1, 1]

        await until(awake, seconds=60, what="a last worker and its daprd run")
        assert not await scaled()
        (last,) = (each for each in await cluster.deployments("sleeps")
                   if not each["metadata"]["name"].endswith("-dapr"))  # fmt: skip
        await cluster.play(last)
        await gone(cluster, kinds.TRIGGER, "sleeps")


async def test_what_is_retained_goes_at_once(cluster: Cluster, bus: NatsServer) -> None:
    async with cluster.defined(*CRDS), cluster.controller() as running:
        await begun(cluster, "keeps", deletionPolicy="Retain")
        await cluster.delete(kinds.TRIGGER, "keeps")
        await gone(cluster, kinds.TRIGGER, "keeps")
        await running.idle()
        assert await told(cluster, "keeps", "LeftOnBus") == []


async def test_where_no_pod_is_made_it_is_told(cluster: Cluster, bus: NatsServer) -> None:
    async with cluster.defined(*CRDS), cluster.controller():
        await begun(cluster, "no-pods")
        await cluster.delete(kinds.TRIGGER, "no-pods")
        now = await turned(cluster, "no-pods")
        failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
        status = {"status": {"conditions": [failure]}}
        await cluster.merge(kinds.DEPLOYMENT, now["metadata"]["name"], status, "status")
        await gone(cluster, kinds.TRIGGER, "no-pods")
        event = await comes(cluster, "no-pods", "LeftOnBus")
        assert "inbox.shop.no-pods.log" in event["note"]
        assert "trigger.shop.no-pods" in event["note"]


async def test_nobody_is_held_for_ever(
    cluster: Cluster, bus: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster.defined(*CRDS), cluster.controller():
        await begun(cluster, "hangs")
        monkeypatch.setattr(reconcile, "LOOK_AGAIN", 1.0)
        await cluster.delete(kinds.TRIGGER, "hangs")
        await turned(cluster, "hangs")
        monkeypatch.setattr(farewell, "PATIENCE", 1.0)  # not before its last worker is seen
        await gone(cluster, kinds.TRIGGER, "hangs")
        event = await comes(cluster, "hangs", "LeftOnBus")
        assert "left-dapr is a dapr bus" in event["note"]


async def test_a_trigger_moves_from_a_dapr_bus(cluster: Cluster, bus: NatsServer) -> None:
    scale = {"minReplicaCount": 0, "maxReplicaCount": 3}
    async with cluster.defined(*CRDS), cluster.controller():
        before = await begun(cluster, "moves-on", scaleOption=scale)
        await cluster.apply(trigger("moves-on"))
        waits = await cluster.becomes(kinds.TRIGGER, "moves-on", "Stalled", "Moving")
        assert "takes away what it has there" in waits["message"]
        await cluster.play(await turned(cluster, "moves-on"))

        async def moved() -> bool:
            found = await cluster.deployments("moves-on")
            return [each["metadata"]["uid"] != before["metadata"]["uid"] for each in found] == [
                True
            ]

        await until(moved, seconds=60, what="it is on the other bus")
        await cluster.becomes(kinds.TRIGGER, "moves-on", "Stalled", "None")
        assert await told(cluster, "moves-on", "LeftOnBus") == []
        (now,) = await cluster.deployments("moves-on")
        (container,) = now["spec"]["template"]["spec"]["containers"]
        assert "--remove" not in container["args"]
