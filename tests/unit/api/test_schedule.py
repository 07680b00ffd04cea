"""Schedules of the cron source: forms that are read, and why others are not."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ofevents.api.cron import CronSpec, Every, Fields, parse_schedule


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("@every 5s", Every(5)),
        ("@every 1h30m", Every(5400)),
        ("@hourly", Fields("0 0 * * * *", seconds=False)),
        ("@Daily", Fields("0 0 0 * * *", seconds=False)),
        ("*/5 * * * *", Fields("0 */5 * * * *", seconds=False)),
        ("0 9 * * mon-fri", Fields("0 0 9 * * MON-FRI", seconds=False)),
        ("30 0 12 ? jan,jul *", Fields("30 0 12 * JAN,JUL *", seconds=True)),
        ("0 0 L * 5#2", Fields("0 0 0 L * 5#2", seconds=False)),
        ("0 0 * * 7", Fields("0 0 0 * * 7", seconds=False)),
    ],
)
def test_a_schedule_is_read(text: str, meaning: Every | Fields) -> None:
    assert parse_schedule(text) == meaning


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("* * * *", "five fields .* found 4 fields"),
        ("60 * * * *", "field minute cannot be '60'; expected 0-59"),
        ("* 24 * * *", "field hour cannot be '24'"),
        ("* * 0 * *", "field day of month cannot be '0'"),
        ("* * * foo *", "field month cannot be 'FOO'; expected 1-12 or JAN-DEC"),
        ("* * * * 8", "field day of week"),
        ("*/0 * * * *", "field minute cannot be"),
        ("30-10 * * * *", "range that ends before it begins"),
        ("@everyy 5s", "unknown schedule '@everyy 5s'; expected one of .*@every 5s"),
        ("@every 5", "expected a duration"),
        ("@every 1ms", "at least 100ms"),
        ("1,,2 * * * *", "field minute cannot be ''"),
    ],
)
def test_a_bad_schedule_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_schedule(text)


def test_a_time_zone_must_exist() -> None:
    assert CronSpec(schedule="@hourly", timezone="Europe/Berlin").timezone == "Europe/Berlin"
    for wrong in ("Europe/Berln", "../etc/passwd", "UTC+1"):
        with pytest.raises(ValidationError, match="unknown time zone"):
            CronSpec(schedule="@hourly", timezone=wrong)
