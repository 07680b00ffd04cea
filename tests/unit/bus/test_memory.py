"""The memory bus in ways that the conformance suite does not ask of every driver."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import open_bus, topics
from ofevents.bus.broker import Broker
from ofevents.bus.memory import MemoryBus
from ofevents.clock import ManualClock, SystemClock
from ofevents.errors import BusFull, Disconnected
from ofevents.event import Event
from ofevents.ports import DONE, Consumer, Delivery, Message, Received, retry

TOPIC = topics.event("default", "shop", "orders")
USER = topics.user("default", "metrics")
INBOX = topics.inbox("default", "billing", "charge")


def event(id: str) -> Event:
    return Event.create(id=id, source="/shop", type="order", data=b'{"n": 1}')


def message(id: str) -> Message:
    return Message(event(id), "default/kafka/shop/orders")


async def test_two_connections_of_one_name_share_a_broker() -> None:
    spec = ResolvedBus(driver="memory", options={"name": "shared"})
    got: asyncio.Queue[str] = asyncio.Queue()

    async def handler(received: list[Received]) -> None:
        for one in received:
            got.put_nowait(one.body.id)  # type: ignore[union-attr]
            one.settle(DONE)

    async with open_bus(spec, clock=SystemClock()) as a, open_bus(spec, clock=SystemClock()) as b:
        await a.ensure([TOPIC], [Consumer("g", (TOPIC,))])
        started = asyncio.Event()
        task = asyncio.create_task(
            b.consume([TOPIC], "g", handler, in_flight=8, started=started.set)
        )
        await started.wait()
        await a.publish(TOPIC, message("1"))
        assert await asyncio.wait_for(got.get(), 5) == "1"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_due_and_retry_wait_for_the_clock() -> None:
    clock = ManualClock()
    seen: list[tuple[str, int]] = []

    async def handler(received: list[Received]) -> None:
        for one in received:
            assert isinstance(one.body, Delivery)
            seen.append((one.body.event.id, one.attempt))
            one.settle(retry(5.0) if one.attempt == 1 else DONE)

    async with MemoryBus(ResolvedBus(driver="memory", name="due"), clock=clock) as bus:
        await bus.ensure([INBOX], [Consumer(INBOX, (INBOX,))])
        delivery = Delivery("default/billing/charge", (event("1"),), due=clock.now() + 10)
        await bus.publish(INBOX, Message(delivery, "charge", due=delivery.due))
        stop = asyncio.Event()
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            tasks.create_task(
                bus.consume([INBOX], INBOX, handler, in_flight=1, started=lambda: None, stop=stop)
            )
            await clock.advance(9.9)
            assert seen == []
            report = await bus.inspect()
            assert (report.topics[0].messages, report.consumers[0].pending) == (1, 1)
            await clock.advance(0.2)
            assert seen == [("1", 1)]
            await clock.advance(4.8)
            assert seen == [("1", 1)]
            await clock.advance(0.2)
            assert seen == [("1", 1), ("1", 2)]
            stop.set()
        assert (await bus.inspect()).topics[0].messages == 0, "settled leaves an inbox"


async def test_fail_and_heal_act_as_a_lost_connection() -> None:
    async with MemoryBus(ResolvedBus(driver="memory", name="down"), clock=SystemClock()) as bus:
        bus.broker.fail("the cable is out")
        assert bus.connection == "the cable is out"
        with pytest.raises(Disconnected, match="cable"):
            await bus.publish(TOPIC, message("1"))
        bus.broker.heal()
        await bus.publish(TOPIC, message("1"))


async def test_waiting_for_what_is_due_later_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [0]

    def advance(self: Broker, now: float) -> None:
        looks[0] += 1

    async with MemoryBus(ResolvedBus(driver="memory", name="idle"), clock=SystemClock()) as bus:
        await bus.ensure([INBOX], [Consumer(INBOX, (INBOX,))])
        monkeypatch.setattr(Broker, "advance", advance)
        stop = asyncio.Event()

        async def handler(batch: list[Received]) -> None: ...

        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            tasks.create_task(
                bus.consume([INBOX], INBOX, handler, in_flight=1, started=lambda: None, stop=stop)
            )
            due = time.time() + 60
            for id in "12":
                delivery = Delivery("default/billing/charge", (event(id),), due=due)
                await bus.publish(INBOX, Message(delivery, "charge", due=due))
            for _ in range(100):
                await asyncio.sleep(0)
            stop.set()
        assert looks[0] < 10


async def test_a_place_that_is_full_leaves_room_in_the_others() -> None:
    spec = ResolvedBus(driver="memory", name="places", options={"max_bytes": 2000})
    delivery = Delivery("default/billing/charge", (event("1"),))
    async with MemoryBus(spec, clock=SystemClock()) as bus:
        await bus.ensure([TOPIC, INBOX], [Consumer("g", (TOPIC,)), Consumer(INBOX, (INBOX,))])
        with pytest.raises(BusFull, match="bytes of events"):
            for number in range(100):
                await bus.publish(TOPIC, message(str(number)))
        for number in range(100):
            await bus.publish(USER, message(str(number)))
        assert len([one async for one in bus.browse([USER])]) < 100
        await bus.publish(INBOX, Message(delivery, "charge"))
        with pytest.raises(BusFull, match="inboxes"):
            for number in range(100):
                await bus.publish(INBOX, Message(replace(delivery, generation=number), "charge"))
        await bus.remove(topics=[INBOX])
        await bus.publish(INBOX, Message(replace(delivery, generation=200), "charge"))
