"""The math extension: math.greatest(), rounding, signs, bits."""

from __future__ import annotations

import math
from typing import Any

from ofevents.cel.arithmetic import fit
from ofevents.cel.limits import Budget
from ofevents.cel.values import UINT_MAX, UInt, no_overload, plain
from ofevents.errors import EvaluationError

_NUMBERS = (int, UInt, float)


def _numbers(name: str, B: Budget, args: tuple[Any, ...]) -> list[Any]:
    values = [plain(arg) for arg in args]
    if len(values) == 1 and type(values[0]) in (list, tuple):
        values = [plain(each) for each in B.walk(values[0])]
        if not values:
            raise EvaluationError(f"{name}() of an empty list")
    for value in values:
        if type(value) not in _NUMBERS:
            no_overload(name, value)
    return values


def greatest(B: Budget, *args: Any) -> Any:
    return max(_numbers("math.greatest", B, args))


def least(B: Budget, *args: Any) -> Any:
    return min(_numbers("math.least", B, args))


def _double(name: str, value: Any) -> float:
    value = plain(value)
    if type(value) is not float:
        no_overload(name, value)
    return float(value)


def _rounded(value: float, whole: float) -> float:
    # -0.4 rounds to -0.0, as IEEE 754 has it.
    return math.copysign(whole, value)


def ceil(value: Any) -> float:
    value = _double("math.ceil", value)
    return _rounded(value, float(math.ceil(value))) if math.isfinite(value) else value


def floor(value: Any) -> float:
    value = _double("math.floor", value)
    return _rounded(value, float(math.floor(value))) if math.isfinite(value) else value


def round_(value: Any) -> float:
    """Halves away from zero."""
    value = _double("math.round", value)
    assert isinstance(value, float)
    if not math.isfinite(value) or abs(value) >= 2.0**52:
        return value
    whole = math.floor(abs(value))
    return _rounded(value, float(whole + (abs(value) - whole >= 0.5)))


def trunc(value: Any) -> float:
    value = _double("math.trunc", value)
    return _rounded(value, float(math.trunc(value))) if math.isfinite(value) else value


def abs_(value: Any) -> Any:
    value = plain(value)
    if type(value) is int:
        return fit(abs(value))
    if type(value) in (float, UInt):
        return value if type(value) is UInt else abs(value)
    no_overload("math.abs", value)


def sign(value: Any) -> Any:
    value = plain(value)
    if type(value) not in _NUMBERS:
        no_overload("math.sign", value)
    if value != value:
        return value
    return type(value)((value > 0) - (value < 0))


def sqrt(value: Any) -> float:
    value = plain(value)
    if type(value) not in _NUMBERS:
        no_overload("math.sqrt", value)
    return math.nan if value < 0 else math.sqrt(value)


def is_nan(value: Any) -> bool:
    return math.isnan(_double("math.isNaN", value))


def is_inf(value: Any) -> bool:
    return math.isinf(_double("math.isInf", value))


def is_finite(value: Any) -> bool:
    return math.isfinite(_double("math.isFinite", value))


def _bits(name: str, a: Any, b: Any) -> type:
    kind = type(a)
    if kind is not type(b) or kind not in (int, UInt):
        no_overload(name, a, b)
    return kind


def bit_and(a: Any, b: Any) -> Any:
    a, b = plain(a), plain(b)
    return _bits("math.bitAnd", a, b)(int(a) & int(b))


def bit_or(a: Any, b: Any) -> Any:
    a, b = plain(a), plain(b)
    return _bits("math.bitOr", a, b)(int(a) | int(b))


def bit_xor(a: Any, b: Any) -> Any:
    a, b = plain(a), plain(b)
    return _bits("math.bitXor", a, b)(int(a) ^ int(b))


def bit_not(value: Any) -> Any:
    value = plain(value)
    if type(value) is UInt:
        return UInt(UINT_MAX ^ int(value))
    if type(value) is int:
        return ~value
    no_overload("math.bitNot", value)


def _shift(name: str, value: Any, by: Any) -> tuple[Any, int]:
    value, by = plain(value), plain(by)
    if type(value) not in (int, UInt) or type(by) is not int:
        no_overload(name, value, by)
    if by < 0:
        raise EvaluationError(f"{name}: the offset {by} is negative")
    return value, by


def _wrap(kind: type, bits: int) -> Any:
    """64 bits as that type."""
    bits &= UINT_MAX
    if kind is UInt:
        return UInt(bits)
    return bits - 2**64 if bits >= 2**63 else bits


def bit_shift_left(value: Any, by: Any) -> Any:
    value, by = _shift("math.bitShiftLeft", value, by)
    return _wrap(type(value), int(value) << by if by < 64 else 0)


def bit_shift_right(value: Any, by: Any) -> Any:
    """A logical shift: the sign is not kept."""
    value, by = _shift("math.bitShiftRight", value, by)
    return _wrap(type(value), (int(value) & UINT_MAX) >> by if by < 64 else 0)
