"""What Dapr does to events, and how the dapr bus keeps it from them: on a real daprd."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from ofevents.bus.dapr_callback import CALLS_WITHIN
from ofevents.conformance.bus_rig import (
    GROUP,
    PATIENCE,
    TOPIC,
    USER,
    Taken,
    consuming,
    drained,
    ensured,
    ids,
    messages,
    within,
)
from ofevents.errors import Disconnected
from ofevents.event import Event
from ofevents.ports import Bus, Consumer, Message
from tests.conformance.rigs import dapr_jetstream, dapr_kafka
from tests.servers import free_port

pytestmark = pytest.mark.timeout(180)

EXACT = (
    Event.create(
        id="large", source="/s", type="t", data=b'{"n":9007199254740993,"b":1.10,"a":"<&>"}'
    ),
    Event.create(
        id="binary",
        source="/s",
        type="t",
        data=bytes(range(256)),
        datacontenttype="application/octet-stream",
    ),
    Event.create(id="bare", source="/s", type="t", traceparent="00-ab-cd-01", tracestate="x=1"),
)
"""Dapr would round the number, sort the keys, lose the bytes, and replace the trace."""

LONG = 40.0
"""Seconds after which daprd 1.14 stays silent for ever without a health check."""
LOOKS_AGAIN = LONG
"""Seconds after which daprd has looked again: gRPC waits 1.6 times as long each time, give
or take a fifth (seen: it looked after 16, 26, 40, 62 and 100 s), so it may have looked
in the very moment before the port opened."""


async def test_jetstream_keeps_events_that_share_an_id() -> None:
    """Dapr has JetStream drop a repeated id, silently, whatever its source is."""
    one = Event.create(id="1", source="/one", type="t")
    two = Event.create(id="1", source="/two", type="t")
    async with dapr_jetstream.open_rig() as rig, ensured(rig) as bus:
        taken = Taken()
        async with consuming(bus, taken):
            await bus.publish(TOPIC, Message(one, "w"), Message(two, "w"))
            await bus.publish(TOPIC, Message(one, "w", generation=1))
            await bus.publish(TOPIC, Message(one, "w"))  # the only repetition
            await within(lambda: len(taken.seen) >= 3, "all of them arrive")
            await bus.publish(TOPIC, *messages("last"))
            await taken.gets(["last"])
        sources = [one.body.source for one in taken.seen]  # type: ignore[union-attr]
        assert sorted(sources) == ["/one", "/one", "/shop", "/two"]


async def test_events_cross_byte_for_byte_in_batches_and_on_streams() -> None:
    for rigs in (dapr_kafka, dapr_jetstream):
        async with rigs.open_rig() as rig, ensured(rig) as bus:
            taken = Taken()
            async with consuming(bus, taken):
                await bus.publish(TOPIC, *(Message(one, "w") for one in EXACT))
                await taken.gets([one.id for one in EXACT])
            back = {one.body.id: one for one in taken.seen if isinstance(one.body, Event)}
            for one in EXACT:
                assert back[one.id].body == one
                assert back[one.id].raw == one.to_json()


async def test_a_sidecar_of_kafka_without_a_port_is_read_on_streams() -> None:
    async with dapr_kafka.open_rig() as rig:
        rig.app = False
        async with ensured(rig) as bus:
            assert not bus._options.bulk  # type: ignore[attr-defined]
            taken = Taken()
            async with consuming(bus, taken):
                await bus.publish(TOPIC, *messages(*ids(50)))
                await taken.gets(ids(50))


@pytest.mark.timeout(300)
async def test_a_process_that_comes_long_after_its_sidecar_is_served() -> None:
    """daprd's first question to its app fails then, and it never asks again by itself."""
    async with dapr_kafka.open_rig() as rig:
        bus = rig.make()
        start = bus.daprd.start

        async def early() -> None:
            await start()
            await asyncio.sleep(LONG)

        bus.daprd.start = early  # type: ignore[method-assign]
        async with bus:
            await bus.ensure([TOPIC], [Consumer(GROUP, (TOPIC,), start="earliest")])
            await bus.publish(TOPIC, *messages(*ids(20)))
            taken = Taken()
            async with consuming(bus, taken):
                await taken.gets(ids(20), seconds=LOOKS_AGAIN + PATIENCE)


async def test_a_sidecar_that_calls_another_port_is_told_of() -> None:
    """It is connected, and nothing ever comes."""
    async with (
        dapr_kafka.open_rig() as rig,
        ensured(rig, app_port=free_port()) as bus,
        consuming(bus, Taken()),
    ):
        await within(lambda: "--app-port" in bus.connection, "the bus says so", CALLS_WITHIN + 30)


async def test_a_sidecar_that_does_not_look_after_its_app_is_refused() -> None:
    async with dapr_kafka.open_rig() as rig:
        rig.health_check = False
        async with ensured(rig) as bus:
            with pytest.raises(Disconnected, match="--enable-app-health-check"):
                async with consuming(bus, Taken()):
                    pass


async def test_a_group_of_several_components_gets_everything() -> None:
    """Kafka hands a batch at a time to a component, so a group may have several."""
    async with dapr_kafka.open_rig() as rig:
        rig.options["lanes"] = 2
        async with ensured(rig, Consumer(GROUP, (TOPIC,))) as bus:
            taken = Taken()
            async with consuming(bus, taken, in_flight=500):
                await bus.publish(TOPIC, *messages(*ids(500)))
                await taken.gets(ids(500))


async def test_what_was_confirmed_is_there_when_the_broker_was_killed() -> None:
    async with dapr_kafka.open_rig() as rig, ensured(rig) as bus:
        confirmed: list[str] = []
        stopping = asyncio.Event()

        async def write(lane: int) -> None:
            for n in range(1_000_000):
                if stopping.is_set():
                    return
                try:
                    await bus.publish(TOPIC, *messages(f"{lane}-{n}"))
                except Disconnected:
                    continue
                confirmed.append(f"{lane}-{n}")

        async with asyncio.TaskGroup() as group:
            for lane in range(10):
                group.create_task(write(lane))
            await within(lambda: len(confirmed) > 500, "publishing works")
            await rig.broker.restart()
            before = len(confirmed)
            await within(lambda: len(confirmed) > before + 500, "it goes on afterwards")
            stopping.set()
        await _all_are_there(bus, confirmed)


async def _all_are_there(bus: Bus, confirmed: list[str]) -> None:
    taken = Taken()
    async with consuming(bus, taken, in_flight=1000):
        await taken.gets(confirmed)


@pytest.mark.parametrize("rigs", [dapr_kafka, dapr_jetstream], ids=["kafka", "jetstream"])
async def test_a_group_that_was_declared_before_it_was_made_gets_what_came_between(
    rigs: Any,
) -> None:
    """As one whose first worker was put to sleep, on a cluster, before it could make it."""
    async with rigs.open_rig() as rig, ensured(rig, Consumer(USER, (USER,))) as bus:
        await bus.publish(TOPIC, *messages("before"))
        since = time.time()
        await bus.publish(TOPIC, *messages("between"))
        await bus.ensure([TOPIC], [Consumer(GROUP, (TOPIC,), since={TOPIC: since})])
        await bus.publish(TOPIC, *messages("after"))
        got = await drained(bus, wanted=["after", "between"])
        assert sorted(got) == ["after", "between"]
        # Its position is its own from then on.
        await bus.ensure([TOPIC], [Consumer(GROUP, (TOPIC,), since={TOPIC: time.time() + 60})])
        await bus.publish(TOPIC, *messages("later"))
        assert await drained(bus, wanted=["later"]) == ["later"]
