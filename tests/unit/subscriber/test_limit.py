"""Limit: places, tokens, fairness, and that a cancelled caller takes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofevents.clock import ManualClock
from ofevents.ports import Delivery, Reply
from ofevents.subscriber import Limit
from ofevents.subscriber.limit import TokenBucket
from tests.unit.subscriber.rig import delivery, event, settled


@dataclass
class Slow:
    """Takes a second of the clock for each call."""

    clock: ManualClock
    begun: list[str] = field(default_factory=list)
    busy: int = 0
    most: int = 0

    async def deliver(self, delivery: Delivery) -> Reply:
        self.begun.append(delivery.event.id)
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            await self.clock.sleep(1.0)
        finally:
            self.busy -= 1
        return Reply(200)


def calls(limit: Limit, count: int, group: asyncio.TaskGroup) -> list[asyncio.Task[Reply]]:
    return [
        group.create_task(limit.deliver(delivery(event(str(number))))) for number in range(count)
    ]


async def test_concurrency_first_come_first_served() -> None:
    clock = ManualClock()
    inner = Slow(clock)
    limit = Limit(inner, concurrency=3, rate=None, clock=clock)
    async with asyncio.TaskGroup() as group:
        calls(limit, 9, group)
        await settled(clock)
        assert inner.begun == ["0", "1", "2"]
        for _ in range(3):
            await clock.advance(1.0)
    assert inner.begun == [str(n) for n in range(9)]
    assert inner.most == 3


async def test_a_cancelled_caller_frees_its_place() -> None:
    clock = ManualClock()
    inner = Slow(clock)
    limit = Limit(inner, concurrency=1, rate=None, clock=clock)
    async with asyncio.TaskGroup() as group:
        running, waiting, last = calls(limit, 3, group)
        await settled(clock)
        waiting.cancel()
        await settled(clock)
        running.cancel()
        await settled(clock)
        assert inner.begun == ["0", "2"]
        await clock.advance(1.0)
    assert last.result() == Reply(200)


async def test_a_failed_call_frees_its_place() -> None:
    class Failing:
        async def deliver(self, delivery: Delivery) -> Reply:
            raise ValueError

    limit = Limit(Failing(), concurrency=1, rate=None, clock=ManualClock())
    for _ in range(3):
        with pytest.raises(ValueError):
            await limit.deliver(delivery())


async def test_rate() -> None:
    clock = ManualClock()
    inner = Slow(clock)
    limit = Limit(inner, concurrency=100, rate=2.0, clock=clock)
    async with asyncio.TaskGroup() as group:
        calls(limit, 7, group)
        counts = []
        for _ in range(4):
            await settled(clock)
            counts.append(len(inner.begun))
            await clock.advance(1.0)
        await clock.advance(5.0)
    assert counts == [1, 3, 5, 7], "one at once, then two a second"
    assert inner.begun == [str(n) for n in range(7)]


async def test_a_cancelled_caller_takes_no_token() -> None:
    clock = ManualClock()
    bucket = TokenBucket(1.0, clock)
    await bucket.take()
    first, second = (asyncio.create_task(bucket.take()) for _ in range(2))
    await clock.advance(0.9)
    first.cancel()
    await clock.advance(0.2)
    assert second.done(), "it gets the token that the cancelled one waited for"


async def test_only_the_first_in_line_waits_for_the_clock() -> None:
    clock = ManualClock()
    bucket = TokenBucket(1.0, clock)
    await bucket.take()
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(bucket.take())
        await settled(clock)
        assert clock.sleeping == 1, "a crowd that wakes for one token would cost its square"
        await clock.advance(5.5)


@settings(max_examples=50)
@given(
    rate=st.floats(0.5, 200),
    pauses=st.lists(st.floats(0, 2), min_size=1, max_size=15),
)
def test_never_more_than_the_rate(rate: float, pauses: list[float]) -> None:
    async def check() -> None:
        clock = ManualClock()
        bucket = TokenBucket(rate, clock)
        taken: list[float] = []

        async def take() -> None:
            await bucket.take()
            taken.append(clock.monotonic())

        async with asyncio.TaskGroup() as group:
            for pause in pauses:
                for _ in range(3):
                    group.create_task(take())
                await clock.advance(pause)
            await clock.advance(3 * len(pauses) / rate + 1)
        assert len(taken) == 3 * len(pauses), "nobody waits for ever"
        burst = max(1.0, rate / 10)
        for begin, since in enumerate(taken):
            for end in range(begin, len(taken)):
                assert end - begin + 1 <= rate * (taken[end] - since) + burst + 1e-3

    asyncio.run(check())
