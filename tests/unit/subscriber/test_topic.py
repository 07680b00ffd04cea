"""TopicSubscriber and Timeout: what is published, and when it is a duplicate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ofevents.bus import topics
from ofevents.bus.memory import MemoryBus
from ofevents.errors import Disconnected, TooLarge
from ofevents.ports import Delivery, Payload, Reply
from ofevents.subscriber import TimedOut, Timeout, TopicSubscriber
from tests.unit.subscriber.rig import browse, delivery, event, memory_bus, messages

TOPIC = topics.user("shop", "paid")


@pytest.fixture
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[MemoryBus]:
    async with memory_bus(request.node.name, max_size=4000) as made:
        await made.ensure([TOPIC], [])
        yield made


async def test_the_last_event_with_the_payload(bus: MemoryBus) -> None:
    given = delivery(event("1"), event("2", subject="s"), payload=Payload(b"hi", "text/plain"))
    assert (await TopicSubscriber(bus, TOPIC).deliver(given)).status == 202
    assert messages(await browse(bus, TOPIC)) == [
        event("2", b"hi", subject="s", datacontenttype="text/plain")
    ]


async def test_a_batch_event_by_event(bus: MemoryBus) -> None:
    given = delivery(event("1"), event("2"), payload=Payload(b"7"))
    await TopicSubscriber(bus, TOPIC, batch=True).deliver(given)
    first, last = messages(await browse(bus, TOPIC))
    assert (first, last) == (event("1"), event("2", b"7", datacontenttype="application/json"))


async def test_deduplication(bus: MemoryBus) -> None:
    subscriber = TopicSubscriber(bus, TOPIC)
    for given in [
        delivery(),
        delivery(attempt=1),  # the same after a crash
        delivery(generation=1),  # moved through the inbox on purpose
        delivery(generation=1),
        delivery(operation="redrive-1"),
        delivery(operation="redrive-1"),
        delivery(operation="redrive-2"),
    ]:
        await subscriber.deliver(given)
    assert len(await browse(bus, TOPIC)) == 4


async def test_its_errors(bus: MemoryBus) -> None:
    with pytest.raises(TooLarge):
        await TopicSubscriber(bus, TOPIC).deliver(delivery(event("1", b'"%b"' % (b"x" * 5000))))
    bus.broker.fail("gone")
    with pytest.raises(Disconnected):
        await TopicSubscriber(bus, TOPIC).deliver(delivery())


class Never:
    async def deliver(self, delivery: Delivery) -> Reply:
        await asyncio.get_running_loop().create_future()
        raise AssertionError


async def test_timeout() -> None:
    with pytest.raises(TimedOut, match=r"no answer within 0\.01 s"):
        await Timeout(Never(), 0.01).deliver(delivery())


async def test_a_cancelled_call_is_no_timeout() -> None:
    call = asyncio.create_task(Timeout(Never(), 10.0).deliver(delivery()))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait({call})
    assert call.cancelled()
