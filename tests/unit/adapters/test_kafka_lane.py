"""Lanes: order, retries, and the offset that never passes an unfinished record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from ofevents.clock import ManualClock
from ofevents.errors import PermanentError, TemporaryError
from ofevents.event import Event
from ofevents.ports import Reply
from ofevents.telemetry import Log
from ofevents_adapters.kafka_lane import Lane, Room


def record(offset: int) -> Message:
    return Message(topic="t", partition=0, offset=offset, value=b"%d" % offset)


class Sink:
    """Emit by a script: each call takes the next answer; an empty script accepts."""

    def __init__(self, script: list[Exception | None] | None = None) -> None:
        self.script = script or []
        self.calls: list[list[int]] = []
        self.settled: list[int] = []
        self.check: Callable[[], None] = lambda: None

    async def __call__(self, *events: Event) -> Reply | None:
        numbers = [event.value for event in events]
        self.calls.append(numbers)
        self.check()
        await asyncio.sleep(0)
        if self.script and (error := self.script.pop(0)) is not None:
            raise error
        self.settled += numbers
        return None


def lane(sink: Sink, *, batch: int = 10, room: Room | None = None) -> Lane:
    return Lane(sink, "/s", batch, room or Room(100, 10_000), ManualClock(), Log())


async def until(condition: Callable[[], bool], made: Lane) -> None:
    for _ in range(2000):
        if condition():
            return
        assert isinstance(made.clock, ManualClock)
        await made.clock.advance(1)
    raise AssertionError("it did not come")


@given(
    offsets=st.lists(st.integers(0, 10**6), min_size=1, max_size=30, unique=True).map(sorted),
    batch=st.integers(1, 8),
    failures=st.lists(st.booleans(), max_size=12),
)
def test_the_offset_never_passes_an_unfinished_record(
    offsets: list[int], batch: int, failures: list[bool]
) -> None:
    async def run() -> None:
        sink = Sink([TemporaryError("away") if failed else None for failed in failures])
        made = lane(sink, batch=batch)

        def check() -> None:
            # Whatever is settled now, everything below it has left emit.
            done = -1 if made.settled is None else made.settled - 1
            assert [o for o in offsets if o <= done] == sink.settled

        sink.check = check
        for offset in offsets:
            made.put(record(offset))
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(made.run())
            await until(lambda: made.settled == offsets[-1] + 1, made)
            made.close()
            await task
        assert sink.settled == offsets

    asyncio.run(run())


async def test_a_retry_waits_as_long_as_the_error_asks() -> None:
    sink = Sink([TemporaryError("full", delay=30), None])
    made = lane(sink)
    made.put(record(1))
    clock = made.clock
    assert isinstance(clock, ManualClock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(made.run())
        await clock.advance(29)
        assert sink.calls == [[1]]
        await clock.advance(2)
        assert sink.calls == [[1], [1]]
        made.close()
    assert made.settled == 2


async def test_one_event_that_nobody_can_take_does_not_hold_up_those_before_it() -> None:
    refused = PermanentError("no dead letter can take it")
    sink = Sink([refused, None, refused, refused, None, None])
    made = lane(sink)
    for offset in (1, 2, 3):
        made.put(record(offset))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(made.run())
        await until(lambda: made.settled == 4, made)
        made.close()
    assert sink.settled == [1, 2, 3]
    assert sink.calls == [[1, 2, 3], [1], [2], [2], [2], [3]]


async def test_closing_finishes_the_open_emit_and_begins_no_other() -> None:
    sink, room = Sink(), Room(10, 1000)
    made = lane(sink, batch=1, room=room)
    records = [record(1), record(2)]
    room.take(records)
    for one in records:
        made.put(one)
    sink.check = made.close
    await made.run()
    assert (sink.settled, made.settled, room.free) == ([1], 2, 9)
    made.abandon()
    assert room.free == 10


async def test_a_cancelled_lane_settles_nothing_and_gives_its_room_back() -> None:
    room = Room(10, 1000)

    async def blocked(*events: Event) -> Reply | None:
        await asyncio.Event().wait()
        return None

    made = Lane(blocked, "/s", 10, room, ManualClock(), Log())
    records = [record(1), record(2)]
    room.take(records)
    for one in records:
        made.put(one)
    task = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    made.abandon()
    assert (made.settled, room.free) == (None, 10)


async def test_large_records_are_emitted_few_at_a_time() -> None:
    sink = Sink()
    made = lane(sink, batch=10)
    for offset in range(5):
        value = b"%d%s" % (offset, b" " * 3_000_000)
        made.put(Message(topic="t", partition=0, offset=offset, value=value))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(made.run())
        await until(lambda: made.settled == 5, made)
        made.close()
    assert sink.calls == [[0, 1], [2, 3], [4]]


async def test_room_is_counted_in_records_and_in_bytes() -> None:
    room = Room(3, 10)
    large = Message(topic="t", partition=0, offset=0, value=b"x" * 11)
    room.take([large])
    assert room.free == 0
    await room.wait(0.001)
    room.give_back([large])
    await room.wait(60)
    assert room.free == 3
    room.take([record(0), record(1), record(2)])
    assert room.free == 0
