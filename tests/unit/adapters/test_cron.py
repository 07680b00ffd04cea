"""CronSource: each time once, whatever the clock, the bus and other workers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofevents.api.cron import CronSpec
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.errors import ConfigError, PermanentError, TemporaryError
from ofevents.event import Event, format_time
from ofevents.ports import Entry, SourceIdentity, Store
from ofevents_adapters.cron import LATE, CronSource
from ofevents_adapters.cron_schedule import between, schedule_of
from ofevents_adapters.cron_turns import CLAIM
from tests.unit.adapters.clocks import SettableClock

START = 1_770_000_000.0 - 1_770_000_000.0 % 3600
IDENTITY = SourceIdentity("default", "clock", "cron", "tick")


class Sink:
    """An emit that remembers; `fails` is raised by the next calls, `held` blocks them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.fails: list[Exception] = []
        self.held: asyncio.Event | None = None
        self.entered = 0

    async def __call__(self, *events: Event) -> None:
        self.entered += 1
        if self.held is not None:
            await self.held.wait()
        if self.fails:
            raise self.fails.pop(0)
        self.events += events

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.events]


def store_of(clock: SettableClock) -> MemoryStore:
    return MemoryStore(Broker(max_bytes=10**9, window=120), clock)


def source(clock: SettableClock, schedule: str = "@every 10s", **spec: Any) -> CronSource:
    return CronSource(CronSpec(schedule=schedule, **spec), IDENTITY, clock=clock)


@asynccontextmanager
async def running(
    clock: SettableClock,
    cron: CronSource,
    sink: Sink,
    store: Store | None,
    started: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[None]:
    task = asyncio.ensure_future(cron.run(sink, store=store, started=started))
    try:
        await clock.advance(0)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled():
        task.result()


def ids(*seconds: float) -> list[str]:
    return [format_time(START + one) for one in seconds]


async def test_an_event_says_when_it_was_due() -> None:
    clock, sink, shown = SettableClock(START + 3), Sink(), []
    cron = source(clock, "0 * * * *", timezone="Europe/Berlin", data={"shift": 2})
    async with running(clock, cron, sink, None, shown.append):
        await clock.advance(3600)
    (event,) = sink.events
    assert shown == ["0 * * * * Europe/Berlin"]
    assert event.attributes == {
        "specversion": "1.0",
        "id": format_time(START + 3600),
        "source": "/ofevents/default/clock/tick",
        "type": "ofevents.cron",
        "time": format_time(START + 3600),
        "datacontenttype": "application/json",
    }
    assert event.value == {"scheduled": event.id, "shift": 2}


@pytest.mark.parametrize(("data", "rest"), [(None, {}), ([1], {"data": [1]}), ({"a": 1}, {"a": 1})])
async def test_the_spec_s_data_goes_along(data: object, rest: dict[str, object]) -> None:
    clock, sink = SettableClock(START), Sink()
    async with running(clock, source(clock, data=data), sink, None):
        await clock.advance(10)
    assert sink.events[0].value == {"scheduled": sink.ids[0], **rest}


class Slow(Sink):
    """An emit that takes a second."""

    def __init__(self, clock: SettableClock) -> None:
        super().__init__()
        self._clock = clock

    async def __call__(self, *events: Event) -> None:
        await self._clock.sleep(1.0)
        await super().__call__(*events)


class Distant(MemoryStore):
    """A store whose answers take a moment, so that others act in between."""

    async def get(self, key: str) -> Entry | None:
        entry = await super().get(key)
        await self._clock.sleep(0.01)
        return entry


async def test_two_workers_emit_each_time_once_between_them() -> None:
    """Both look at it in the same moment, and emitting takes its time."""
    clock = SettableClock(START)
    store = Distant(Broker(max_bytes=10**9, window=120), clock)
    sinks = [Slow(clock), Slow(clock)]
    async with (
        running(clock, source(clock), sinks[0], store),
        running(clock, source(clock), sinks[1], store),
    ):
        await clock.advance(102)
    assert sorted(sinks[0].ids + sinks[1].ids) == ids(*range(10, 101, 10))


async def test_a_worker_that_is_stopped_in_emit_leaves_its_time_to_the_next() -> None:
    clock = SettableClock(START)
    store, stopped, living = store_of(clock), Sink(), Sink()
    stopped.held = asyncio.Event()
    async with running(clock, source(clock), stopped, store):
        await clock.advance(10)
        assert stopped.entered == 1
    async with running(clock, source(clock), living, store):
        await clock.advance(0)
    assert living.ids == ids(10)


async def test_a_worker_that_dies_in_emit_loses_no_time() -> None:
    clock = SettableClock(START)
    store, dying, living = store_of(clock), Sink(), Sink()
    dying.held = asyncio.Event()
    async with running(clock, source(clock), dying, store):
        await clock.advance(10)
        entry = await store.get("cron/default/clock/tick")
    assert entry is not None
    await store.put("cron/default/clock/tick", entry.value)  # as a killed process leaves it
    async with running(clock, source(clock), living, store):
        await clock.advance(CLAIM - 1)
        assert living.ids == []
        await clock.advance(2)
    assert living.ids[0] == ids(10)[0]


async def test_a_claim_of_a_slow_worker_is_taken_over_and_its_answer_is_no_error() -> None:
    clock = SettableClock(START)
    store, slow, quick = store_of(clock), Sink(), Sink()
    slow.held = asyncio.Event()
    async with running(clock, source(clock), slow, store):
        await clock.advance(10)
        async with running(clock, source(clock), quick, store):
            await clock.advance(CLAIM + 5)
            slow.held.set()
            await clock.advance(30)
    assert slow.ids[0] == quick.ids[0] == ids(10)[0]
    emitted = sorted(set(slow.ids + quick.ids))
    assert emitted == ids(*range(10, 71, 10))


async def test_an_emit_that_fails_is_tried_again_with_the_same_id() -> None:
    clock, sink = SettableClock(START), Sink()
    sink.fails = [TemporaryError("full", delay=3), TemporaryError("full")]
    async with running(clock, source(clock), sink, store_of(clock)):
        await clock.advance(19)
        assert sink.ids == ids(10)
        await clock.advance(1)
    assert (sink.ids, sink.entered) == (ids(10, 20), 4)


async def test_what_nobody_can_take_does_not_stop_the_clock() -> None:
    clock, sink = SettableClock(START), Sink()
    sink.fails = [PermanentError("refused")]
    async with running(clock, source(clock), sink, store_of(clock)):
        await clock.advance(20)
    assert sink.ids == ids(20)


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("skip", ids(960, 1020)),
        ("one", ids(960, 1020)),
        ("all", ids(*range(120, 1021, 60))),
    ],
)
async def test_missed_runs_after_a_stop(missed: Any, expected: list[str]) -> None:
    clock = SettableClock(START)
    store, sink = store_of(clock), Sink()
    spec = {"schedule": "* * * * *", "missed_runs": missed}
    async with running(clock, source(clock, **spec), Sink(), store):
        await clock.advance(60)
    clock.jump(900)  # at 960 exactly
    async with running(clock, source(clock, **spec), sink, store):
        await clock.advance(60)
    # 960 is due now, so it is on time: `one` has no reason to run a missed one besides.
    assert sink.ids == expected


