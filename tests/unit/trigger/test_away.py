"""A subscriber that is away: what is called, what is counted, what all workers agree on.

Workers run on the virtual clock; the function is down and up as each test says.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import pytest

from ofevents.api.resolved import ResolvedBus
from ofevents.bus.memory import MemoryBus
from ofevents.clock import ManualClock
from ofevents.errors import Misconfigured, Rejected, Unavailable
from ofevents.ports import Delivery, Reply
from ofevents.subscriber import Backoff
from ofevents.trigger.away import key_of
from ofevents.trigger.evidence import AWAY, Evidence
from tests.unit.trigger.rig import (
    DEAD,
    A,
    Functions,
    Running,
    event,
    inputs,
    metric,
    running,
    subscriber,
    trigger,
)

ONE = {"namespace": "shop", "name": "trg", "subscriber": "one"}
KEY = key_of("shop", "trg", "one")
IDS = [str(n) for n in range(40)]


@dataclass
class Function:
    """Down while `error` is set; keeps when it was called, and what it accepted.

    With `poison` it dies of that event for a second, and what is in hand dies with it;
    `refuses` is answered with `refusal`.
    """

    clock: ManualClock
    error: Callable[[], Exception] | None = None
    takes: float = 0.0
    poison: str = ""
    refuses: str = ""
    refusal: Exception = field(default_factory=lambda: Unavailable("answered 500", status=500))
    down_until: float = -inf
    deaths: int = 0
    calls: list[tuple[float, str]] = field(default_factory=list)
    accepted: Counter[str] = field(default_factory=Counter)

    async def __call__(self, delivery: Delivery) -> Reply | None:
        id = delivery.events[-1].id
        self.calls.append((self.clock.monotonic(), id))
        if self.error is not None:
            raise self.error()
        if self.clock.monotonic() < self.down_until:
            raise Unavailable("connection refused")
        if id == self.refuses:
            raise self.refusal
        life = self.deaths
        if self.takes:
            await self.clock.sleep(self.takes)
        if id == self.poison and life == self.deaths:
            self.deaths += 1
            self.down_until = self.clock.monotonic() + 1.0
        if life != self.deaths:
            raise Unavailable("connection reset")
        self.accepted[id] += 1
        return None

    def since(self, moment: float) -> int:
        return sum(at >= moment for at, _ in self.calls)


def unavailable() -> Exception:
    return Unavailable("answered 503", status=503)


def misconfigured() -> Exception:
    return Misconfigured("answered 404", status=404)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def function(functions: Functions, clock: ManualClock) -> Function:
    made = Function(clock)
    functions["one"].answer = made
    return made


def bus(name: str) -> ResolvedBus:
    return ResolvedBus(driver="memory", options={"name": name})


async def passes(clock: ManualClock, seconds: float) -> None:
    """Time passes in small steps, so that whatever a step wakes gets its turn."""
    for _ in range(round(seconds / 0.05)):
        await clock.advance(0.05)


async def letters(worker: Running) -> list[tuple[str, str]]:
    """Reason and event of each dead letter."""
    found = []
    for one in await worker.messages(DEAD):
        assert isinstance(one.body, Delivery)
        found.append((one.headers["ofe-dead-reason"], one.body.events[-1].id))
    return found


@pytest.mark.parametrize("workers", [1, 2, 3])
async def test_while_it_is_away_only_probes_are_called_and_then_all_arrives(
    function: Function, clock: ManualClock, workers: int
) -> None:
    one = subscriber(delivery={"retries": 2})
    spec = trigger(one, inputs=inputs(a=None), bus=bus(f"away-{workers}"))
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(running(spec, clock)) for _ in range(workers)]
        function.error = unavailable
        await made[0].publish(A, *map(event, IDS))
        await passes(clock, 1.0)
        away_from = clock.monotonic()
        await passes(clock, 60.0)
        assert 60 / 4 <= function.since(away_from) <= 2 * 60 + 1
        assert metric("ofevents_subscriber_away", **ONE) == 1
        (shown,) = made[0].health.snapshots()
        assert (shown.state, shown.reason) == ("ready", "SubscriberAway")
        assert shown.message == "one: answered 503"
        function.error = None
        await passes(clock, 5.0)
        assert function.accepted == Counter(IDS)
        assert await letters(made[0]) == []
        assert metric("ofevents_subscriber_away", **ONE) == 0
        assert await made[0].bus.store.get(KEY) is None
        assert {one.health.snapshots()[0].reason for one in made} == {"Running"}


async def test_at_most_two_calls_a_second_in_any_second(
    function: Function, clock: ManualClock
) -> None:
    spec = trigger(inputs=inputs(a=None), bus=bus("rate"))
    async with running(spec, clock) as worker, running(spec, clock):
        function.error = unavailable
        await worker.publish(A, *map(event, IDS))
        await passes(clock, 1.0)
        first = clock.monotonic()
        await passes(clock, 30.0)
        moments = [at for at, _ in function.calls if at >= first]
        gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
        assert len(gaps) > 8 and min(gaps) >= 0.5
        function.error = None
        await passes(clock, 5.0)


async def test_a_probe_that_hangs_does_not_delay_the_return(
    function: Function, clock: ManualClock
) -> None:
    spec = trigger(inputs=inputs(a=None), bus=bus("hang"))
    async with running(spec, clock) as worker:
        function.error = unavailable
        await worker.publish(A, *map(event, IDS))
        await passes(clock, 5.0)
        function.error, function.takes = None, 1000.0
        await passes(clock, 30.0)
        hanging = len(function.calls)
        function.takes = 0.0
        await passes(clock, 5.0)
        assert len(function.calls) > hanging and function.accepted
        await worker.kill()


async def test_probes_rotate_over_the_events(function: Function, clock: ManualClock) -> None:
    async with running(trigger(inputs=inputs(a=None), bus=bus("rotate")), clock) as worker:
        function.error = unavailable
        await worker.publish(A, *map(event, IDS[:5]))
        await passes(clock, 1.0)
        first = clock.monotonic()
        await passes(clock, 20.0)
        probed = [id for at, id in function.calls if at >= first]
        assert set(probed[:5]) == set(IDS[:5])
        await worker.kill()


@pytest.mark.parametrize(("retries", "judged"), [(0, 2), (1, 0)])
async def test_however_long_it_is_away_no_event_uses_up_its_retries(
    function: Function, clock: ManualClock, retries: int, judged: int
) -> None:
    """Neither in the call that shows that it is away nor in any number of probes.

    Those before it, which two events alone have made, count: without a retry left for
    these two, they are `judged` before there is any evidence.
    """
    one = subscriber(delivery={"retries": retries})
    spec = trigger(one, inputs=inputs(a=None), bus=bus(f"long-{retries}"))
    async with running(spec, clock) as worker:
        function.error = unavailable
        await worker.publish(A, *map(event, IDS[:4]))
        await passes(clock, 60.0)
        spared = IDS[judged:4]
        called = Counter(id for _, id in function.calls)
        assert min(called[id] for id in spared) > 1 + retries
        function.error = None
        await passes(clock, 5.0)
        assert function.accepted == Counter(spared)
        assert await letters(worker) == [("RetriesExhausted", id) for id in IDS[:judged]]


async def test_probes_reach_events_beyond_those_in_hand(
    function: Function, clock: ManualClock
) -> None:
    """A hand full of events that fail must not keep a healthy one from being tried."""
    spec = trigger(inputs=inputs(a=None), bus=bus("beyond"), in_flight=4)
    async with running(spec, clock) as worker:
        function.error = unavailable
        await worker.publish(A, *map(event, IDS[:10]))
        await passes(clock, 60.0)
        assert {id for _, id in function.calls} == set(IDS[:10])
        await worker.kill()


def narrow(monkeypatch: pytest.MonkeyPatch, *groups: str) -> None:
    """Have the bus hand out one by one what these groups read, such as `trigger.` or `inbox.`"""
    consume = MemoryBus.consume

    async def consume_one(
        self: MemoryBus, topics: Any, group: str, *given: Any, in_flight: int, **more: Any
    ) -> None:
        most = 1 if group.startswith(groups) else in_flight
        await consume(self, topics, group, *given, in_flight=most, **more)

    monkeypatch.setattr(MemoryBus, "consume", consume_one)
    monkeypatch.setattr(MemoryBus, "features", replace(MemoryBus.features, wide=False))


async def test_probes_reach_events_that_the_bus_hands_out_one_by_one(
    function: Function, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that it waits for must not be the only one that is tried."""
    narrow(monkeypatch, "inbox.")
    async with running(trigger(inputs=inputs(a=None), bus=bus("narrow")), clock) as worker:
        function.error = unavailable
        await worker.publish(A, *map(event, IDS[:8]))
        await passes(clock, 1.0)
        first = clock.monotonic()
        await passes(clock, 60.0)
        probed = [id for at, id in function.calls if at >= first]
        assert set(probed[:8]) == set(IDS[:8])
        await worker.kill()


