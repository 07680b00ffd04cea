"""The times of a schedule, one after the other; read by the `cron` source.

cronsim knows the fields and time zones. Five fields follow cron's rules for
daylight saving: a time that does not exist runs at the end of the gap, a time
that comes twice runs once, and `*` follows real time. Six fields (with seconds)
are matched second by second. Intervals are anchored at the Unix epoch, so that
every process and every restart finds the same times.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from ofevents.api.cron import CronSpec, Every, parse_schedule
from ofevents.errors import ConfigError

_MICRO = 1_000_000


class Schedule(Protocol):
    """Which times a schedule has. Times are Unix seconds."""

    def after(self, moment: float) -> float:
        """The first time that is later than `moment`."""
        ...


class Interval:
    """Each `seconds`, counted from the epoch in whole microseconds."""

    def __init__(self, seconds: float) -> None:
        self._step = round(seconds * _MICRO)

    def after(self, moment: float) -> float:
        return (round(moment * _MICRO) // self._step + 1) * self._step / _MICRO


class Fields:
    """Cron's fields in a time zone."""

    def __init__(self, text: str, zone: ZoneInfo) -> None:
        self._text = text
        self._zone = zone

    def after(self, moment: float) -> float:
        # cronsim forgets which of two equal wall-clock times it starts from, and moves
        # times out of a gap to its end: so its next time may be one that has been.
        for found in CronSim(self._text, datetime.fromtimestamp(moment, self._zone)):
            if found.timestamp() > moment:
                return found.timestamp()
        raise CronSimError("it never comes")


def schedule_of(spec: CronSpec, *, now: float, path: str) -> Schedule:
    """The schedule of a spec.

    Raises:
        ConfigError: no time of it will ever come, such as February 31st.
    """
    parsed = parse_schedule(spec.schedule)
    if isinstance(parsed, Every):
        return Interval(parsed.seconds)
    text = parsed.text if parsed.seconds else parsed.text.partition(" ")[2]
    schedule = Fields(text, ZoneInfo(spec.timezone))
    try:
        schedule.after(now)
    except CronSimError as error:
        raise ConfigError(
            f"the schedule {spec.schedule!r} has no time within 50 years ({error})", path=path
        ) from error
    return schedule


def between(schedule: Schedule, begin: float, end: float) -> Iterator[float]:
    """Every time later than `begin` and not later than `end`."""
    moment = schedule.after(begin)
    while moment <= end:
        yield moment
        moment = schedule.after(moment)


def latest(schedule: Schedule, begin: float, end: float) -> float | None:
    """The last time later than `begin` and not later than `end`; looks back step by step."""
    span = 60.0
    while True:
        start = max(begin, end - span)
        found = None
        for moment in between(schedule, start, end):
            found = moment
        if found is not None or start == begin:
            return found
        span *= 4