async def test_one_missed_run_stands_for_all() -> None:
    clock = SettableClock(START)
    store, sink = store_of(clock), Sink()
    spec = {"schedule": "0 * * * *", "missed_runs": "one"}
    async with running(clock, source(clock, **spec), Sink(), store):
        await clock.advance(3600)
    clock.jump(10 * 3600 + 1800)
    async with running(clock, source(clock, **spec), sink, store):
        await clock.advance(0)
    assert sink.ids == ids(11 * 3600)


async def test_a_time_during_a_roll_out_is_not_missed() -> None:
    clock = SettableClock(START)
    store, sink = store_of(clock), Sink()
    async with running(clock, source(clock, "0 * * * *"), Sink(), store):
        await clock.advance(3599)
    clock.jump(LATE - 2)
    async with running(clock, source(clock, "0 * * * *"), sink, store):
        await clock.advance(0)
    assert sink.ids == ids(3600)


async def test_without_a_bus_only_skip_is_possible() -> None:
    clock = SettableClock(START)
    cron = source(clock, missed_runs="all")
    with pytest.raises(ConfigError, match=r"spec.cron.tick.missedRuns: .*needs an EventBus"):
        await cron.run(Sink(), store=None, started=lambda _: None)


async def test_without_a_bus_it_goes_on_over_a_reconnect() -> None:
    clock, sink = SettableClock(START), Sink()
    cron = source(clock)
    async with running(clock, cron, sink, None):
        await clock.advance(15)
    await clock.advance(10)
    async with running(clock, cron, sink, None):
        await clock.advance(0)
    assert sink.ids == ids(10, 20)


async def test_a_removed_entry_of_the_store_costs_nothing() -> None:
    clock, sink = SettableClock(START), Sink()
    store = store_of(clock)
    async with running(clock, source(clock), sink, store):
        await clock.advance(10)
        await store.delete("cron/default/clock/tick")
        await clock.advance(20)
    assert sink.ids == ids(10, 20, 30)


SCHEDULES = st.sampled_from(["@every 7s", "*/5 * * * *", "30 2 * * *", "@hourly", "0 */2 * * *"])
DST = st.sampled_from([1_774_742_400.0, 1_792_890_000.0])  # days of March and October 2026
STEPS = st.lists(
    st.tuples(st.sampled_from(["run", "jump", "restart"]), st.integers(1, 3 * 3600)), max_size=7
)


@settings(deadline=None, max_examples=60)
@given(SCHEDULES, DST, st.sampled_from(["Europe/Berlin", "UTC"]), STEPS)
def test_no_time_is_lost_or_doubled(
    schedule: str, start: float, zone: str, steps: list[tuple[str, int]]
) -> None:
    """Over daylight saving, clock jumps and restarts, with `missedRuns: all`."""
    asyncio.run(_no_time_is_lost_or_doubled(schedule, start, zone, steps))


async def _no_time_is_lost_or_doubled(
    schedule: str, start: float, zone: str, steps: list[tuple[str, int]]
) -> None:
    clock, sink = SettableClock(start), Sink()
    store = store_of(clock)
    spec = CronSpec(schedule=schedule, timezone=zone, missed_runs="all")
    latest = start
    for kind, seconds in steps:
        async with running(clock, CronSource(spec, IDENTITY, clock=clock), sink, store):
            if kind == "jump":
                # Half of the jumps set the clock back.
                clock.jump(seconds if seconds % 2 else -seconds)
            await clock.advance(seconds if kind == "run" else 31)
            latest = max(latest, clock.now())
    async with running(clock, CronSource(spec, IDENTITY, clock=clock), sink, store):
        await _caught_up(clock, sink)
    made = schedule_of(spec, now=start, path="")
    assert sink.ids == [format_time(one) for one in between(made, start, latest)]


async def _caught_up(clock: SettableClock, sink: Sink) -> None:
    before = -1
    while before != len(sink.ids):
        before = len(sink.ids)
        await clock.advance(0)


def test_data_is_json_whatever_the_spec_gives() -> None:
    clock = SettableClock(START)
    event = source(clock, data="text")._event(START)
    assert orjson.loads(event.data or b"") == {"scheduled": event.id, "data": "text"}
