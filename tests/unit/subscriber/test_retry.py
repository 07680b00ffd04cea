"""Retry: what is called again, when, how often, and what is handed back."""

from __future__ import annotations

import asyncio
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofevents.clock import ManualClock
from ofevents.errors import (
    BusFull,
    Disconnected,
    Misconfigured,
    OfeventsError,
    Rejected,
    TooLarge,
    Unavailable,
)
from ofevents.ports import Delivery, Reply
from ofevents.subscriber import Backoff, Exhausted, GivenUp, Postponed, Retry, TimedOut
from tests.unit.subscriber.rig import OWNER, Scripted, delivery, metric, settled


def retrying(
    inner: Scripted,
    clock: ManualClock,
    *,
    retries: int = 5,
    hold: float = inf,
    chance: float = 0.5,
) -> Retry:
    backoff = Backoff(retries, first=1.0, longest=60.0, hold=hold)
    return Retry(inner, backoff, subscriber=OWNER, clock=clock, chance=lambda: chance)


async def run(subscriber: Retry, clock: ManualClock, given: Delivery) -> Reply | OfeventsError:
    """The outcome, time moving as fast as the subscriber waits."""
    call = asyncio.create_task(subscriber.deliver(given))
    await settled(clock)
    while not call.done():
        assert clock.sleeping, "it neither ends nor waits on the clock"
        await clock.advance(1.0)
    error = call.exception()
    if error is None:
        return call.result()
    assert isinstance(error, OfeventsError), error
    return error


async def test_the_first_success_ends_it() -> None:
    clock = ManualClock()
    inner = Scripted([Unavailable("a"), TimedOut("b")])
    before = metric("ofevents_retried_total", reason="TimedOut")
    outcome = await run(retrying(inner, clock), clock, delivery())
    assert outcome == Reply(200)
    assert [given.attempt for given in inner.given] == [0, 1, 2]
    assert clock.monotonic() == 2.0  # 0.5 * 1 s, then 0.5 * 2 s, seen at whole seconds
    assert metric("ofevents_retried_total", reason="TimedOut") == before + 1


async def test_retries_are_used_up() -> None:
    clock = ManualClock()
    inner = Scripted([Unavailable(f"no {n}", status=503) for n in range(9)])
    outcome = await run(retrying(inner, clock, retries=2), clock, delivery())
    assert isinstance(outcome, Exhausted)
    assert len(inner.given) == 3
    assert outcome.delivery.attempt == 3
    assert str(outcome.error) == "no 2"
    assert str(outcome) == "gave up after 3 calls: no 2"
    assert outcome.reason == "RetriesExhausted"


async def test_attempts_count_across_moves() -> None:
    clock = ManualClock()
    inner = Scripted([Unavailable("no")] * 9)
    outcome = await run(retrying(inner, clock, retries=5), clock, delivery(attempt=5))
    assert isinstance(outcome, Exhausted)
    assert len(inner.given) == 1


async def test_no_retries_is_one_call() -> None:
    clock = ManualClock()
    inner = Scripted([Unavailable("no")])
    outcome = await run(retrying(inner, clock, retries=0), clock, delivery())
    assert isinstance(outcome, Exhausted)
    assert len(inner.given) == 1


async def test_a_refused_event_is_given_up_at_once() -> None:
    clock = ManualClock()
    inner = Scripted([Unavailable("busy"), Rejected("bad amount", status=422)])
    outcome = await run(retrying(inner, clock), clock, delivery())
    assert isinstance(outcome, GivenUp)
    assert not isinstance(outcome, Exhausted)
    assert (outcome.reason, str(outcome)) == ("Rejected", "bad amount")
    assert outcome.delivery.attempt == 2
    assert isinstance(outcome.error, Rejected)


async def test_a_wait_beyond_hold_is_postponed() -> None:
    clock = ManualClock()
    inner = Scripted([Unavailable("a"), Unavailable("b", delay=30.0)])
    outcome = await run(retrying(inner, clock, hold=10.0), clock, delivery())
    assert isinstance(outcome, Postponed)
    assert len(inner.given) == 2
    assert outcome.delivery.attempt == 2
    # Called at 0 and 0.5 s; then Retry-After 30 s and half of 2 s.
    assert outcome.delivery.due == ManualClock().now() + 31.5
    assert outcome.delay == 31.0
    assert outcome.reason == "Unavailable"
    assert outcome.error.delay == 30.0


