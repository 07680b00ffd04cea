"""Emitting until it is done: what is tried again, what goes on alone, and how long is waited."""

from __future__ import annotations

import asyncio

import pytest

from ofevents.clock import ManualClock
from ofevents.errors import PermanentError, TemporaryError
from ofevents.event import Event
from ofevents.telemetry import Log
from ofevents_adapters.settle import LONGEST, settle

LOG = Log(source="test")


class Emit:
    """Notes the ids of each call with its time, and fails with the `errors` of an id."""

    def __init__(self, clock: ManualClock) -> None:
        self.calls: list[tuple[float, str]] = []
        self.errors: dict[str, list[Exception]] = {}
        self._clock = clock

    async def __call__(self, *events: Event) -> None:
        self.calls.append((self._clock.monotonic(), "".join(event.id for event in events)))
        for event in events:
            if self.errors.get(event.id):
                raise self.errors[event.id].pop(0)


def events(ids: str) -> list[Event]:
    return [Event.create(id=id, source="/s", type="t") for id in ids]


async def test_what_can_heal_is_tried_again_after_longer_and_longer() -> None:
    clock = ManualClock()
    emit = Emit(clock)
    emit.errors["b"] = [TemporaryError("x"), TemporaryError("x"), TemporaryError("x", delay=2.0)]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(settle(emit, events("abc"), clock=clock, log=LOG))
        await clock.advance(10)
    assert [ids for _, ids in emit.calls] == ["abc"] * 4
    assert [at for at, _ in emit.calls] == pytest.approx([0, 0.05, 0.15, 2.15])


async def test_one_that_nothing_takes_is_kept_and_the_others_go_on() -> None:
    clock = ManualClock()
    emit = Emit(clock)
    emit.errors["a"] = [PermanentError("full")]  # of the first call; alone it is taken
    emit.errors["b"] = [PermanentError("full"), PermanentError("full")]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(settle(emit, events("abc"), clock=clock, log=LOG))
        await clock.advance(3 * LONGEST)
    assert [ids for _, ids in emit.calls] == ["abc", "a", "b", "b", "b", "c"]
    assert [at for at, _ in emit.calls] == pytest.approx([0, 0, 0, 5, 10, 10])


async def test_one_after_the_other_where_there_is_no_bus() -> None:
    clock = ManualClock()
    emit = Emit(clock)
    await settle(emit, events("abc"), apart=True, clock=clock, log=LOG)
    await settle(emit, [], clock=clock, log=LOG)
    assert [ids for _, ids in emit.calls] == ["a", "b", "c"]
