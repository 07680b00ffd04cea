"""Each key once, in order, again when it was asked for meanwhile, later when it failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ofevents.clock import ManualClock
from ofevents.cluster import kinds
from ofevents.controller.queue import WorkQueue

BUS = (kinds.EVENT_BUS, "shop", "default")
TRIGGER = (kinds.TRIGGER, "shop", "audit")
SOURCE = (kinds.EVENT_SOURCE, "shop", "clock")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def queue(clock: ManualClock) -> AsyncIterator[WorkQueue]:
    one = WorkQueue(clock)
    yield one
    one.close()


async def test_buses_come_before_triggers_before_sources(queue: WorkQueue) -> None:
    for key in (SOURCE, TRIGGER, BUS, SOURCE):
        queue.add(key)
    assert [await queue.take() for _ in range(3)] == [BUS, TRIGGER, SOURCE]
    assert not queue.idle
    for key in (BUS, TRIGGER, SOURCE):
        queue.done(key)
    assert queue.idle


async def test_what_is_asked_for_while_it_is_worked_on_comes_once_more(queue: WorkQueue) -> None:
    queue.add(TRIGGER)
    assert await queue.take() == TRIGGER
    queue.add(TRIGGER)
    queue.add(TRIGGER)
    waiting = asyncio.ensure_future(queue.take())
    await asyncio.sleep(0)
    assert not waiting.done()  # Not by two workers at once.
    queue.done(TRIGGER)
    assert await waiting == TRIGGER
    queue.done(TRIGGER)
    assert queue.idle


async def test_what_failed_comes_later_and_later(queue: WorkQueue, clock: ManualClock) -> None:
    queue.add(TRIGGER)
    waits = []
    for _ in range(9):
        await queue.take()
        waits.append(queue.failed(TRIGGER))
        assert queue.idle
        await clock.advance(waits[-1])
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    await queue.take()
    queue.done(TRIGGER)
    queue.add(TRIGGER)
    await queue.take()
    assert queue.failed(TRIGGER) == 0.5
    queue.add(TRIGGER)  # A change does not wait for it.
    assert await queue.take() == TRIGGER
