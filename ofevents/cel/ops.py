"""What the operators do: arithmetic with overflow, comparison across number types, access.

Both compiled forms of an expression call these; every function here is complete in
itself and raises EvaluationError for what CEL calls an error. `B` is the evaluation's
Budget: whatever depends on the size of the event is charged before it is done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

from ofevents.cel.limits import Budget, LimitExceeded
from ofevents.cel.values import (
    INT_MAX,
    INT_MIN,
    NONE,
    UINT_MAX,
    Duration,
    MixedMap,
    Optional,
    Timestamp,
    UInt,
    plain,
    type_name,
)
from ofevents.errors import EvaluationError

_NUMBERS = frozenset({int, UInt, float})
_SCALARS = frozenset({str, int, float, bool, UInt, bytes, type(None), Timestamp, Duration})
_ORDERED = frozenset({str, bool, bytes, Timestamp, Duration})
MISSING: Any = object()


def no_overload(what: str, *args: object) -> NoReturn:
    """Raise the error for operands of types that the operator or function does not take."""
    types = ", ".join(type_name(arg) for arg in args)
    raise EvaluationError(f"no such overload: {what} for {types}")


def fit(value: int) -> int:
    """The int, or the error of an overflow."""
    if INT_MIN <= value <= INT_MAX:
        return value
    raise EvaluationError("integer overflow: the result does not fit in 64 bits")


def fit_uint(value: int) -> UInt:
    """The uint, or the error of an overflow."""
    if 0 <= value <= UINT_MAX:
        return UInt(value)
    raise EvaluationError("unsigned integer overflow: the result is not in 0 to 2**64 - 1")


def add(B: Budget, a: Any, b: Any) -> Any:
    """`a + b`: numbers of one type, strings, bytes, lists, times."""
    kind, other = type(a), type(b)
    if kind is other:
        if kind is int:
            return fit(a + b)
        if kind is float:
            return a + b
        if kind is str or kind is bytes:
            B.make(len(a) + len(b))
            return a + b
        if kind is list:
            B.make(8 * (len(a) + len(b)))
            return a + b
        if kind is UInt:
            return fit_uint(int(a) + int(b))
        if kind is Duration:
            return Duration(a.ns + b.ns)
    elif (kind is Timestamp and other is Duration) or (kind is Duration and other is Timestamp):
        return Timestamp(a.ns + b.ns)
    left, right = _plain_list(a), _plain_list(b)
    if left is not a or right is not b:
        return add(B, left, right)
    no_overload("+", a, b)


def _plain_list(value: Any) -> Any:
    value = plain(value)
    return list(value) if type(value) is tuple else value


def sub(B: Budget, a: Any, b: Any) -> Any:
    """`a - b`: numbers of one type, times."""
    kind, other = type(a), type(b)
    if kind is other:
        if kind is int:
            return fit(a - b)
        if kind is float:
            return a - b
        if kind is UInt:
            return fit_uint(int(a) - int(b))
        if kind is Duration or kind is Timestamp:
            return Duration(a.ns - b.ns)
    elif kind is Timestamp and other is Duration:
        return Timestamp(a.ns - b.ns)
    return _again(sub, "-", B, a, b)


def mul(B: Budget, a: Any, b: Any) -> Any:
    """`a * b` for numbers of one type."""
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return fit(a * b)
        if kind is float:
            return a * b
        if kind is UInt:
            return fit_uint(int(a) * int(b))
    return _again(mul, "*", B, a, b)


def div(B: Budget, a: Any, b: Any) -> Any:
    """`a / b`; integers are cut towards zero, doubles follow IEEE 754."""
    kind = type(a)
    if kind is type(b):
        if kind is float:
            return _divide(a, b)
        if kind is int or kind is UInt:
            if b == 0:
                raise EvaluationError("division by zero")
            quotient = abs(a) // abs(b)
            if kind is UInt:
                return UInt(quotient)
            return fit(quotient if (a < 0) == (b < 0) else -quotient)
    return _again(div, "/", B, a, b)


def _divide(a: float, b: float) -> float:
    if b != 0:
        return a / b
    if a == 0 or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def mod(B: Budget, a: Any, b: Any) -> Any:
    """`a % b` for integers; the sign is that of `a`."""
    kind = type(a)
    if kind is type(b) and (kind is int or kind is UInt):
        if b == 0:
            raise EvaluationError("modulus by zero")
        rest = abs(a) % abs(b)
        if kind is UInt:
            return UInt(rest)
        fit(abs(a) // abs(b) if (a < 0) == (b < 0) else 0)
        return -rest if a < 0 else rest
    return _again(mod, "%", B, a, b)


def _again(operator: Any, sign: str, B: Budget, a: Any, b: Any) -> Any:
    left, right = plain(a), plain(b)
    if left is not a or right is not b:
        return operator(B, left, right)
    no_overload(sign, a, b)


def neg(B: Budget, a: Any) -> Any:
    """`-a` for int and double."""
    a = plain(a)
    if type(a) is int:
        return fit(-a)
    if type(a) is float:
        return -a
    no_overload("-", a)


def not_(B: Budget, a: Any) -> bool:
    """`!a`."""
    if a is True:
        return False
    if a is False:
        return True
    no_overload("!", a)


def _order(a: Any, b: Any, sign: str) -> tuple[Any, Any]:
    """The two operands as Python values with the same order, or the error."""
    kind, other = type(a), type(b)
    if (kind is other and kind in _ORDERED) or (kind in _NUMBERS and other in _NUMBERS):
        return a, b
    left, right = plain(a), plain(b)
    if left is not a or right is not b:
        return _order(left, right, sign)
    no_overload(sign, a, b)


def lt(B: Budget, a: Any, b: Any) -> bool:
    a, b = _order(a, b, "<")
    return bool(a < b)


def le(B: Budget, a: Any, b: Any) -> bool:
    a, b = _order(a, b, "<=")
    return bool(a <= b)


def gt(B: Budget, a: Any, b: Any) -> bool:
    a, b = _order(a, b, ">")
    return bool(a > b)


def ge(B: Budget, a: Any, b: Any) -> bool:
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


def lookup(m: Any, key: Any) -> Any:
    """The map's value for the key, MISSING without one. A bool is found only as a bool."""
    kind = type(key)
    if kind is str:
        try:
            return m[key]
        except KeyError:
            return MISSING
    if kind not in (int, UInt, float, bool):
        no_overload("a map key", key)
    if kind is float and not key.is_integer():
        return MISSING
    if kind is not bool:
        key = int(key)
    if type(m) is dict and (key == 0 or key == 1):
        # Python takes True for 1.
        if any((type(each) is bool) is (kind is bool) and each == key for each in m):
            return m[key]
        return MISSING
    try:
        return m[key]
    except KeyError:
        return MISSING


