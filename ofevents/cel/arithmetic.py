"""What `+ - * / %`, `!` and the truth of a condition mean: no conversion, no silent overflow.

Both compiled forms of an expression call these. `B` is the evaluation's Budget: whatever
depends on the size of the event is charged before it is made.
"""

from __future__ import annotations

import math
from typing import Any

from ofevents.cel.limits import Budget
from ofevents.cel.values import (
    INT_MAX,
    INT_MIN,
    UINT_MAX,
    Duration,
    Timestamp,
    UInt,
    no_overload,
    plain,
)
from ofevents.errors import EvaluationError


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
            return Duration.fit(a.ns + b.ns)
    elif (kind is Timestamp and other is Duration) or (kind is Duration and other is Timestamp):
        return Timestamp(a.ns + b.ns)
    left, right = _plain_list(a), _plain_list(b)
    if left is not a or right is not b:
        return add(B, left, right)
    no_overload("+", a, b)


def _plain_list(value: Any) -> Any:
    value = plain(value)
    return list(value) if type(value) is tuple else value


def sub(a: Any, b: Any) -> Any:
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
            return Duration.fit(a.ns - b.ns)
    elif kind is Timestamp and other is Duration:
        return Timestamp(a.ns - b.ns)
    return _again(sub, "-", a, b)


def mul(a: Any, b: Any) -> Any:
    """`a * b` for numbers of one type."""
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return fit(a * b)
        if kind is float:
            return a * b
        if kind is UInt:
            return fit_uint(int(a) * int(b))
    return _again(mul, "*", a, b)


def div(a: Any, b: Any) -> Any:
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
    return _again(div, "/", a, b)


def _divide(a: float, b: float) -> float:
    if b != 0:
        return a / b
    if a == 0 or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def mod(a: Any, b: Any) -> Any:
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
    return _again(mod, "%", a, b)


def _again(operator: Any, sign: str, a: Any, b: Any) -> Any:
    left, right = plain(a), plain(b)
    if left is not a or right is not b:
        return operator(left, right)
    no_overload(sign, a, b)


def neg(a: Any) -> Any:
    """`-a` for int and double."""
    a = plain(a)
    if type(a) is int:
        return fit(-a)
    if type(a) is float:
        return -a
    no_overload("-", a)


def not_(a: Any) -> bool:
    """`!a`."""
    if a is True:
        return False
    if a is False:
        return True
    no_overload("!", a)


def boolean(value: Any) -> bool:
    """The operand of a condition; anything but a bool is an error."""
    if value is True or value is False:
        return bool(value)
    no_overload("a condition", value)
