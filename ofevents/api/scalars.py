"""Durations, rates and sizes as people write them in a resource.

Used by the models of this folder: a field annotated `Duration` holds seconds, a
`Rate` calls per second, a `ByteSize` bytes; each is dumped as text again.
Durations are text on purpose (`timeout: 30` is refused): the cluster's schema
says string too, and a number without a unit is how timeouts go wrong.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

_UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
DURATION_PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d))+$"
_DURATION: Final = re.compile(DURATION_PATTERN)
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h|d)")

RATE_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?/(s|m|h)$"
_RATE: Final = re.compile(RATE_PATTERN)

SIZE_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"
_SIZE: Final = re.compile(SIZE_PATTERN)
_SIZES: Final = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}

ADDRESS_PATTERN: Final = "^https?://"
PATH_PATTERN: Final = "^(/.*)?$"
DURATION_EXPECTED: Final = "a duration such as 500ms, 30s, 1h30m or 7d"
RATE_EXPECTED: Final = "a rate such as 100/s, 10/m or 1000/h"
SIZE_EXPECTED: Final = "a size in bytes such as 1048576, 512Ki or 1Gi"
ADDRESS_EXPECTED: Final = "an address that begins with http:// or https://"
PATH_EXPECTED: Final = "a path that begins with /"


def parse_duration(text: str) -> float:
    """Seconds of `1h30m`, `500ms`, `7d`, ...

    Raises:
        ValueError: saying what was expected.
    """
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise ValueError(f"expected {DURATION_EXPECTED}, found {_shown(text)}")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back as the same number."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{int(seconds // _UNITS[unit])}{unit}"
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{seconds:.9f}".rstrip("0") + "s"


def parse_rate(text: str) -> float:
    """Calls per second of `100/s`, `10/m`, `1000/h`.

    Raises:
        ValueError: saying what was expected.
    """
    if not isinstance(text, str) or not _RATE.fullmatch(text):
        raise ValueError(f"expected {RATE_EXPECTED}, found {_shown(text)}")
    number, unit = text.split("/")
    if float(number) == 0:
        raise ValueError("expected a rate above 0; to stop deliveries use suspend: true")
    return float(number) / _UNITS[unit]


def format_rate(per_second: float) -> str:
    """Text that `parse_rate` reads back, in the largest unit that has whole numbers."""
    for unit in ("s", "m", "h"):
        number = round(per_second * _UNITS[unit], 6)
        if number == int(number):
            return f"{int(number)}/{unit}"
    return f"{per_second * 3600:f}/h"


def parse_size(value: int | str) -> int:
    """Bytes of `1Gi`, `512Mi`, `1M`, or a whole number.

    Raises:
        ValueError: saying what was expected.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if not isinstance(value, str) or not _SIZE.fullmatch(value):
        raise ValueError(f"expected {SIZE_EXPECTED}, found {_shown(value)}")
    unit = value.lstrip("0123456789.")
    return int(float(value.removesuffix(unit)) * _SIZES[unit])


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"the number {value}"
    return repr(value)[:80] if isinstance(value, str) else f"a {type(value).__name__}"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}),
]
"""Seconds, written as text."""

Rate = Annotated[
    float,
    BeforeValidator(parse_rate),
    PlainSerializer(format_rate, return_type=str),
    WithJsonSchema({"type": "string", "pattern": RATE_PATTERN}),
]
"""Calls per second, written as text."""

ByteSize = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": SIZE_PATTERN}),
]
"""Bytes, written as a whole number or as text with a unit."""

Port = Annotated[int, Field(ge=0, le=65535)]
"""A TCP port; 0 asks the machine for a free one."""
