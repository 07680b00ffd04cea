"""The way into an ordered inbox keeps the order, whatever the tasks do in between."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import pytest

from ofevents.clock import ManualClock
from ofevents.errors import BusFull
from ofevents.trigger.inbox import Inbox
from ofevents.trigger.ownership import Takeover
from ofevents.trigger.turns import Turns
from tests.servers import until
from tests.unit.trigger.rig import A, Functions, event, inputs, running, subscriber, trigger

ORDERED = {"ordered": True}


async def test_turns_are_kept_in_the_order_in_which_they_were_taken() -> None:
    turns, log = Turns(), []
    taken = [turns.take(number % 2) for number in range(20)]

    async def use(number: int) -> None:
        await asyncio.sleep(random.random() * 0.01)
        async with taken[number]:
            log.append(number)
            await asyncio.sleep(random.random() * 0.002)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(use(number))
    assert [n for n in log if n % 2] == list(range(1, 20, 2))
    assert [n for n in log if not n % 2] == list(range(0, 20, 2))
    assert turns._last == {}


async def test_a_turn_that_is_released_unused_lets_the_next_pass() -> None:
    turns = Turns()
    first, second = turns.take("k"), turns.take("k")
    first.release()
    first.release()
    async with asyncio.timeout(1), second:
        pass


async def test_the_inbox_is_filled_in_order_though_publishing_takes_its_time(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = Inbox.put, [3]

    async def put(self: Inbox, delivery: Any, **more: Any) -> None:
        await asyncio.sleep(random.random() * 0.005)
        if delivery.events[0].id == "k3" and failures[0]:
            failures[0] -= 1
            raise BusFull("no room")
        await real(self, delivery, **more)

    monkeypatch.setattr(Inbox, "put", put)
    monkeypatch.setattr("ofevents.trigger.steps.PAUSE", 0.01)
    spec = trigger(
        subscriber("one", condition="a", delivery=ORDERED),
        # Concerned by every other event, so that these take another way through the tasks.
        subscriber("two", condition="a && event.data.n % 2 == 0", delivery=ORDERED),
        inputs=inputs(a=None),
    )
    async with running(spec) as worker:
        events = [
            event(f"{k}{i}", f'{{"n": {i}}}', partitionkey=k) for i in range(20) for k in "kl"
        ]
        await worker.publish(A, *events)
        await worker.idle()
    for key in "kl":
        ids = [id for id in functions["one"].ids if id[0] == key]
        assert ids == [f"{key}{i}" for i in range(20)]
        ids = [id for id in functions["two"].ids if id[0] == key]
        assert ids == [f"{key}{i}" for i in range(0, 20, 2)]


async def test_only_one_worker_reads_the_inputs_where_order_matters(
    functions: Functions,
) -> None:
    # Few at a time, so that both would get some.
    spec = trigger(subscriber(delivery=ORDERED), inputs=inputs(a=None), in_flight=2)
    async with running(spec) as first, running(spec) as second:
        assert [w.health.snapshots()[0].state for w in (first, second)] == ["ready", "ready"]
        await first.publish(A, *(event(str(i)) for i in range(30)))
        await first.idle()
        inboxed = [sum(line[3] == "inboxed" for line in w.lines) for w in (first, second)]
        assert sorted(inboxed) == [0, 30]
    assert functions["one"].ids == [str(i) for i in range(30)]


async def test_two_workers_share_the_events_of_any_other_trigger(functions: Functions) -> None:
    go = asyncio.Event()

    async def answer(delivery: Any) -> None:
        await go.wait()

    functions["one"].answer = answer
    spec = trigger(inputs=inputs(a=None), in_flight=10)
    async with running(spec) as first, running(spec) as second:
        await first.publish(A, *(event(str(i)) for i in range(20)))
        await until(lambda: len(functions["one"].given) == 20, seconds=5, what="all in hand")
        assert [w.health.snapshots()[0].in_flight for w in (first, second)] == [10, 10]
        go.set()
        await first.idle()
    assert sorted(functions["one"].ids, key=int) == [str(i) for i in range(20)]


@dataclass
class Handed:
    """A message in hand."""

    position: str
    attempt: int = 1
    stored: float = 0.0


def gather(*missing: int, most: int = 10) -> tuple[list[str], Takeover, asyncio.Event]:
    log: list[str] = []

    async def handler(batch: list[Any]) -> None:
        log.extend(one.position for one in batch)

    stop = asyncio.Event()
    takeover = Takeover(handler, *missing, most=most, patience=5.0, clock=ManualClock(), stop=stop)
    return log, takeover, stop


def hand(takeover: Takeover, *given: Handed) -> asyncio.Task[None]:
    return asyncio.ensure_future(takeover(list(given)))  # type: ignore[arg-type]


async def test_a_new_owner_begins_with_the_oldest_of_what_the_last_one_had() -> None:
    log, takeover, _ = gather(3)
    calls = [hand(takeover, Handed("10", 2)), hand(takeover, Handed("11"))]
    await takeover._clock.advance(0)  # type: ignore[attr-defined]
    assert log == []
    calls.append(hand(takeover, Handed("9", 2), Handed("8", 3)))
    await asyncio.gather(*calls)
    await hand(takeover, Handed("12"))
    assert log == ["8", "9", "10", "11", "12"]


async def test_with_nothing_missing_it_waits_for_nothing() -> None:
    log, takeover, _ = gather(0)
    await hand(takeover, Handed("2"))
    assert log == ["2"]


async def test_what_never_comes_is_waited_for_no_longer_than_the_ack_wait() -> None:
    log, takeover, _ = gather(2)
    call = hand(takeover, Handed("1", 2))
    clock: ManualClock = takeover._clock  # type: ignore[assignment]
    await clock.advance(4)
    assert log == []
    await clock.advance(2)
    await call
    assert log == ["1"]


async def test_a_full_hand_ends_the_gathering() -> None:
    log, takeover, _ = gather(5, most=2)
    await asyncio.gather(hand(takeover, Handed("2")), hand(takeover, Handed("1")))
    assert log == ["1", "2"]


async def test_a_stop_while_gathering_delivers_nothing() -> None:
    log, takeover, stop = gather(5)
    calls = [hand(takeover, Handed("2", 2)), hand(takeover, Handed("1"))]
    await takeover._clock.advance(0)  # type: ignore[attr-defined]
    stop.set()
    await asyncio.wait_for(asyncio.gather(*calls), 5)
    assert log == []
