"""The types that the checker works with, and how they are written.

An `Environment` declares variables with them; `check.py` deduces them. They are
CEL's own, and two of ours: the CloudEvent envelope (`EVENT`), and mappings whose
keys are known when an expression is loaded (`Keyed`, for `events` and `inputs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Type:
    """A type: a name and its parameters, such as `list(int)`."""

    name: str
    params: tuple[Type, ...] = ()
    keys: tuple[tuple[str, Type], ...] = field(default=(), compare=False)
    """For a mapping with known keys: each key's type."""

    def __str__(self) -> str:
        if not self.params:
            return self.name
        return f"{self.name}({', '.join(map(str, self.params))})"


BOOL = Type("bool")
INT = Type("int")
UINT = Type("uint")
DOUBLE = Type("double")
STRING = Type("string")
BYTES = Type("bytes")
TIMESTAMP = Type("google.protobuf.Timestamp")
DURATION = Type("google.protobuf.Duration")
NULL = Type("null_type")
DYN = Type("dyn")
ERROR = Type("!error!")
TYPE = Type("type")
EVENT = Type("event")


def ListOf(element: Type) -> Type:
    """A list whose elements have that type."""
    return Type("list", (element,))


def MapOf(*types: Type) -> Type:
    """`MapOf(value)`: string keys; `MapOf(key, value)`: that key type."""
    if len(types) == 1:
        return Type("map", (STRING, types[0]))
    return Type("map", types)


def Keyed(keys: Mapping[str, Type]) -> Type:
    """A mapping with exactly these string keys; an unknown one is a CelError."""
    values = set(keys.values())
    value = values.pop() if len(values) == 1 else DYN
    return Type("map", (STRING, value), tuple(sorted(keys.items())))


def OptionalOf(value: Type) -> Type:
    """An optional value of that type."""
    return Type("optional_type", (value,))


LIST = ListOf(DYN)
MAP = MapOf(DYN, DYN)

EVENT_ENVELOPE: Mapping[str, Type] = {
    "id": STRING,
    "source": STRING,
    "type": STRING,
    "specversion": STRING,
    "subject": STRING,
    "datacontenttype": STRING,
    "dataschema": STRING,
    "time": TIMESTAMP,
    "data": DYN,
}
"""The CloudEvent's attributes and their types. Extensions are dyn; see `envelope.py`."""
