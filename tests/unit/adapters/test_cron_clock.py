"""CronSource while clocks are changed: by daylight saving, by hand, from machine to machine."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ofevents.event import format_time
from tests.unit.adapters.clocks import SettableClock
from tests.unit.adapters.test_cron import START, Sink, ids, running, source, store_of

BERLIN = "Europe/Berlin"


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("UTC")).timestamp()


@pytest.mark.parametrize(
    ("schedule", "begin", "expected"),
    [
        # 02:00 becomes 03:00: what is due in the missing hour is due at its end, once.
        ("30 2 * * *", "2026-03-28T23:00", ["2026-03-29T01:00"]),
        ("0 3 * * *", "2026-03-28T23:00", ["2026-03-29T01:00"]),
        # 03:00 becomes 02:00: the first of the two.
        ("30 2 * * *", "2026-10-24T22:00", ["2026-10-25T00:30"]),
        ("0 3 * * *", "2026-10-24T22:00", ["2026-10-25T02:00"]),
        # Real time goes on.
        ("30 * * * *", "2026-03-28T23:45", ["2026-03-29T00:30", "2026-03-29T01:30"]),
        ("30 * * * *", "2026-10-24T23:45", ["2026-10-25T00:30", "2026-10-25T01:30"]),
    ],
)
@pytest.mark.parametrize("with_store", [True, False])
async def test_daylight_saving(
    schedule: str, begin: str, expected: list[str], with_store: bool
) -> None:
    clock, sink = SettableClock(utc(begin)), Sink()
    store = store_of(clock) if with_store else None
    span = utc(expected[-1]) + 2 * 3600 - clock.now() if len(expected) == 1 else 2 * 3600
    async with running(clock, source(clock, schedule, timezone=BERLIN), sink, store):
        await clock.advance(span)
    assert sink.ids == [format_time(utc(one)) for one in expected]


@pytest.mark.parametrize("with_store", [True, False])
async def test_a_clock_that_is_set_back_repeats_nothing(with_store: bool) -> None:
    clock, sink = SettableClock(START), Sink()
    store = store_of(clock) if with_store else None
    async with running(clock, source(clock), sink, store):
        await clock.advance(100)
        clock.jump(-50)
        await clock.advance(50)
        assert sink.ids == ids(*range(10, 101, 10))
        await clock.advance(60)
    assert sink.ids == ids(*range(10, 161, 10))


async def test_a_restart_before_the_last_run_repeats_nothing() -> None:
    clock, sink = SettableClock(START), Sink()
    store = store_of(clock)
    async with running(clock, source(clock), sink, store):
        await clock.advance(100)
    clock.jump(-7200)
    async with running(clock, source(clock), sink, store):
        await clock.advance(7200)
        assert sink.ids == ids(*range(10, 101, 10))
        await clock.advance(10)
    assert sink.ids == ids(*range(10, 111, 10))


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("skip", [600, 7800]),
        ("one", [600, 7200, 7800]),
        ("all", list(range(600, 7801, 600))),
    ],
)
async def test_a_clock_that_is_set_forward(missed: Any, expected: list[int]) -> None:
    """While it runs: two hours are gone, and were missed."""
    clock, sink = SettableClock(START), Sink()
    cron = source(clock, "*/10 * * * *", missed_runs=missed)
    async with running(clock, cron, sink, store_of(clock)):
        await clock.advance(600)
        clock.jump(7500 - 600)
        await clock.advance(300)
    assert sink.ids == ids(*expected)


@pytest.mark.parametrize("missed", ["one", "all"])
async def test_two_workers_make_up_for_missed_runs_once_between_them(missed: Any) -> None:
    clock = SettableClock(START)
    store, first, sinks = store_of(clock), Sink(), [Sink(), Sink()]
    spec = {"schedule": "0 * * * *", "missed_runs": missed}
    async with running(clock, source(clock, **spec), first, store):
        await clock.advance(3600)
    clock.jump(10 * 3600 + 1800)
    async with (
        running(clock, source(clock, **spec), sinks[0], store),
        running(clock, source(clock, **spec), sinks[1], store),
    ):
        # Who finds a time claimed looks again in a second.
        for _ in range(12):
            await clock.advance(1)
    begin = 2 if missed == "all" else 11
    made_up = ids(*(hour * 3600 for hour in range(begin, 12)))
    assert sorted(sinks[0].ids + sinks[1].ids) == made_up


@pytest.mark.parametrize("skew", [0.4, 5.0, 25.0])
async def test_machines_whose_clocks_differ_emit_each_time_once(skew: float) -> None:
    behind, ahead = SettableClock(START), SettableClock(START + skew)
    store, sinks = store_of(behind), [Sink(), Sink()]
    async with (
        running(behind, source(behind), sinks[0], store),
        running(ahead, source(ahead), sinks[1], store),
    ):
        for _ in range(400):
            await behind.advance(0.25)
            await ahead.advance(0.25)
    times = Counter(sinks[0].ids + sinks[1].ids)
    assert set(times.values()) == {1}
    assert set(ids(*range(30, 101, 10))) <= times.keys()


async def test_a_worker_that_freezes_in_its_claim_loses_no_time_and_writes_nothing_back() -> None:
    """As SIGSTOP does it: meanwhile another one has taken the time over and gone on."""
    clock = SettableClock(START)
    store, frozen, living = store_of(clock), Sink(), Sink()
    frozen.held = asyncio.Event()
    async with running(clock, source(clock), frozen, store):
        await clock.advance(10)
        async with running(clock, source(clock), living, store):
            for _ in range(100):
                await clock.advance(1)
            before = await store.get("cron/default/clock/tick")
            frozen.held.set()
            await clock.advance(0)
            after = await store.get("cron/default/clock/tick")
            assert before is not None and after is not None
            assert after.value == before.value, "the position went back"
            await clock.advance(20)
    emitted = Counter(living.ids + frozen.ids)
    assert set(ids(*range(10, 121, 10))) <= emitted.keys()
    assert {id for id, times in emitted.items() if times > 1} <= set(ids(10))
