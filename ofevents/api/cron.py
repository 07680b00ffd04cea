"""The `cron` source: a schedule becomes events.

`CronSpec` is what the adapter is given, `parse_schedule` reads its schedule: the
five-field form, six fields with seconds first, `@hourly` and its like, and
OpenFunction's `@every 5s`. The rules are written here, without a library, so
that a schedule is checked where no cron library is installed (`validate`, admission).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, WithJsonSchema, field_validator

from ofevents.api.meta import Model
from ofevents.api.scalars import parse_duration

_NAMED: Final = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_MONTHS: Final = [
    "JAN",
    "FEB",
    "MAR",
    "APR",
    "MAY",
    "JUN",
    "JUL",
    "AUG",
    "SEP",
    "OCT",
    "NOV",
    "DEC",
]
_DAYS: Final = tuple("SUN MON TUE WED THU FRI SAT".split())  # noqa: SIM905
_FIELDS: Final[tuple[tuple[str, int, int, dict[str, int]], ...]] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
_TERM: Final = re.compile(r"(\*|\?|[A-Z0-9]+(?:-[A-Z0-9]+)?)(?:/([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Every:
    """Each `seconds`, anchored at the Unix epoch."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Fields:
    """Six fields, seconds first, in capitals, without names of schedules and `?`."""

    text: str
    seconds: bool
    """Whether the user wrote a field of seconds (five fields follow cron's DST rules)."""


def parse_schedule(text: str) -> Every | Fields:
    """What a schedule means.

    Raises:
        ValueError: naming the field that is wrong and its range.
    """
    text = text.strip()
    name, _, interval = text.partition(" ")
    if name.lower() == "@every":
        seconds = parse_duration(interval.strip())
        if seconds < 0.1:
            raise ValueError(f"expected an interval of at least 100ms, found {text!r}")
        return Every(seconds)
    if text.startswith("@"):
        if text.lower() not in _NAMED:
            known = ", ".join([*_NAMED, "@every 5s"])
            raise ValueError(f"unknown schedule {text!r}; expected one of {known}")
        return Fields(_NAMED[text.lower()], seconds=False)
    parts = text.upper().split()
    if len(parts) not in (5, 6):
        raise ValueError(
            f"expected five fields (minute hour day month weekday), six with seconds first, "
            f"@hourly or @every 5s; found {len(parts)} fields in {text!r}"
        )
    six = parts if len(parts) == 6 else ["0", *parts]
    for part, (name, low, high, names) in zip(six, _FIELDS, strict=True):
        for term in part.split(","):
            _check(term, name, low, high, names)
    return Fields(" ".join(six).replace("?", "*"), seconds=len(parts) == 6)


def _check(term: str, name: str, low: int, high: int, names: dict[str, int]) -> None:
    if name == "day of month" and term in ("L", "LW"):
        return
    if name == "day of week" and re.fullmatch(r"([0-7]|[A-Z]{3})#[1-5]|[0-7]L", term):
        term = term.rstrip("L").split("#")[0]
    found = _TERM.fullmatch(term)
    if not found or found.group(2) == "0":
        raise ValueError(f"the field {name} cannot be {term!r}; expected {low}-{high}, *, or */n")
    if found.group(1) in ("*", "?"):
        return
    ends = [_number(end, name, low, high, names) for end in found.group(1).split("-")]
    if len(ends) == 2 and ends[0] > ends[1]:
        raise ValueError(f"the field {name} has a range that ends before it begins: {term!r}")


def _number(text: str, name: str, low: int, high: int, names: dict[str, int]) -> int:
    number = names.get(text, int(text) if text.isdigit() else -1)
    if not low <= number <= high:
        also = f" or {next(iter(names))}-{list(names)[-1]}" if names else ""
        raise ValueError(f"the field {name} cannot be {text!r}; expected {low}-{high}{also}")
    return number


class CronSpec(Model):
    """Emits an event at each time of a schedule."""

    schedule: str = Field(
        description="Five fields (minute hour day month weekday), six with seconds first, "
        "@hourly, @daily, @weekly, @monthly, @yearly, or an interval such as `@every 5s`.",
    )
    timezone: str = Field(
        default="UTC", description="IANA name of the time zone, such as Europe/Berlin."
    )
    data: Annotated[Any, WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True})] = Field(
        default=None,
        description="Added to each event's data, which has the scheduled time in `scheduled`: "
        "an object's fields as they are, any other JSON value as `data`.",
    )
    missed_runs: Literal["skip", "one", "all"] = Field(
        default="skip",
        description="What becomes of times that passed while no worker ran: none, the last one, "
        "or each of them. Without an EventBus only `skip` is possible.",
    )

    @field_validator("schedule")
    @classmethod
    def _schedule(cls, value: str) -> str:
        parse_schedule(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"unknown time zone {value!r}; expected an IANA name such as Europe/Berlin"
            ) from None
        return value
