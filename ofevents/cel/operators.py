"""The types of operators and constants, and the sentence for operands that do not fit."""

from __future__ import annotations

from typing import Any

from ofevents.cel.signatures import Overload, parse_overload, parse_type
from ofevents.cel.types import NULL, Type
from ofevents.cel.values import CelType, UInt

_ORDER = "bool uint int double string bytes timestamp duration"
NUMERIC = ("int", "uint", "double")


def _operators() -> dict[str, tuple[Overload, ...]]:
    lines = ["==(A, A) -> bool", "!=(A, A) -> bool", "!(bool) -> bool", "?:(bool, A, A) -> A"]
    for sign in ("<", "<=", ">", ">="):
        lines += [f"{sign}({each}, {each}) -> bool" for each in _ORDER.split()]
        lines += [f"{sign}({a}, {b}) -> bool" for a in NUMERIC for b in NUMERIC if a != b]
    for sign in "+-*/":
        lines += [f"{sign}({each}, {each}) -> {each}" for each in NUMERIC]
    lines += [f"+({each}, {each}) -> {each}" for each in ("string", "bytes", "list(A)")]
    lines += ["%(int, int) -> int", "%(uint, uint) -> uint", "neg(int) -> int"]
    lines += ["neg(double) -> double", "in(A, list(A)) -> bool", "in(A, map(A, B)) -> bool"]
    lines += [f"{sign}(duration, duration) -> duration" for sign in "+-"]
    lines += ["+(timestamp, duration) -> timestamp", "+(duration, timestamp) -> timestamp"]
    lines += ["-(timestamp, timestamp) -> duration", "-(timestamp, duration) -> timestamp"]
    table: dict[str, tuple[Overload, ...]] = {}
    for name, overload in map(parse_overload, lines):
        table[name] = (*table.get(name, ()), overload)
    return table


OPERATORS = _operators()


_CONSTANTS = {bool: "bool", int: "int", UInt: "uint", float: "double", str: "string",
              bytes: "bytes", type(None): "null_type"}  # fmt: skip
_GENERIC = {"list": "list(dyn)", "map": "map(dyn, dyn)"}


def constant_type(value: Any) -> Type:
    """The type of a literal, or of the name of a type."""
    if isinstance(value, CelType):
        return Type("type", (parse_type(_GENERIC.get(value.name, value.name)),))
    return Type(_CONSTANTS[type(value)])


def mismatch(shown: str, types: list[Type]) -> str:
    names = [each.name.removeprefix("google.protobuf.").lower() for each in types]
    given = ", ".join(str(each).replace("google.protobuf.", "").lower() for each in types)
    message = f"no matching overload: {'-' if shown == 'neg' else shown} does not take ({given})"
    pair = set(names)
    if "timestamp" in pair and "string" in pair:
        return f'{message}; write timestamp("2026-01-31T08:00:00Z")'
    if "duration" in pair and "string" in pair:
        return f'{message}; write duration("90s")'
    if len(pair) == 2 and pair < set(NUMERIC):
        return f"{message}; convert one of them, such as double(x)"
    if NULL.name in pair and shown in ("==", "!="):
        return f"{message}; has(x.y) tells whether a field is there"
    return message