async def test_an_outage_is_told_from_poison_where_the_bus_hands_out_one_by_one(
    function: Function, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one must not use up its retries before another one is called."""
    narrow(monkeypatch, "trigger.", "inbox.")
    one = subscriber(delivery={"retries": 3, "backoff": 0.5, "max_backoff": 0.5})
    async with running(trigger(one, inputs=inputs(a=None), bus=bus("first")), clock) as worker:
        function.error = unavailable
        await worker.publish(A, *map(event, IDS[:8]))
        await passes(clock, 10.0)
        assert metric("ofevents_subscriber_away", **ONE) == 1
        function.error = None
        await passes(clock, 30.0)
        assert set(function.accepted) == set(IDS[:8])
        assert await letters(worker) == []


async def test_one_event_that_fails_alone_is_poison(function: Function, clock: ManualClock) -> None:
    one = subscriber(delivery={"retries": 3})
    async with running(trigger(one, inputs=inputs(a=None), bus=bus("alone")), clock) as worker:
        function.refuses = "bad"
        await worker.publish(A, event("bad"))
        await passes(clock, 5.0)
        assert await letters(worker) == [("RetriesExhausted", "bad")]
        assert len(function.calls) == 4
        assert metric("ofevents_subscriber_away", **ONE) == 0


async def test_an_event_that_alone_gets_404_is_poison_where_others_are_accepted(
    function: Function, clock: ManualClock
) -> None:
    one = subscriber(delivery={"retries": 3})
    async with running(trigger(one, inputs=inputs(a=None), bus=bus("404")), clock) as worker:
        function.refuses, function.refusal = "bad", misconfigured()
        await worker.publish(A, event("good"))
        await passes(clock, 0.5)
        await worker.publish(A, event("bad"))
        await passes(clock, 5.0)
        assert await letters(worker) == [("RetriesExhausted", "bad")]
        assert worker.health.snapshots()[0].state == "ready"


async def test_misconfigured_from_the_first_call_on_dead_letters_nothing(
    function: Function, clock: ManualClock
) -> None:
    one = subscriber(delivery={"retries": 0})
    async with running(trigger(one, inputs=inputs(a=None), bus=bus("wrong")), clock) as worker:
        function.error = misconfigured
        await worker.publish(A, event("1"))
        await passes(clock, 30.0)
        (shown,) = worker.health.snapshots()
        assert (shown.state, shown.reason) == ("stalled", "SubscriberMisconfigured")
        function.error = None
        await passes(clock, 5.0)
        assert function.accepted == Counter(["1"])
        assert await letters(worker) == []


async def test_who_only_heard_of_a_refusal_holds_up_no_roll_out(
    function: Function, clock: ManualClock
) -> None:
    spec = trigger(subscriber(), inputs=inputs(a=None), bus=bus("heard"))
    async with running(spec, clock) as worker:
        function.error = misconfigured
        await worker.publish(A, *map(event, IDS[:5]))
        await passes(clock, 10.0)
        async with running(spec, clock) as new:
            await passes(clock, 0.1)
            (shown,) = new.health.snapshots()
            assert (shown.state, shown.reason) == ("ready", "SubscriberAway")
            assert "another worker was refused" in shown.message
            await worker.kill()
            await passes(clock, 60.0)
            (shown,) = new.health.snapshots()  # its own probe by now
            assert (shown.state, shown.reason) == ("stalled", "SubscriberMisconfigured")


async def test_a_refusal_is_an_answer_of_one_who_is_there(
    function: Function, clock: ManualClock
) -> None:
    async with running(trigger(inputs=inputs(a=None), bus=bus("refused")), clock) as worker:
        function.error = unavailable
        await worker.publish(A, *map(event, IDS[:4]))
        await passes(clock, 3.0)
        function.error = lambda: Rejected("answered 422", status=422)
        await passes(clock, 5.0)
        assert sorted(await letters(worker)) == [("Rejected", id) for id in IDS[:4]]
        assert metric("ofevents_subscriber_away", **ONE) == 0


@pytest.mark.parametrize("seed", range(5))
async def test_an_event_that_kills_the_function_uses_up_its_own_retries_only(
    function: Function, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    # As in life: two events that failed together do not meet again and again, and the
    # retries of one take longer than the function's restart. With fewer than three events
    # left there is no evidence that it is away.
    chance = random.Random(seed)

    def wait(backoff: Backoff, attempt: int, least: float, _: float) -> float:
        return least + chance.random() * min(backoff.longest, backoff.first * 2.0 ** (attempt - 1))

    monkeypatch.setattr(Backoff, "wait", wait)
    function.takes, function.poison = 0.1, "poison"
    one = subscriber(delivery={"retries": 5, "concurrency": 8, "backoff": 1.0, "max_backoff": 60.0})
    spec = trigger(one, inputs=inputs(a=None), bus=bus(f"deadly-{seed}"))
    async with running(spec, clock) as worker, running(spec, clock):
        others = [str(n) for n in range(200)]
        events = [*map(event, others[:60]), event("poison"), *map(event, others[60:])]
        await worker.publish(A, *events)
        await passes(clock, 200.0)
        assert await letters(worker) == [("RetriesExhausted", "poison")]
        assert set(function.accepted) == set(others)
        assert function.deaths <= 14


async def test_the_failures_that_told_of_an_outage_count_against_no_event(
    function: Function, clock: ManualClock
) -> None:
    one = subscriber(delivery={"retries": 1, "backoff": 5.0, "max_backoff": 5.0})
    async with running(trigger(one, inputs=inputs(a=None), bus=bus("told")), clock) as worker:
        for _ in range(3):
            function.error = unavailable
            await worker.publish(A, *(event(f"{clock.now()}-{n}") for n in range(5)))
            await passes(clock, 8.0)
            function.error = None
            await passes(clock, 0.2)
        await passes(clock, 10.0)
        assert len(function.accepted) == 15
        assert await letters(worker) == []


async def test_a_worker_whose_calls_succeed_refutes_what_another_has_seen(
    function: Function, clock: ManualClock
) -> None:
    """One worker's way to the function is broken: the others must not stop for it."""
    spec = trigger(inputs=inputs(a=None), bus=bus("refute"))
    async with running(spec, clock) as worker:
        await worker.publish(A, *map(event, IDS[:5]))
        await passes(clock, 1.0)
        inboxed = metric("ofevents_inboxed_total", **ONE, reason="SubscriberAway")
        found = Evidence(("x", "y", "z"), False, AWAY, "no route", since=clock.now() - 10)
        await worker.bus.store.put(KEY, found.encode())
        await passes(clock, 3.0)
        assert await worker.bus.store.get(KEY) is None
        assert metric("ofevents_inboxed_total", **ONE, reason="SubscriberAway") == inboxed


async def test_what_was_known_outlives_the_worker(function: Function, clock: ManualClock) -> None:
    spec = trigger(inputs=inputs(a=None), bus=bus("outlives"))
    async with running(spec, clock) as worker:
        function.error = unavailable
        await worker.publish(A, *map(event, IDS[:10]))
        await passes(clock, 10.0)
        await worker.kill()
        made = len(function.calls)
        async with running(spec, clock) as heir:
            await passes(clock, 4.0)
            assert 1 <= len(function.calls) - made <= 3
            function.error = None
            await passes(clock, 5.0)
            assert set(function.accepted) == set(IDS[:10])
            assert await letters(heir) == []


@pytest.mark.parametrize("seed", range(6))
async def test_any_outages_lose_nothing_and_use_up_no_retries(
    function: Function, clock: ManualClock, seed: int
) -> None:
    """Outages of any length and kind, workers that die: all arrive, none is dead-lettered."""
    chance = random.Random(seed)
    function.takes = 0.02
    one = subscriber(delivery={"retries": 5, "backoff": 1.0, "max_backoff": 10.0})
    spec = trigger(one, inputs=inputs(a=None), bus=bus(f"any-{seed}"))
    sent: list[str] = []
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(running(spec, clock)) for _ in range(2)]
        for round in range(8):
            function.error = chance.choice([None, unavailable, misconfigured, unavailable])
            fresh = [f"{round}-{n}" for n in range(chance.randrange(5, 40))]
            sent += fresh
            await made[0].publish(A, *map(event, fresh))
            await passes(clock, chance.uniform(0.1, 20))
            if chance.random() < 0.4:
                await made.pop(1).kill()
                made.append(await stack.enter_async_context(running(spec, clock)))
        function.error = None
        await passes(clock, 45.0)
        assert set(function.accepted) == set(sent)
        assert await letters(made[0]) == []
