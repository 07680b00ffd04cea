"""The values of CEL that Python does not have, and what type a value is of.

Everything else is read as it is: None, bool, int, float, str, bytes, any Sequence
and any Mapping. Nothing of an event is copied or converted before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import total_ordering
from typing import Any, NoReturn

from ofevents.errors import EvaluationError

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
UINT_MAX = 2**64 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000_000
TIMESTAMP_MIN = -62_135_596_800 * _SECOND
TIMESTAMP_MAX = 253_402_300_800 * _SECOND - 1
DURATION_MAX = 315_576_000_000 * _SECOND


class UInt(int):
    """CEL's uint: an int of its own type, 0 to 2**64 - 1."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{int(self)}u"


@total_ordering
@dataclass(frozen=True, slots=True)
class Timestamp:
    """A moment: nanoseconds since the Unix epoch, years 1 to 9999."""

    ns: int

    def __post_init__(self) -> None:
        if not TIMESTAMP_MIN <= self.ns <= TIMESTAMP_MAX:
            raise EvaluationError("timestamp out of range: years 1 to 9999 are allowed")

    def __lt__(self, other: object) -> bool:
        return self.ns < other.ns if isinstance(other, Timestamp) else NotImplemented

    @property
    def moment(self) -> datetime:
        """The same moment in UTC, cut to microseconds."""
        return _EPOCH + timedelta(microseconds=self.ns // 1000)

    @classmethod
    def of(cls, value: datetime) -> Timestamp:
        """From a datetime; a naive one is read as UTC."""
        if value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
        return cls((value - _EPOCH) // timedelta(microseconds=1) * 1000)

    def __str__(self) -> str:
        seconds, fraction = divmod(self.ns, _SECOND)
        moment = _EPOCH + timedelta(seconds=seconds)
        text = f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}"
        return f"{text}{_fraction(fraction)}Z"


@total_ordering
@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time in nanoseconds, at most about 10,000 years.

    Arithmetic stays within int64 (about 292 years), see `Duration.fit`.
    """

    ns: int

    def __post_init__(self) -> None:
        if abs(self.ns) > DURATION_MAX:
            raise EvaluationError("duration out of range: at most 315576000000 s are allowed")

    def __lt__(self, other: object) -> bool:
        return self.ns < other.ns if isinstance(other, Duration) else NotImplemented

    @classmethod
    def fit(cls, ns: int) -> Duration:
        """The result of an addition or subtraction."""
        if not INT_MIN <= ns <= INT_MAX:
            raise EvaluationError("duration out of range: the result is over 292 years")
        return cls(ns)

    @classmethod
    def of(cls, value: timedelta) -> Duration:
        return cls(value // timedelta(microseconds=1) * 1000)

    def __str__(self) -> str:
        sign = "-" if self.ns < 0 else ""
        seconds, fraction = divmod(abs(self.ns), _SECOND)
        return f"{sign}{seconds}{_fraction(fraction)}s"


def _fraction(nanoseconds: int) -> str:
    """None, three, six or nine digits, as protobuf's JSON has it."""
    if not nanoseconds:
        return ""
    digits = f".{nanoseconds:09d}"
    return digits[: 4 if nanoseconds % 1_000_000 == 0 else 7 if nanoseconds % 1000 == 0 else 10]


@dataclass(frozen=True, slots=True)
class CelType:
    """A type as a value: what `type(1)` and the name `int` give."""

    name: str

    def __str__(self) -> str:
        return self.name


class Optional:
    """A value that may be missing: `optional.of(x)`, `a.?b`, `l[?0]`."""

    __slots__ = ("_value", "present")

    def __init__(self, value: object = None, *, present: bool = True) -> None:
        self._value = value
        self.present = present

    @property
    def value(self) -> Any:
        if not self.present:
            raise EvaluationError("optional.none() has no value; use orValue() or hasValue()")
        return self._value

    def __repr__(self) -> str:
        return f"optional.of({self._value!r})" if self.present else "optional.none()"


NONE = Optional(present=False)


class MixedMap(Mapping[Any, Any]):
    """A map literal with keys that Python takes for equal (`true` and `1`)."""

    __slots__ = ("_items",)

    def __init__(self, items: dict[tuple[bool, Any], tuple[Any, Any]]) -> None:
        self._items = items

    def __getitem__(self, key: Any) -> Any:
        return self._items[(type(key) is bool, key)][1]

    def __iter__(self) -> Iterator[Any]:
        return (key for key, _ in self._items.values())

    def __len__(self) -> int:
        return len(self._items)


_NAMES: dict[type, str] = {
    bool: "bool", int: "int", UInt: "uint", float: "double", str: "string", bytes: "bytes",
    dict: "map", list: "list", tuple: "list", type(None): "null_type", CelType: "type",
    Timestamp: "google.protobuf.Timestamp", Duration: "google.protobuf.Duration",
    Optional: "optional_type", MixedMap: "map",
}  # fmt: skip


def type_name(value: object) -> str:
    """CEL's name of the value's type. A value that CEL has no type for is an error."""
    name = _NAMES.get(type(value))
    return name if name is not None else _NAMES[type(plain(value))]


def plain(value: Any) -> Any:
    """The value as one of CEL's own Python types; the same object where it is one.

    Datetimes become Timestamps, subclasses their parents, other Sequences lists and
    other Mappings stay wrapped so that a lazy one keeps decoding on demand.
    """
    kind = type(value)
    if kind in _NAMES:
        return value
    if isinstance(value, datetime):
        return Timestamp.of(value)
    if isinstance(value, timedelta):
        return Duration.of(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Mapping):
        return _AnyMap(value)
    if isinstance(value, Sequence | Set):
        return list(value)
    raise EvaluationError(f"CEL has no type for a Python {kind.__name__}")


class _AnyMap(Mapping[Any, Any]):
    """Gives a foreign Mapping one known Python type and its `__missing__` a chance."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Mapping[Any, Any]) -> None:
        self._inner = inner

    def __getitem__(self, key: Any) -> Any:
        return self._inner[key]

    def __contains__(self, key: object) -> bool:
        return key in self._inner

    def __iter__(self) -> Iterator[Any]:
        return iter(self._inner)

    def __len__(self) -> int:
        return len(self._inner)


_NAMES[_AnyMap] = "map"


def no_overload(what: str, *args: object) -> NoReturn:
    """Raise the error for operands of types that the operator or function does not take."""
    types = ", ".join(type_name(arg) for arg in args)
    raise EvaluationError(f"no such overload: {what} for {types}")
