"""Timestamps and durations: reading them, and taking them apart in a time zone.

RFC 3339 in, nanoseconds kept. A zone is a name of the IANA database or an offset such
as `+02:00`; without one it is UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from ofevents.cel.values import (
    TIMESTAMP_MAX,
    TIMESTAMP_MIN,
    Duration,
    Timestamp,
    no_overload,
    plain,
)
from ofevents.errors import EvaluationError

_SECOND = 1_000_000_000
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9})[0-9]*)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH = datetime(1970, 1, 1)
_UNITS = {"h": 3600 * _SECOND, "m": 60 * _SECOND, "s": _SECOND, "ms": 10**6, "us": 1000, "µs": 1000,
          "μs": 1000, "ns": 1}  # fmt: skip
_DURATION = re.compile(r"([+-]?)((?:[0-9]{0,25}\.?[0-9]{0,25}(?:h|ms|m|s|us|µs|μs|ns))+)")
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(h|ms|m|s|us|µs|μs|ns)")


def parse_timestamp(text: str) -> Timestamp:
    """An RFC 3339 text. Raises EvaluationError."""
    match = _RFC3339.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        *parts, fraction, zone = match.groups()
        year, month, day, hour, minute, second = map(int, parts)
        # RFC 3339 has leap seconds; the last one of a minute is the first of the next.
        start = datetime(year, month, day, hour, minute, second - (second == 60))
        seconds = (start - _EPOCH) // timedelta(seconds=1) + (second == 60)
        if zone not in "Zz":
            seconds -= _offset_seconds(zone)
    except (ValueError, OverflowError):
        message = f"{text[:60]!r} is no RFC 3339 timestamp such as 2026-01-31T08:00:00Z"
        raise EvaluationError(message) from None
    return Timestamp(seconds * _SECOND + int((fraction or "").ljust(9, "0")))


def _offset_seconds(zone: str) -> int:
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 23 or minutes > 59:
        raise ValueError
    return (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)


def parse_duration(text: str) -> Duration:
    """A text such as `1h30m`, `-1.5s`, `100ms`. Raises EvaluationError."""
    if text in ("0", "+0", "-0"):
        return Duration(0)
    match = _DURATION.fullmatch(text) if len(text) <= 200 else None
    total = 0
    for whole, fraction, unit in _PART.findall(match[2]) if match else ():
        if not whole and not fraction:
            match = None
            break
        scale = _UNITS[unit]
        total += int(whole or "0") * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
    if match is None:
        raise EvaluationError(f"{text[:60]!r} is no duration such as 1h30m, 90s or 100ms")
    return Duration(-total if match[1] == "-" else total)


@lru_cache(maxsize=256)
def _zone(name: str) -> tzinfo:
    match = re.fullmatch(r"([+-]?)([0-9]{1,2}):([0-9]{2})", name)
    if match:
        hours, minutes = int(match[2]), int(match[3])
        if hours <= 23 and minutes <= 59:
            offset = timedelta(hours=hours, minutes=minutes)
            return timezone(-offset if match[1] == "-" else offset)
    elif name in ("UTC", "Z", ""):
        return UTC
    else:
        try:
            return ZoneInfo(name)
        except (OSError, ValueError, LookupError):
            pass
    raise EvaluationError(f"{name[:60]!r} is no time zone such as Europe/Paris or +02:00")


def _local(moment: Timestamp, zone: str | None) -> datetime:
    try:
        return moment.moment if zone is None else moment.moment.astimezone(_zone(zone))
    except OverflowError:
        raise EvaluationError("timestamp out of range in that time zone") from None


_OF_TIMESTAMP: dict[str, Callable[[datetime], int]] = {
    "getFullYear": lambda at: at.year,
    "getMonth": lambda at: at.month - 1,
    "getDayOfYear": lambda at: at.timetuple().tm_yday - 1,
    "getDayOfMonth": lambda at: at.day - 1,
    "getDate": lambda at: at.day,
    "getDayOfWeek": lambda at: at.isoweekday() % 7,
    "getHours": lambda at: at.hour,
    "getMinutes": lambda at: at.minute,
    "getSeconds": lambda at: at.second,
    "getMilliseconds": lambda at: at.microsecond // 1000,
}


def _cut(ns: int, unit: int) -> int:
    return ns // unit if ns >= 0 else -(-ns // unit)


_OF_DURATION: dict[str, Callable[[int], int]] = {
    "getHours": lambda ns: _cut(ns, 3600 * _SECOND),
    "getMinutes": lambda ns: _cut(ns, 60 * _SECOND),
    "getSeconds": lambda ns: _cut(ns, _SECOND),
    "getMilliseconds": lambda ns: _cut(ns, 10**6) - _cut(ns, _SECOND) * 1000,
}
GETTERS = tuple(_OF_TIMESTAMP)
DURATION_GETTERS = tuple(_OF_DURATION)


def getter(name: str) -> Callable[..., int]:
    """The function of that name: of a timestamp and perhaps a zone, or of a duration."""
    of_timestamp, of_duration = _OF_TIMESTAMP[name], _OF_DURATION.get(name)

    def get(value: Any, zone: Any = None) -> int:
        value = plain(value)
        if type(value) is Timestamp and (zone is None or type(zone) is str):
            return of_timestamp(_local(value, zone))
        if type(value) is Duration and of_duration is not None and zone is None:
            return of_duration(value.ns)
        no_overload(name, value)

    return get


def event_time(value: Any) -> Timestamp:
    """An event's `time` attribute: a datetime, a Timestamp, or RFC 3339 text in a plain dict."""
    value = plain(value)
    if type(value) is Timestamp:
        return value
    if type(value) is str:
        return parse_timestamp(value)
    raise EvaluationError("the event's time is neither a datetime nor RFC 3339 text")


def from_seconds(seconds: float) -> Timestamp:
    """A moment from the Clock's seconds since the epoch."""
    ns = int(seconds * 1_000_000) * 1000
    return Timestamp(min(max(ns, TIMESTAMP_MIN), TIMESTAMP_MAX))
