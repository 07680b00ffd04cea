"""Every function that an expression can call: its signatures, and what it does.

The checker reads the signatures, both compiled forms call `run`. A signature is
written as in CEL's own documents: `string.contains(string) -> bool` is a member,
`size(list(A)) -> int` a function; capital letters are type parameters.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ofevents.cel import convert, mathext, strings
from ofevents.cel.format import format_text
from ofevents.cel.limits import Budget
from ofevents.cel.moments import DURATION_GETTERS, GETTERS, from_seconds, getter
from ofevents.cel.signatures import Overload, parse_overload
from ofevents.cel.values import NONE, Duration, Optional, Timestamp, no_overload, plain
from ofevents.errors import EvaluationError


@dataclass(frozen=True, slots=True)
class Function:
    """A function: `run(*arguments)`, or `run(budget, *arguments)` when `budgeted`."""

    name: str
    overloads: tuple[Overload, ...]
    run: Callable[..., Any]
    budgeted: bool = False

    def takes(self, *, member: bool, count: int) -> bool:
        """Whether an overload is called in that style with `count` arguments (and receiver)."""
        return any(
            each.member is member
            and (len(each.params) == count or (each.variadic and count >= len(each.params)))
            for each in self.overloads
        )


def _decode(B: Budget, value: Any) -> bytes:
    source = strings.text("base64.decode", value)
    B.make(len(source))
    if "=" not in source:
        source += "=" * (-len(source) % 4)
    try:
        return base64.b64decode(source, validate=True)
    except (binascii.Error, ValueError):
        raise EvaluationError("base64.decode: the string is not base64") from None


def _encode(B: Budget, value: Any) -> str:
    value = plain(value)
    if type(value) is not bytes:
        no_overload("base64.encode", value)
    B.make(len(value) * 4 // 3 + 4)
    return base64.b64encode(value).decode()


def _optional(name: str, value: Any) -> Optional:
    if type(value) is not Optional:
        no_overload(name, value)
    return value


def _or(value: Any, other: Any) -> Any:
    return value if _optional("or", value).present else _optional("or", other)


def _or_value(value: Any, other: Any) -> Any:
    return value.value if _optional("orValue", value).present else other


def _of_non_zero(value: Any) -> Optional:
    return NONE if _zero(plain(value)) else Optional(value)


def _zero(value: Any) -> bool:
    if isinstance(value, Duration | Timestamp):
        return value.ns == 0
    return not value


def _unwrap(B: Budget, values: Any) -> list[Any]:
    values = plain(values)
    if type(values) not in (list, tuple):
        no_overload("optional.unwrap", values)
    return [each.value for each in B.walk(values) if _optional("optional.unwrap", each).present]


_PLAIN: list[tuple[Callable[..., Any], str]] = [
    (strings.size, "size(string) -> int; size(bytes) -> int; size(list(A)) -> int; "
     "size(map(A, B)) -> int; string|size() -> int; bytes|size() -> int; list(A)|size() -> int; "
     "map(A, B)|size() -> int"),
    (strings.contains, "string|contains(string) -> bool"),
    (strings.starts_with, "string|startsWith(string) -> bool"),
    (strings.ends_with, "string|endsWith(string) -> bool"),
    (convert.type_of, "type(A) -> type(A)"),
    (convert.dyn, "dyn(A) -> dyn"),
    (convert.to_int, "int(int) -> int; int(uint) -> int; int(double) -> int; int(string) -> int; "
     "int(timestamp) -> int"),
    (convert.to_uint, "uint(uint) -> uint; uint(int) -> uint; uint(double) -> uint; "
     "uint(string) -> uint"),
    (convert.to_double, "double(double) -> double; double(int) -> double; double(uint) -> double; "
     "double(string) -> double"),
    (convert.to_bool, "bool(bool) -> bool; bool(string) -> bool"),
    (convert.to_timestamp, "timestamp(timestamp) -> timestamp; timestamp(string) -> timestamp; "
     "timestamp(int) -> timestamp"),
    (convert.to_duration, "duration(duration) -> duration; duration(string) -> duration"),
    (strings.char_at, "string|charAt(int) -> string"),
    (strings.index_of, "string|indexOf(string) -> int; string|indexOf(string, int) -> int"),
    (strings.last_index_of, "string|lastIndexOf(string) -> int; "
     "string|lastIndexOf(string, int) -> int"),
    (mathext.ceil, "math.ceil(double) -> double"),
    (mathext.floor, "math.floor(double) -> double"),
    (mathext.round_, "math.round(double) -> double"),
    (mathext.trunc, "math.trunc(double) -> double"),
    (mathext.abs_, "math.abs(int) -> int; math.abs(uint) -> uint; math.abs(double) -> double"),
    (mathext.sign, "math.sign(int) -> int; math.sign(uint) -> uint; math.sign(double) -> double"),
    (mathext.sqrt, "math.sqrt(int) -> double; math.sqrt(uint) -> double; "
     "math.sqrt(double) -> double"),
    (mathext.is_nan, "math.isNaN(double) -> bool"),
    (mathext.is_inf, "math.isInf(double) -> bool"),
    (mathext.is_finite, "math.isFinite(double) -> bool"),
    (mathext.bit_and, "math.bitAnd(int, int) -> int; math.bitAnd(uint, uint) -> uint"),
    (mathext.bit_or, "math.bitOr(int, int) -> int; math.bitOr(uint, uint) -> uint"),
    (mathext.bit_xor, "math.bitXor(int, int) -> int; math.bitXor(uint, uint) -> uint"),
    (mathext.bit_not, "math.bitNot(int) -> int; math.bitNot(uint) -> uint"),
    (mathext.bit_shift_left, "math.bitShiftLeft(int, int) -> int; "
     "math.bitShiftLeft(uint, int) -> uint"),
    (mathext.bit_shift_right, "math.bitShiftRight(int, int) -> int; "
     "math.bitShiftRight(uint, int) -> uint"),
    (Optional, "optional.of(A) -> optional_type(A)"),
    (lambda: NONE, "optional.none() -> optional_type(A)"),
    (_of_non_zero, "optional.ofNonZeroValue(A) -> optional_type(A)"),
    (lambda each: _optional("hasValue", each).present, "optional_type(A)|hasValue() -> bool"),
    (lambda each: _optional("value", each).value, "optional_type(A)|value() -> A"),
    (_or, "optional_type(A)|or(optional_type(A)) -> optional_type(A)"),
    (_or_value, "optional_type(A)|orValue(A) -> A"),
]  # fmt: skip
_BUDGETED: list[tuple[Callable[..., Any], str]] = [
    (strings.matches, "matches(string, string) -> bool; string|matches(string) -> bool"),
    (convert.to_string, "string(string) -> string; string(bool) -> string; string(int) -> string; "
     "string(uint) -> string; string(double) -> string; string(bytes) -> string; "
     "string(timestamp) -> string; string(duration) -> string"),
    (convert.to_bytes, "bytes(bytes) -> bytes; bytes(string) -> bytes"),
    (strings.lower_ascii, "string|lowerAscii() -> string"),
    (strings.upper_ascii, "string|upperAscii() -> string"),
    (strings.trim, "string|trim() -> string"),
    (strings.replace, "string|replace(string, string) -> string; "
     "string|replace(string, string, int) -> string"),
    (strings.split, "string|split(string) -> list(string); "
     "string|split(string, int) -> list(string)"),
    (strings.join, "list(string)|join() -> string; list(string)|join(string) -> string"),
    (strings.substring, "string|substring(int) -> string; string|substring(int, int) -> string"),
    (strings.quote, "strings.quote(string) -> string"),
    (strings.reverse, "string|reverse() -> string"),
    (format_text, "string|format(list(dyn)) -> string"),
    (mathext.greatest, "math.greatest(A...) -> A"),
    (mathext.least, "math.least(A...) -> A"),
    (_encode, "base64.encode(bytes) -> string"),
    (_decode, "base64.decode(string) -> bytes"),
    (_unwrap, "optional.unwrap(list(optional_type(A))) -> list(A); "
     "list(optional_type(A))|unwrapOpt() -> list(A)"),
    (lambda budget: from_seconds(budget.now()), "now() -> timestamp"),
]  # fmt: skip


def _table() -> dict[str, Function]:
    table: dict[str, Function] = {}
    rows = [(run, text, False) for run, text in _PLAIN]
    rows += [(run, text, True) for run, text in _BUDGETED]
    for name in GETTERS:
        texts = [f"timestamp|{name}() -> int", f"timestamp|{name}(string) -> int"]
        if name in DURATION_GETTERS:
            texts.append(f"duration|{name}() -> int")
        rows.append((getter(name), "; ".join(texts), False))
    for run, text, budgeted in rows:
        by_name: dict[str, list[Overload]] = {}
        for source in text.split("; "):
            name, overload = parse_overload(source)
            by_name.setdefault(name, []).append(overload)
        for name, overloads in by_name.items():
            table[name] = Function(name, tuple(overloads), run, budgeted)
    return table


FUNCTIONS: Mapping[str, Function] = _table()
TYPES = frozenset(
    """bool int uint double string bytes list map null_type type optional_type
    google.protobuf.Timestamp google.protobuf.Duration""".split()  # noqa: SIM905 - as words
)
"""The names of types that an expression can use as values."""
