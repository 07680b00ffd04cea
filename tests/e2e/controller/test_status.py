"""The status says what is: of the Deployment, of its Pods, and of what a worker says itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ofevents.clock import SystemClock
from ofevents.cluster import kinds
from ofevents.health import Health
from ofevents.local import admin
from tests.e2e.controller.rig import Cluster, cron, resource, trigger
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="session")]


def waiting(reason: str, message: str) -> dict[str, object]:
    """A Pod whose container does not start."""
    state = {"waiting": {"reason": reason, "message": message}}
    status = {"name": "worker", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    return {"containerStatuses": [{**status, "state": state}]}


@asynccontextmanager
async def worker_that_says(reason: str, message: str) -> AsyncIterator[int]:
    """The probes of a worker that is stalled; yields their port."""
    health = Health(SystemClock())
    health.worker("Trigger", "shop/x").stalled(reason, message)
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        admin.serve(
            health,
            host="127.0.0.1",
            port=0,
            stop=stop,
            started=lambda url: port.set_result(int(url.rpartition(":")[2])),
        )
    )
    try:
        yield await port
    finally:
        stop.set()
        await serving


async def test_an_image_that_cannot_be_pulled(cluster: Cluster, bus: NatsServer) -> None:
    async with cluster.controller():
        await cluster.apply(cron("pull"))
        (deployment,) = await cluster.have("pull", 1)
        await cluster.play(deployment, available=False)
        message = 'Back-off pulling image "ofevents:test"'
        await cluster.pod(deployment, waiting("ImagePullBackOff", message))
        stalled = await cluster.becomes(kinds.EVENT_SOURCE, "pull", "Stalled", "ImagePullBackOff")
        assert stalled["message"] == message
        ready = await cluster.condition(kinds.EVENT_SOURCE, "pull")
        assert (ready["status"], ready["reason"]) == ("False", "ImagePullBackOff")

        async def told() -> bool:
            events = await cluster.all(kinds.EVENT)
            return any(each["reason"] == "ImagePullBackOff" for each in events)

        await until(told, seconds=60, what="an Event says so")

        await cluster.play(deployment)
        await cluster.becomes(kinds.EVENT_SOURCE, "pull", "Ready", "Running")
        await cluster.becomes(kinds.EVENT_SOURCE, "pull", "Stalled", "None")


async def test_what_a_stalled_worker_says(cluster: Cluster, bus: NatsServer) -> None:
    async with cluster.controller(), worker_that_says("SubscriberMisconfigured", "404") as port:
        await cluster.apply(trigger("misses"))
        (deployment,) = await cluster.have("misses", 1)
        await cluster.play(deployment, available=False)
        await cluster.pod(deployment, {"podIP": "127.0.0.1"}, port)
        stalled = await cluster.becomes(
            kinds.TRIGGER, "misses", "Stalled", "SubscriberMisconfigured"
        )
        assert stalled["message"] == "404"


async def test_scaled_to_zero_is_ready(cluster: Cluster, bus: NatsServer) -> None:
    monitored = {"jetstream": {"url": bus.url, "monitoring": "http://127.0.0.1:1"}}
    scale = {"minReplicaCount": 0, "maxReplicaCount": 3}
    async with cluster.controller():
        await cluster.apply(resource("EventBus", "monitored", monitored))
        await cluster.apply(
            cron("clock", eventBus="monitored"),
            trigger("zero", eventBus="monitored", scaleOption=scale),
        )
        await cluster.becomes(kinds.TRIGGER, "zero", "Warning", "KEDANotInstalled")

        async with cluster.defined(kinds.SCALED_OBJECT, kinds.TRIGGER_AUTHENTICATION):

            async def scaled() -> bool:
                try:
                    found = await cluster.all(kinds.SCALED_OBJECT)
                except LookupError:
                    return False
                return len(found) == 1

            await until(scaled, seconds=60, what="KEDA is told")

            async def no_longer_told() -> bool:
                told = await cluster.condition(kinds.TRIGGER, "zero", "Warning")
                return bool(told["reason"] != "KEDANotInstalled")

            await until(no_longer_told, seconds=60, what="the warning is gone")
            (deployment,) = await cluster.have("zero", 1)
            path = kinds.DEPLOYMENT.path("shop", deployment["metadata"]["name"])
            none = {"spec": {"replicas": 0}}
            await cluster.api.call("PATCH", path + "?fieldManager=keda", none, kind="merge-patch")
            await cluster.becomes(kinds.TRIGGER, "zero", "Ready", "ScaledToZero")

            # As KEDA says it; `make cluster` has a real one say the first.
            for type, status, reason, warning, text in (
                ("Fallback", "True", "FallbackExists", "LagUnknown", "KEDA cannot see the lag"),
                ("Ready", "False", "ScaledObjectCheckFailed", "NotScaled", "does not scale it: 42"),
                ("Ready", "True", "ScaledObjectReady", "None", ""),
            ):
                said = {"type": type, "status": status, "reason": reason, "message": "42"}
                await cluster.merge(kinds.SCALED_OBJECT, deployment["metadata"]["name"],
                                    {"status": {"conditions": [said]}})  # fmt: skip
                told = await cluster.becomes(kinds.TRIGGER, "zero", "Warning", warning)
                assert text in told["message"]


async def test_what_is_suspended_is_ready(cluster: Cluster, bus: NatsServer) -> None:
    async with cluster.controller():
        await cluster.apply(cron("asleep", suspend=True))
        (deployment,) = await cluster.have("asleep", 1)
        await cluster.play(deployment)
        await cluster.becomes(kinds.EVENT_SOURCE, "asleep", "Ready", "Suspended")


async def test_a_bus_that_goes_and_comes_back(cluster: Cluster, bus: NatsServer) -> None:
    async with cluster.controller():
        await cluster.becomes(kinds.EVENT_BUS, "default", "Ready", "Connected")
        await bus.kill()
        await cluster.becomes(kinds.EVENT_BUS, "default", "Stalled", "Disconnected")
        await cluster.apply(trigger("later"))
        await cluster.becomes(kinds.TRIGGER, "later", "Stalled", "Disconnected")
        await bus.start()
        await cluster.becomes(kinds.EVENT_BUS, "default", "Ready", "Connected")
        await cluster.becomes(kinds.TRIGGER, "later", "Stalled", "None")
