"""A full bus: what a subscriber writes moves to its inbox, so that room comes again.

The Triggers here read a user topic and write to another: both lie in one place of
the bus, which is full. Events lie in another place, see `test_pressure`.
"""

from __future__ import annotations

import pytest

from ofevents.api.resolved import (
    ResolvedBus,
    ResolvedInput,
    ResolvedSubscriber,
    ResolvedTrigger,
    TopicTarget,
)
from ofevents.bus import open_bus
from ofevents.bus.broker import shared
from ofevents.clock import Clock, ManualClock, SystemClock
from ofevents.errors import BusFull
from ofevents.ports import Bus, Consumer, Delivery, Message, Reply
from ofevents.trigger.worker import consumers, topics
from tests.unit.trigger.rig import Functions, event, running, subscriber, trigger

IN, OUT = "topic.shop.in", "topic.shop.out"
FULL = ResolvedBus(driver="memory", options={"max_bytes": 20_000, "name": "full"})
PAD = '{"pad": "%s"}' % ("x" * 300)
OTHER = Consumer("other", (IN,), "earliest")
"""A reader that settles nothing, so nothing is ever purged."""


def to_topic(**more: object) -> ResolvedSubscriber:
    return subscriber("two", target=TopicTarget(topic=OUT), **more)


def writing(*subscribers: ResolvedSubscriber) -> ResolvedTrigger:
    return trigger(*subscribers, inputs=(ResolvedInput(name="a", topic=IN),), bus=FULL)


async def fill(spec: ResolvedTrigger, bus: Bus, *others: Consumer) -> list[str]:
    """Publish events until the bus refuses; their ids."""
    await bus.ensure(topics(spec), [*consumers(spec), *others])
    ids: list[str] = []
    with pytest.raises(BusFull):
        while True:
            await bus.publish(IN, Message(event(str(len(ids)), PAD), "test"))
            ids.append(str(len(ids)))
    return ids


@pytest.mark.parametrize("delivery", [{}, {"ordered": True}, {"batch_size": 4}])
async def test_a_full_bus_is_emptied_by_a_subscriber_that_writes_to_it(
    functions: Functions, delivery: dict[str, object]
) -> None:
    spec = writing(subscriber("one"), to_topic(delivery=delivery))
    async with open_bus(FULL, clock=SystemClock()) as bus:
        ids = await fill(spec, bus)
        async with running(spec) as worker:
            await worker.idle(10)
            assert set(functions["one"].ids) == set(ids)
            written = [one[0] for one in worker.lines if one[2:4] == ("two", "delivered")]
            assert set(written) == set(ids)
            assert worker.health.snapshots()[0].state == "ready"


async def test_a_reply_that_finds_no_room_waits_in_the_inbox(functions: Functions) -> None:
    async def reply(delivery: Delivery) -> Reply | None:
        headers = {"ce-specversion": "1.0", "ce-type": "r", "ce-source": "/f"}
        return Reply(200, headers, b"")

    functions["one"].answer = reply
    spec = writing(subscriber("one", reply_topic=OUT))
    async with open_bus(FULL, clock=SystemClock()) as bus:
        ids = await fill(spec, bus)
        async with running(spec) as worker:
            await worker.idle(10)
            assert {one[0] for one in worker.lines if one[3] == "delivered"} == set(ids)
            assert {one.attempt for one in functions["one"].given} == {0}


async def test_while_there_is_no_room_the_tries_grow_rare(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock: Clock = ManualClock()
    assert isinstance(clock, ManualClock)
    spec = writing(to_topic(delivery={"retries": 1}))
    async with open_bus(FULL, clock=clock) as bus:
        ids = await fill(spec, bus, OTHER)
        broker = shared("full", max_bytes=1, window=1)
        real, tries = broker.publish, [0]

        def publish(topic: str, *more: object) -> None:
            tries[0] += topic == OUT
            real(topic, *more)  # type: ignore[arg-type]

        monkeypatch.setattr(broker, "publish", publish)
        async with running(spec, clock) as worker:
            await clock.advance(60)
            (snapshot,) = worker.health.snapshots()
            assert (snapshot.state, snapshot.reason) == ("stalled", "BusFull")
            before = tries[0]
            await clock.advance(60)
            # Each round tries what is in hand, which is bounded.
            rounds = 60 / 5
            assert 0 < tries[0] - before <= rounds * 64
            entries = await worker.messages("inbox.shop.trg.two")
            moves = {one.body.generation for one in entries if isinstance(one.body, Delivery)}
            assert moves == {1}, "none is written anew"
            await bus.remove(groups=["other"])
            await clock.advance(60)
            await worker.idle()
            assert {one[0] for one in worker.lines if one[3] == "delivered"} == set(ids)
            assert not [one for one in worker.lines if one[3] == "dead-lettered"]
