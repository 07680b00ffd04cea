"""`"%s has %d".format([name, count])` of the strings extension."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ofevents.cel.access import lookup
from ofevents.cel.convert import double_text, fit_any, to_string
from ofevents.cel.limits import Budget, LimitExceeded
from ofevents.cel.strings import text
from ofevents.cel.values import CelType, Duration, Timestamp, UInt, no_overload, plain, type_name
from ofevents.errors import EvaluationError

_CLAUSE = re.compile(r"%(?:(%)|(?:\.([0-9]{1,4}))?([a-zA-Z])|)")
_PRECISION_MAX = 1000


def format_text(B: Budget, pattern: Any, arguments: Any) -> str:
    """The pattern with its clauses filled from the list, in order."""
    source, values = text("format", pattern), plain(arguments)
    if type(values) not in (list, tuple):
        no_overload("format", values)
    B.make(len(source))
    parts: list[str] = []
    offset = used = 0
    for match in _CLAUSE.finditer(source):
        parts.append(source[offset : match.start()])
        offset = match.end()
        percent, precision, verb = match.groups()
        if percent:
            parts.append("%")
            continue
        if not verb:
            raise EvaluationError("format: unfinished clause; a percent sign is written %%")
        if used >= len(values):
            raise EvaluationError(f"format: index {used} out of range: the list has too few values")
        digits = 6 if precision is None else int(precision)
        if digits > _PRECISION_MAX:
            raise EvaluationError(f"format: at most {_PRECISION_MAX} digits of precision")
        parts.append(_clause(B, verb, digits, plain(values[used])))
        B.make(len(parts[-1]))
        used += 1
    return "".join([*parts, source[offset:]])


def _clause(B: Budget, verb: str, digits: int, value: Any) -> str:
    match verb:
        case "s":
            return _string(B, value, B.depth)
        case "d":
            return _decimal(value)
        case "f" | "e":
            return _floating(verb, digits, value)
        case "b" | "o":
            return _based(verb, value)
        case "x" | "X":
            return _hexadecimal(B, verb, value)
    raise EvaluationError(f"format: unknown clause %{verb}; known are %s %d %f %e %b %o %x %X %%")


def _refuse(clause: str, allowed: str, value: Any) -> EvaluationError:
    return EvaluationError(
        f"error during formatting: {clause} can only be used on {allowed}, "
        f"was given {type_name(value)}"
    )


def _is_int(value: Any) -> bool:
    return type(value) is int or type(value) is UInt


def _decimal(value: Any) -> str:
    if _is_int(value):
        return str(fit_any(value))
    if type(value) is float and not math.isfinite(value):
        return _special(value)
    raise _refuse("decimal clause", "integers", value)


def _special(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _floating(verb: str, digits: int, value: Any) -> str:
    if _is_int(value):
        try:
            value = float(value)
        except OverflowError:
            raise EvaluationError("format: the number is out of range") from None
    if type(value) is float:
        return f"{value:.{digits}{verb}}" if math.isfinite(value) else _special(value)
    if type(value) is str and value in ("NaN", "Infinity", "-Infinity"):
        return value
    clause = "fixed-point clause" if verb == "f" else "scientific clause"
    raise _refuse(clause, "doubles", value)


def _based(verb: str, value: Any) -> str:
    if type(value) is bool and verb == "b":
        return "1" if value else "0"
    if _is_int(value):
        return f"{fit_any(value):{verb}}"
    if verb == "b":
        raise EvaluationError(
            "error during formatting: only integers and bools can be formatted as binary, "
            f"was given {type_name(value)}"
        )
    raise _refuse("octal clause", "integers", value)


def _hexadecimal(B: Budget, verb: str, value: Any) -> str:
    if _is_int(value):
        return f"{fit_any(value):{verb}}"
    if type(value) is str:
        value = value.encode(errors="replace")
    if type(value) is not bytes:
        raise EvaluationError(
            "error during formatting: only integers, byte buffers, and strings can be formatted "
            f"as hex, was given {type_name(value)}"
        )
    B.make(2 * len(value))
    return value.hex() if verb == "x" else value.hex().upper()


def _string(B: Budget, value: Any, depth: int) -> str:
    if depth <= 0:
        raise LimitExceeded("a value is nested too deeply to be formatted (or contains itself)")
    if value is None:
        return "null"
    if type(value) is float:
        return double_text(value) if math.isfinite(value) else _special(value)
    if type(value) is bytes:
        B.make(len(value))
        return value.decode(errors="replace")
    if type(value) in (list, tuple):
        inner = ", ".join([_string(B, plain(each), depth - 1) for each in B.walk(value)])
        B.make(len(inner))
        return f"[{inner}]"
    if isinstance(value, Mapping):
        entries = [
            (_string(B, key, depth - 1), _string(B, plain(lookup(value, key)), depth - 1))
            for key in B.walk(list(value))
        ]
        inner = ", ".join(f"{key}: {each}" for key, each in sorted(entries))
        B.make(len(inner))
        return f"{{{inner}}}"
    if isinstance(value, CelType):
        return value.name
    if isinstance(value, str | bool | int | Timestamp | Duration):
        return to_string(B, value)
    raise EvaluationError(
        "error during formatting: string clause can only be used on strings, bools, bytes, ints, "
        f"doubles, maps, lists, types, durations, and timestamps, was given {type_name(value)}"
    )
