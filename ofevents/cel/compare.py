"""Equality across types, order across numbers, and `in`.

Both compiled forms of an expression call these. Comparing containers charges the Budget
per element and stops at its depth, so that neither a large nor a cyclic event hurts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ofevents.cel.access import MISSING, lookup
from ofevents.cel.limits import Budget, LimitExceeded
from ofevents.cel.values import Duration, Optional, Timestamp, UInt, no_overload, plain

_NUMBERS = frozenset({int, UInt, float})
_SCALARS = frozenset({str, int, float, bool, UInt, bytes, type(None), Timestamp, Duration})
_ORDERED = frozenset({str, bool, bytes, Timestamp, Duration})


def _order(a: Any, b: Any, sign: str) -> tuple[Any, Any]:
    """The two operands as Python values with the same order, or the error."""
    kind, other = type(a), type(b)
    if (kind is other and kind in _ORDERED) or (kind in _NUMBERS and other in _NUMBERS):
        return a, b
    left, right = plain(a), plain(b)
    if left is not a or right is not b:
        return _order(left, right, sign)
    no_overload(sign, a, b)


def lt(a: Any, b: Any) -> bool:
    a, b = _order(a, b, "<")
    return bool(a < b)


def le(a: Any, b: Any) -> bool:
    a, b = _order(a, b, "<=")
    return bool(a <= b)


def gt(a: Any, b: Any) -> bool:
    a, b = _order(a, b, ">")
    return bool(a > b)


def ge(a: Any, b: Any) -> bool:
    a, b = _order(a, b, ">=")
    return bool(a >= b)


def eq(B: Budget, a: Any, b: Any) -> bool:
    """`a == b`: numbers by value whatever their type, values of different types are unequal."""
    kind, other = type(a), type(b)
    if kind is other and kind in _SCALARS:
        return bool(a == b)
    if kind in _NUMBERS and other in _NUMBERS:
        return bool(a == b)
    if kind in _SCALARS and other in _SCALARS:
        return False
    return _deep(B, plain(a), plain(b), B.depth)


def ne(B: Budget, a: Any, b: Any) -> bool:
    return not eq(B, a, b)


def _deep(B: Budget, a: Any, b: Any, depth: int) -> bool:
    kind, other = type(a), type(b)
    if kind in _SCALARS or other in _SCALARS:
        return (kind is other or (kind in _NUMBERS and other in _NUMBERS)) and bool(a == b)
    if depth <= 0:
        raise LimitExceeded("a value is nested too deeply to be compared (or contains itself)")
    if kind in (list, tuple):
        if other not in (list, tuple) or len(a) != len(b):
            return False
        both = zip(B.walk(a), b, strict=True)
        return all(_deep(B, plain(x), plain(y), depth - 1) for x, y in both)
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and len(a) == len(b) and _same_map(B, a, b, depth - 1)
    if kind is Optional and other is Optional:
        if not (a.present and b.present):
            return bool(a.present == b.present)
        return _deep(B, plain(a.value), plain(b.value), depth - 1)
    return kind is other and bool(a == b)


def _same_map(B: Budget, a: Any, b: Any, depth: int) -> bool:
    for key in B.walk(a):
        found = lookup(b, key)
        if found is MISSING or not _deep(B, plain(lookup(a, key)), plain(found), depth):
            return False
    return True


def in_text(B: Budget, a: str, b: Any) -> bool:
    """`"a" in b` for a constant text."""
    if type(b) is list:
        # A text equals nothing but a text, so Python's own search is right here.
        B.work(len(b) << 4)
        return a in b
    return in_(B, a, b)


def in_(B: Budget, a: Any, b: Any) -> bool:
    """`a in b`: an element of a list, a key of a map."""
    b = plain(b)
    if isinstance(b, Mapping):
        return contains_key(b, plain(a))
    if type(b) in (list, tuple):
        return any(eq(B, a, each) for each in B.walk(b))
    no_overload("in", a, b)


def contains_key(m: Any, key: Any) -> bool:
    """Whether the map has the key, without decoding what a lazy map keeps."""
    if type(key) is str:
        return key in m
    return lookup(m, key) is not MISSING
