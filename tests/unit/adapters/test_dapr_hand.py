"""What is in hand of the dapr source: held, given back, in its order, a bounded number."""

from __future__ import annotations

import asyncio

from ofevents.clock import ManualClock
from ofevents.errors import OfeventsError, PermanentError, TemporaryError
from ofevents.event import Event
from ofevents.telemetry import Log
from ofevents_adapters.dapr_hand import HOLD, IN_FLIGHT, Hand


class Emit:
    """Fails as told: `failures` by event id, one for each call with it."""

    def __init__(self) -> None:
        self.failures: dict[str, list[OfeventsError]] = {}
        self.taken: list[str] = []
        self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.inside = 0

    async def __call__(self, *events: Event) -> None:
        self.calls += 1
        for event in events:
            if self.failures.get(event.id):
                raise self.failures[event.id].pop(0)
        self.inside += len(events)
        await self.gate.wait()
        self.inside -= len(events)
        self.taken += [event.id for event in events]


def event(id: str) -> Event:
    return Event.create(id=id, source="/s", type="t", data=b"{}")


def hand(emit: Emit, clock: ManualClock, *, many: bool = True, hold: float | None = HOLD) -> Hand:
    return Hand(emit, many=many, hold=hold, clock=clock, log=Log())


async def ends(task: asyncio.Task[object], clock: ManualClock, within: float) -> None:
    for _ in range(int(within / 0.1)):
        if task.done():
            return
        await clock.advance(0.1)


async def test_what_fails_for_now_is_tried_again_and_then_given_back() -> None:
    emit, clock = Emit(), ManualClock()
    emit.failures["a"] = [TemporaryError("full"), TemporaryError("full")]
    task = asyncio.create_task(hand(emit, clock).settled([event("a")]))
    await ends(task, clock, 5)
    assert await task and emit.calls == 3
    emit.failures["b"] = [TemporaryError("full")] * 100
    task = asyncio.create_task(hand(emit, clock).settled([event("b")]))
    await ends(task, clock, HOLD)
    assert not await task


async def test_an_input_binding_is_held_as_long_as_it_takes() -> None:
    emit, clock = Emit(), ManualClock()
    emit.failures["a"] = [TemporaryError("full")] * 50
    task = asyncio.create_task(hand(emit, clock, hold=None).settled([event("a")]))
    await ends(task, clock, 600)
    assert await task and emit.taken == ["a"]


async def test_one_that_no_dead_letter_takes_does_not_hold_up_the_others_of_its_batch() -> None:
    emit, clock = Emit(), ManualClock()
    emit.failures["b"] = [PermanentError("large")] * 100
    task = asyncio.create_task(hand(emit, clock).batch([[event("a")], [event("b")], [event("c")]]))
    await ends(task, clock, HOLD + 1)
    assert await task == [False] * 3
    assert emit.taken == ["a", "c"]


async def test_without_a_bus_nothing_behind_a_refused_one_is_taken() -> None:
    emit, clock = Emit(), ManualClock()
    emit.failures["b"] = [TemporaryError("away")] * 100
    made = hand(emit, clock, many=False)
    task = asyncio.create_task(made.batch([[event("a")], [event("b")], [event("c")]]))
    await ends(task, clock, HOLD + 1)
    assert await task == [True, False, False]
    assert emit.taken == ["a"]


async def test_no_more_than_so_many_are_in_hand() -> None:
    emit, clock = Emit(), ManualClock()
    emit.gate.clear()
    made = hand(emit, clock)
    tasks = [asyncio.create_task(made.settled([event(str(n))])) for n in range(2 * IN_FLIGHT)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert emit.inside == IN_FLIGHT
    emit.gate.set()
    assert all(await asyncio.gather(*tasks))
