"""Schedules: their times over daylight saving, and nothing lost or doubled."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofevents.api.cron import CronSpec
from ofevents.errors import ConfigError
from ofevents_adapters.cron_schedule import between, latest, schedule_of

BERLIN = "Europe/Berlin"
NOW = 1_770_000_000.0


def at(text: str, zone: str = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def times(schedule: str, begin: float, end: float, zone: str = BERLIN) -> list[str]:
    spec = CronSpec(schedule=schedule, timezone=zone)
    found = between(schedule_of(spec, now=NOW, path=""), begin, end)
    return [datetime.fromtimestamp(t, ZoneInfo(zone)).isoformat()[5:] for t in found]


def test_five_fields_in_a_time_zone() -> None:
    assert times("30 9 * * MON-FRI", at("2026-01-30T00:00"), at("2026-02-02T23:00")) == [
        "01-30T09:30:00+01:00",
        "02-02T09:30:00+01:00",
    ]


def test_six_fields_have_seconds_first() -> None:
    found = times("*/20 0 12 * * *", at("2026-01-30T00:00"), at("2026-01-30T23:00"))
    assert [one[6:14] for one in found] == ["12:00:00", "12:00:20", "12:00:40"]


def test_names_of_schedules() -> None:
    begin, end = at("2026-01-31T22:30"), at("2026-02-01T01:00")
    assert [one[:11] for one in times("@hourly", begin, end)] == [
        "01-31T23:00",
        "02-01T00:00",
        "02-01T01:00",
    ]
    assert times("@daily", begin, end) == times("@monthly", begin, end)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("30 2 * * *", ["29T03:00:00+02:00"]),
        ("0,30 2 * * *", ["29T03:00:00+02:00"]),
        ("0 */2 * * *", ["29T00:00:00+01:00", "29T04:00:00+02:00"]),
        ("0 * * * *", ["29T00:00:00+01:00", "29T01:00:00+01:00", "29T03:00:00+02:00",
                       "29T04:00:00+02:00"]),
    ],
)  # fmt: skip
def test_the_hour_that_does_not_exist(schedule: str, expected: list[str]) -> None:
    found = times(schedule, at("2026-03-28T23:59"), at("2026-03-29T04:30"))
    assert [one[3:] for one in found] == expected


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("30 2 * * *", ["25T02:30:00+02:00"]),
        ("30 * * * *", ["25T01:30:00+02:00", "25T02:30:00+02:00", "25T02:30:00+01:00",
                        "25T03:30:00+01:00"]),
    ],
)  # fmt: skip
def test_the_hour_that_comes_twice(schedule: str, expected: list[str]) -> None:
    found = times(schedule, at("2026-10-25T01:00"), at("2026-10-25T04:00"))
    assert [one[3:] for one in found] == expected


def test_a_start_inside_the_second_of_the_two_hours_repeats_nothing() -> None:
    begin = at("2026-10-25T02:15", fold=1)
    assert times("30 2 * * *", begin, begin + 90_000) == ["10-26T02:30:00+01:00"]


SCHEDULES = st.sampled_from(
    ["*/7 * * * *", "0 */3 * * *", "30 2 * * *", "0,30 1-3 * * *", "15 2 * * SUN", "@daily",
     "0 30 2 * * *", "@every 7m", "@every 86401s"]
)  # fmt: skip
ZONES = st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC"])
STARTS = st.integers(int(at("2026-03-01T00:00")), int(at("2026-11-10T00:00")))


@given(SCHEDULES, ZONES, STARTS, st.lists(st.integers(0, 40_000), max_size=6))
def test_from_wherever_one_asks_the_times_are_the_same(
    schedule: str, zone: str, start: int, stops: list[int]
) -> None:
    made = schedule_of(CronSpec(schedule=schedule, timezone=zone), now=NOW, path="")
    end = start + 3 * 86400
    whole = list(between(made, start, end))
    assert whole == sorted(set(whole))
    pieces, begin = [], float(start)
    for stop in [*sorted(start + one for one in stops), end]:
        pieces += list(between(made, begin, stop))
        begin = max(begin, stop)
    assert pieces == whole
    assert latest(made, start, end) == (whole[-1] if whole else None)


@given(ZONES, STARTS)
def test_every_local_minute_of_a_wildcard_is_there(zone: str, start: int) -> None:
    made = schedule_of(CronSpec(schedule="*/10 * * * *", timezone=zone), now=NOW, path="")
    expected = [
        t for t in range(start // 60 * 60 + 60, start + 86400, 60)
        if datetime.fromtimestamp(t, ZoneInfo(zone)).minute % 10 == 0
    ]  # fmt: skip
    assert list(between(made, start, start + 86400 - 1)) == expected


@given(st.integers(100, 10_000_000), st.floats(0, 2e9))
def test_intervals_are_anchored_at_the_epoch(milliseconds: int, start: float) -> None:
    made = schedule_of(CronSpec(schedule=f"@every {milliseconds}ms"), now=NOW, path="")
    moment = start
    for _ in range(5):
        following = made.after(moment)
        assert moment < following <= moment + milliseconds / 1000 + 1e-6
        assert round(following * 1000) % milliseconds == 0
        moment = following


def test_a_schedule_that_never_comes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"schedule: the schedule '0 0 31 2 \*' has no time"):
        schedule_of(CronSpec(schedule="0 0 31 2 *"), now=NOW, path="spec.cron.tick.schedule")


def test_every_day_of_a_leap_year_comes() -> None:
    made = schedule_of(CronSpec(schedule="0 0 29 2 *"), now=NOW, path="")
    first = made.after(NOW)
    assert datetime.fromtimestamp(first, ZoneInfo("UTC")).year == 2028
    assert timedelta(seconds=made.after(first) - first) == timedelta(days=4 * 365 + 1)


def test_an_interval_is_long_enough_for_its_ids() -> None:
    made = schedule_of(CronSpec(schedule="@every 100ms"), now=NOW, path="")
    found = list(islice(between(made, NOW, NOW + 5), 50))
    assert len(found) == len({round(one, 3) for one in found}) == 50
