"""A Trigger that names another bus leaves the one before as if it were deleted there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import topics
from ofevents.bus.open import open_bus
from ofevents.clock import SystemClock
from ofevents.cluster import kinds
from ofevents.controller import buses, moving
from ofevents.event import Event
from ofevents.ports import Bus, Delivery, Message
from tests.e2e.controller.rig import Cluster, cron, resource, trigger
from tests.e2e.controller.test_leaving import comes
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="session")]


@asynccontextmanager
async def streams(bus: NatsServer, name: str) -> AsyncIterator[Bus]:
    """The streams of that prefix."""
    options = {"url": bus.url, "stream": name}
    resolved = ResolvedBus(driver="jetstream", options=options)
    async with open_bus(resolved, clock=SystemClock()) as one:
        yield one


async def declare(cluster: Cluster, bus: NatsServer, name: str) -> None:
    spec = {"url": bus.url, "stream": name}
    await cluster.apply(resource("EventBus", name, {"jetstream": spec}))


async def has(bus: Bus, owner: str) -> set[str]:
    """What is on the bus of an owner: its consumer groups, and topics with messages."""
    report = await bus.inspect()
    inbox = topics.inbox("shop", owner, "log")
    group = {
        topics.trigger_group("shop", owner): "position",
        topics.inbox_group(inbox): "inbox",
    }
    topic = {inbox: "owed", topics.dead("shop", owner): "dead letters"}
    consumed = {group.get(each.group, "") for each in report.consumers}
    held = {topic.get(each.topic, "") for each in report.topics if each.messages}
    return (consumed | held) - {""}


async def fill(bus: Bus, owner: str) -> None:
    """Something that it is owed, and something that it was never able to deliver."""
    event = Event.create(id="1", source="/shop", type="order", data="{}")
    delivery = Delivery(f"shop/{owner}/log", (event,))
    for topic in (topics.inbox("shop", owner, "log"), topics.dead("shop", owner)):
        await bus.publish(topic, Message(delivery, "test"))


ALL = {"position", "inbox", "owed", "dead letters"}


async def test_a_trigger_moves(cluster: Cluster, bus: NatsServer) -> None:
    await declare(cluster, bus, "there")
    async with streams(bus, "ofevents") as here, streams(bus, "there") as there:
        async with cluster.controller():
            await cluster.apply(trigger("moves"))
            (before,) = await cluster.have("moves", 1)
            await cluster.becomes(kinds.TRIGGER, "moves", "Ready", "Starting")  # the bus answers
            await fill(here, "moves")
            assert await has(here, "moves") == ALL
            pod = await cluster.pod(before, {"podIP": "127.0.0.1"})
        # While no controller looks.
        await cluster.apply(trigger("moves", eventBus="there"))
        async with cluster.controller():
            waits = await cluster.becomes(kinds.TRIGGER, "moves", "Stalled", "Moving")
            assert "its workers on EventBus shop/default end first" in waits["message"]
            assert await cluster.deployments("moves") == []
            assert await has(here, "moves") == ALL
            assert await has(there, "moves") == {"position", "inbox"}  # It misses nothing.
        # It is restarted, and goes on.
        path = kinds.POD.path("shop", pod) + "?gracePeriodSeconds=0"
        await cluster.api.call("DELETE", path)
        async with cluster.controller():
            (after,) = await cluster.have("moves", 1)
            assert after["metadata"]["uid"] != before["metadata"]["uid"]
            await cluster.becomes(kinds.TRIGGER, "moves", "Stalled", "None")
            assert await has(here, "moves") == set()
            assert await has(there, "moves") == {"position", "inbox"}


async def test_what_is_retained_stays(cluster: Cluster, bus: NatsServer) -> None:
    await declare(cluster, bus, "there")
    async with streams(bus, "ofevents") as here, cluster.controller() as running:
        await cluster.apply(trigger("stays-behind"))
        (before,) = await cluster.have("stays-behind", 1)
        await cluster.becomes(kinds.TRIGGER, "stays-behind", "Ready", "Starting")
        await fill(here, "stays-behind")
        await cluster.apply(trigger("stays-behind", eventBus="there", deletionPolicy="Retain"))

        async def rolled() -> bool:
            (now,) = await cluster.deployments("stays-behind")
            return bool(now["spec"]["template"] != before["spec"]["template"])

        await until(rolled, seconds=60, what="it is rolled")
        await running.idle()
        assert await has(here, "stays-behind") == ALL


async def test_another_name_of_the_same_streams_is_no_move(
    cluster: Cluster, bus: NatsServer
) -> None:
    await cluster.apply(resource("EventBus", "alias", {"jetstream": {"url": bus.url}}))
    async with streams(bus, "ofevents") as here, cluster.controller() as running:
        await cluster.apply(trigger("renames"))
        (before,) = await cluster.have("renames", 1)
        await cluster.becomes(kinds.TRIGGER, "renames", "Ready", "Starting")  # the bus answers
        await fill(here, "renames")
        await cluster.apply(trigger("renames", eventBus="alias"))

        async def rolled() -> bool:
            (now,) = await cluster.deployments("renames")
            assert now["metadata"]["uid"] == before["metadata"]["uid"]
            return bool(now["spec"]["template"] != before["spec"]["template"])

        await until(rolled, seconds=60, what="it is rolled")
        await running.idle()
        assert await has(here, "renames") == ALL


async def test_a_sink_moves_after_its_sources(cluster: Cluster, bus: NatsServer) -> None:
    await declare(cluster, bus, "there")
    sink = {"uri": "http://log.shop.svc/"}
    owner = "source/moving-sink"
    group = topics.trigger_group("shop", owner)

    async def groups(one: Bus) -> set[str]:
        return {each.group for each in (await one.inspect()).consumers}

    async with (
        streams(bus, "ofevents") as here,
        streams(bus, "there") as there,
        cluster.controller() as running,
    ):
        await cluster.apply(cron("moving-sink", sink=sink))
        both = await cluster.have("moving-sink", 2)
        (implicit,) = (each for each in both if component(each) == "trigger")
        (source,) = (each for each in both if component(each) == "source")
        pod = await cluster.pod(implicit, {"podIP": "127.0.0.1"})
        await cluster.apply(cron("moving-sink", sink=sink, eventBus="there"))
        await cluster.becomes(kinds.EVENT_SOURCE, "moving-sink", "Stalled", "Moving")
        (now,) = await cluster.deployments("moving-sink")
        assert now["metadata"]["uid"] == source["metadata"]["uid"]
        assert now["spec"]["template"] != source["spec"]["template"]
        assert group in await groups(here) and group in await groups(there)
        path = kinds.POD.path("shop", pod) + "?gracePeriodSeconds=0"
        await cluster.api.call("DELETE", path)
        await cluster.have("moving-sink", 2)
        await running.idle()
        assert group not in await groups(here) and group in await groups(there)


def component(deployment: Any) -> str:
    return str(deployment["metadata"]["labels"]["app.kubernetes.io/component"])


async def test_the_bus_before_does_not_answer(
    cluster: Cluster, bus: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "GIVE_UP", 2.0)
    monkeypatch.setattr(buses, "PATIENCE", 0.5)
    away = resource("EventBus", "gone-bus", {"jetstream": {"url": "nats://127.0.0.1:1"}})
    async with cluster.controller():
        await cluster.apply(away, trigger("flees", eventBus="gone-bus"))
        await cluster.have("flees", 1)
        await cluster.becomes(kinds.TRIGGER, "flees", "Stalled", "Disconnected")
        await cluster.apply(trigger("flees"))
        await cluster.becomes(kinds.TRIGGER, "flees", "Stalled", "Moving")
        await cluster.becomes(kinds.TRIGGER, "flees", "Stalled", "None", seconds=90)
        await cluster.have("flees", 1)
        event = await comes(cluster, "flees", "LeftOnBus")
        assert "gone-bus did not answer" in event["note"]
        await cluster.delete(kinds.EVENT_BUS, "gone-bus")


async def test_from_a_dapr_bus(cluster: Cluster, bus: NatsServer) -> None:
    component = {"version": "v1", "metadata": []}
    pubsub, state = ({"type": f"{kind}.redis", **component} for kind in ("pubsub", "state"))
    declared = resource("EventBus", "was-dapr", {"dapr": {"pubsub": pubsub, "state": state}})
    async with cluster.controller():
        await cluster.apply(declared, trigger("leaves-dapr", eventBus="was-dapr"))
        await cluster.have("leaves-dapr", 1)
        await cluster.apply(trigger("leaves-dapr"))
        await cluster.becomes(kinds.TRIGGER, "leaves-dapr", "Warning", "Questionable")
        await cluster.have("leaves-dapr", 1)
        event = await comes(cluster, "leaves-dapr", "LeftOnBus")
        assert "shop/was-dapr is a dapr bus" in event["note"]