async def test_hold_counts_from_the_beginning() -> None:
    clock = ManualClock()
    inner = Scripted([Unavailable("no")] * 9)
    outcome = await run(retrying(inner, clock, hold=3.0, chance=0.999), clock, delivery())
    assert isinstance(outcome, Postponed)
    assert len(inner.given) == 3, "1 s and 2 s fit into hold, 4 s more do not"
    assert clock.monotonic() <= 3.0


async def test_what_the_gate_postpones_passes_through() -> None:
    clock = ManualClock()
    error = Unavailable("no")
    inner = Scripted([error, Postponed(delivery(), "SubscriberAway", error, 0.0)])
    outcome = await run(retrying(inner, clock, retries=1), clock, delivery())
    assert isinstance(outcome, Postponed)
    assert outcome.reason == "SubscriberAway"
    assert outcome.delivery == delivery()


async def test_hold_is_exact() -> None:
    for hold, made in ((2.998, 3), (2.9, 2)):
        clock = ManualClock()
        inner = Scripted([Unavailable("no")] * 9)
        call = asyncio.create_task(
            retrying(inner, clock, hold=hold, chance=0.999).deliver(delivery())
        )
        for _ in range(30):
            await clock.advance(0.111)
        assert isinstance(call.exception(), Postponed)
        assert len(inner.given) == made


@pytest.mark.parametrize("error", [Disconnected("bus"), BusFull("bus")])
async def test_the_bus_is_not_the_subscriber(error: OfeventsError) -> None:
    clock = ManualClock()
    outcome = await run(retrying(Scripted([error]), clock), clock, delivery())
    assert outcome is error


async def test_cancelled_while_it_waits() -> None:
    clock = ManualClock()
    inner = Scripted([Unavailable("no")] * 9)
    call = asyncio.create_task(retrying(inner, clock).deliver(delivery()))
    await settled(clock)
    call.cancel()
    await asyncio.wait({call})
    assert call.cancelled()
    assert len(inner.given) == 1


errors = st.one_of(
    st.builds(Unavailable, st.just("no"), delay=st.floats(0, 100)),
    st.builds(Misconfigured, st.just("no"), delay=st.floats(0, 100)),
    st.just(Rejected("no")),
    st.just(TooLarge("no")),
)


@given(
    script=st.lists(errors, max_size=12),
    retries=st.integers(0, 6),
    attempt=st.integers(0, 8),
    hold=st.one_of(st.just(inf), st.floats(0, 120)),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_never_more_calls_than_promised(
    script: list[Exception], retries: int, attempt: int, hold: float, chance: float
) -> None:
    async def check() -> None:
        clock = ManualClock()
        inner = Scripted(list(script))
        subscriber = retrying(inner, clock, retries=retries, hold=hold, chance=chance)
        outcome = await run(subscriber, clock, delivery(attempt=attempt))
        made = len(inner.given)
        assert made <= max(1, retries + 1 - attempt)
        assert clock.monotonic() <= hold + made  # `run` moves in whole seconds
        asked = sum(getattr(error, "delay", 0.0) for error in script[: made - 1])
        most = asked + sum(min(60.0, 2.0**n) for n in range(attempt, attempt + made - 1))
        assert asked <= clock.monotonic() + 1e-6
        assert clock.monotonic() <= most + made
        if isinstance(outcome, Exhausted):
            assert outcome.delivery.attempt == max(retries, attempt) + 1
        if isinstance(outcome, Postponed) and outcome.reason == "Unavailable":
            assert outcome.delivery.due >= clock.now()
            assert outcome.delivery.attempt <= retries

    asyncio.run(check())


@given(attempt=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_a_wait_is_within_its_bound(attempt: int, chance: float) -> None:
    backoff = Backoff(5, first=0.5, longest=60.0, hold=inf)
    wait = backoff.wait(attempt, 3.0, chance)
    assert 3.0 <= wait <= 3.0 + min(60.0, 0.5 * 2.0 ** min(attempt - 1, 100))
