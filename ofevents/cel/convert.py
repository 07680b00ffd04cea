"""The conversions of CEL: int(), uint(), double(), string(), bytes(), bool(), timestamp() ..."""

from __future__ import annotations

import math
import re
from typing import Any

from ofevents.cel.arithmetic import fit, fit_uint
from ofevents.cel.limits import Budget
from ofevents.cel.moments import parse_duration, parse_timestamp
from ofevents.cel.values import CelType, Duration, Timestamp, UInt, no_overload, plain, type_name
from ofevents.errors import EvaluationError

_INT = re.compile(r"[+-]?[0-9]{1,30}")
_UINT = re.compile(r"[0-9]{1,30}")
_DOUBLE = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?|inf|infinity|nan)",
    re.IGNORECASE,
)
_BOOLS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


def _no_conversion(kind: str, text: str) -> EvaluationError:
    return EvaluationError(f"{kind}(): {text[:60]!r} is no {kind}")


def to_int(value: Any) -> int:
    value = plain(value)
    match value:
        case bool():
            no_overload("int()", value)
        case float():
            # The bounds themselves are refused: 2**63 - 1 is no double.
            if not -(2.0**63) < value < 2.0**63:
                raise EvaluationError("int(): the double is out of the range of int")
            return int(value)
        case int():
            return fit(int(value))
        case str():
            if not _INT.fullmatch(value):
                raise _no_conversion("int", value)
            return fit(int(value))
        case Timestamp():
            return value.ns // 1_000_000_000
    no_overload("int()", value)


def to_uint(value: Any) -> UInt:
    value = plain(value)
    match value:
        case bool():
            no_overload("uint()", value)
        case float():
            if not 0 <= value < 2.0**64:
                raise EvaluationError("uint(): the double is out of the range of uint")
            return UInt(value)
        case int():
            return fit_uint(int(value))
        case str():
            if not _UINT.fullmatch(value):
                raise _no_conversion("uint", value)
            return fit_uint(int(value))
    no_overload("uint()", value)


def to_double(value: Any) -> float:
    value = plain(value)
    match value:
        case bool():
            no_overload("double()", value)
        case float():
            return value
        case int():
            try:
                return float(value)
            except OverflowError:
                raise EvaluationError("double(): the number is out of range") from None
        case str():
            if not _DOUBLE.fullmatch(value):
                raise _no_conversion("double", value)
            return float(value)
    no_overload("double()", value)


def to_string(B: Budget, value: Any) -> str:
    value = plain(value)
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(fit_any(value))
        case float():
            return _general(value)
        case bytes():
            B.make(len(value))
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise EvaluationError("string(): the bytes are no valid UTF-8") from None
        case Timestamp() | Duration():
            return str(value)
    no_overload("string()", value)


def _general(value: float) -> str:
    """As the reference implementations write it: from a million on with an exponent."""
    if not math.isfinite(value):
        return repr(value)
    digits, _, exponent = f"{value!r}".partition("e")
    if not exponent and abs(value) >= 1e6:
        whole, _, fraction = digits.lstrip("-").partition(".")
        exponent = f"+{len(whole) - 1:02d}"
        digits = f"{whole[0]}.{whole[1:]}{fraction}".rstrip("0").removesuffix(".")
        return f"{'-' if value < 0 else ''}{digits}e{exponent}"
    return double_text(value)


def fit_any(value: int) -> int:
    """An int of the event as it is, but none so large that printing it takes long."""
    if abs(value).bit_length() > 4096:
        raise EvaluationError("the number has more than 4,096 bits")
    return int(value)


def double_text(value: float) -> str:
    """The shortest text that reads as the same double: `1`, `0.1`, `1e+100`, `inf`, `nan`."""
    return repr(value).removesuffix(".0")


def to_bytes(B: Budget, value: Any) -> bytes:
    value = plain(value)
    match value:
        case bytes():
            return value
        case str():
            B.make(len(value))
            try:
                return value.encode()
            except UnicodeEncodeError:
                raise EvaluationError("bytes(): the string has a lone surrogate") from None
    no_overload("bytes()", value)


def to_bool(value: Any) -> bool:
    value = plain(value)
    match value:
        case bool():
            return value
        case str():
            if value not in _BOOLS:
                raise _no_conversion("bool", value)
            return _BOOLS[value]
    no_overload("bool()", value)


def to_timestamp(value: Any) -> Timestamp:
    value = plain(value)
    match value:
        case Timestamp():
            return value
        case str():
            return parse_timestamp(value)
        case bool():
            no_overload("timestamp()", value)
        case UInt():
            no_overload("timestamp()", value)
        case int():
            return Timestamp(value * 1_000_000_000)
    no_overload("timestamp()", value)


def to_duration(value: Any) -> Duration:
    value = plain(value)
    match value:
        case Duration():
            return value
        case str():
            return parse_duration(value)
    no_overload("duration()", value)


def type_of(value: Any) -> CelType:
    return CelType(type_name(value))


def dyn(value: Any) -> Any:
    return value