def select(a: Any, name: str) -> Any:
    """`a.name`."""
    if isinstance(a, Mapping):
        try:
            return a[name]
        except KeyError:
            raise EvaluationError(f"no such key: {name}; has() or .?{name} is the guard") from None
    if type(a) is Optional:
        return opt_select(a, name)
    raise EvaluationError(f"a {type_name(a)} has no field {name}")


def has(a: Any, name: str) -> bool:
    """`has(a.name)`."""
    if isinstance(a, Mapping):
        return name in a
    if type(a) is Optional:
        return a.present and has(a.value, name)
    raise EvaluationError(f"a {type_name(a)} has no field {name}")


def opt_select(a: Any, name: str) -> Optional:
    """`a.?name`: an optional; none where there is no such key."""
    if type(a) is Optional:
        return opt_select(a.value, name) if a.present else NONE
    return Optional(a[name]) if has(a, name) else NONE


def index(B: Budget, a: Any, key: Any) -> Any:
    """`a[key]`."""
    a = plain(a)
    if type(a) is Optional:
        return opt_index(B, a, key)
    found = _element(a, plain(key))
    if found is MISSING:
        where = "index out of range" if type(a) in (list, tuple) else "no such key"
        raise EvaluationError(f"{where}: {str(key)[:80]}")
    return found


def opt_index(B: Budget, a: Any, key: Any) -> Optional:
    """`a[?key]`: an optional; none where there is no such key or index."""
    a = plain(a)
    if type(a) is Optional:
        return opt_index(B, a.value, key) if a.present else NONE
    found = _element(a, plain(key))
    return NONE if found is MISSING else Optional(found)


def _element(a: Any, key: Any) -> Any:
    if isinstance(a, Mapping):
        return lookup(a, key)
    if type(a) not in (list, tuple):
        no_overload("[]", a, key)
    if type(key) is float and key.is_integer():
        key = int(key)
    if type(key) not in (int, UInt):
        no_overload("[]", a, key)
    return a[key] if 0 <= key < len(a) else MISSING


def items(B: Budget, a: Any) -> Any:
    """What a macro visits: a list's elements, a map's keys."""
    if type(a) is list:
        return B.walk(a)
    a = plain(a)
    if isinstance(a, Mapping):
        return B.walk(list(a))
    if type(a) in (list, tuple):
        return B.walk(a)
    no_overload("a macro", a)


def pairs(B: Budget, a: Any) -> Any:
    """What a macro of two variables visits: (index, element) or (key, value)."""
    a = plain(a)
    if isinstance(a, Mapping):
        return ((key, lookup(a, key)) for key in B.walk(list(a)))
    if type(a) in (list, tuple):
        return enumerate(B.walk(a))
    no_overload("a macro", a)


def boolean(value: Any) -> bool:
    """The operand of a condition; anything but a bool is an error."""
    if value is True or value is False:
        return bool(value)
    no_overload("a condition", value)


def make_map(B: Budget, entries: list[tuple[Any, Any]]) -> Mapping[Any, Any]:
    """A map literal. Two equal keys, or a key that is no bool, number or string, are an error."""
    B.make(16 * len(entries))
    made: dict[tuple[bool, Any], tuple[Any, Any]] = {}
    for key, value in entries:
        key = plain(key)
        if type(key) not in (str, int, UInt, bool):
            no_overload("a map key", key)
        slot = (type(key) is bool, key)
        if slot in made:
            raise EvaluationError(f"the map has the key {str(key)[:80]} twice")
        made[slot] = (key, value)
    result = dict(made.values())
    return result if len(result) == len(made) else MixedMap(made)


def merge_maps(B: Budget, maps: list[Any]) -> Mapping[Any, Any]:
    """What transformMapEntry makes of its bodies' maps."""
    entries: list[tuple[Any, Any]] = []
    for each in maps:
        found = plain(each)
        if not isinstance(found, Mapping):
            no_overload("transformMapEntry", found)
        entries += [(key, lookup(found, key)) for key in B.walk(list(found))]
    return make_map(B, entries)
