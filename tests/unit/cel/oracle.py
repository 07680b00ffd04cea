"""The reference implementation (`cel-expr-python`, Google's cel-cpp) beside ours.

`difference` is None when both give the same value or both fail, else a sentence. These
differences are known, and `difference` returns None for them; each row says who is right:

| what | the reference | ours, and why |
|---|---|---|
| int and double beyond 2**53 | rounds the int | compares exactly: so it came in JSON |
| strings with NUL | cuts them there | whole (none is generated) |
| `%d` of a double | `1.500000` | an error, as the strings extension has it |
| `%s` of a double | six digits: `1.23457e+06` | every digit: nothing is lost |
| `%s` of a timestamp | `.5Z` | `.500Z`, as `string()` writes it in both |
| `int(true)` | 1 | an error: the specification has no such conversion |
| `int(" 5")`, `double("0x1p3")` | reads spaces, C's forms | an error, as cel-go |
| `{1: 0, 1u: 0}` | the last wins | an error, as the specification's cases demand |
| `optional.of([])[0]` | an error | none, as `optional.of({})["a"]` is in both |
| `"ab".substring(0, 2)` | an error: the end is the size | `ab`, as the cases demand |
| `[1][?0u]` | an error | as `[1][0u]`, which both allow |
| `x.optMap(q, ...)` in or beside a loop | may read the loop's variable | reads its own |
| `{"a": 1, "a": 2}` | an error that nothing absorbs | an error that `&&` absorbs |
| `has({"a": 1}.?a.b)` | an error that nothing absorbs | an error that `&&` absorbs |
| `string()` of a NaN | may be `-nan` | `nan` |
| `math.least([])`, never evaluated | an error of the macro | an error where it is evaluated |
| `{true: 0, 1: 0}` as the result | handed to Python as one key | both keys |
| the order in which a macro visits keys | any | the map's own: both are allowed |
| over 10,000 iterations | an error | runs up to our own limits (none is generated) |
| an optional as the result | cannot be handed to Python | a value |
| bytes that are no UTF-8, in `format` | cannot be handed to Python | a value |
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from unittest import mock

from ofevents.cel import (
    DYN,
    CelError,
    CelType,
    Duration,
    Environment,
    Optional,
    Timestamp,
    UInt,
    access,
    compile,
    tree,
)
from ofevents.cel.careful import careful
from ofevents.cel.frames import Frame
from ofevents.cel.functions import FUNCTIONS
from ofevents.cel.limits import Budget, Limits
from ofevents.cel.operators import OPERATORS
from ofevents.cel.parse import parse
from ofevents.cel.resolve import Resolver
from ofevents.cel.values import MixedMap, type_name
from ofevents.clock import SystemClock
from ofevents.errors import EvaluationError

ENVIRONMENT = Environment({"event": DYN})


class Failure:
    """An evaluation that ended in an error."""

    def __init__(self, message: str) -> None:
        self.message = message

    def __repr__(self) -> str:
        return f"error({self.message})"


@cache
def _reference() -> Any:
    # Each None that goes in costs the interpreter one reference to it, until it dies of that.
    ctypes.c_ssize_t.from_address(id(None)).value += 1_000_000_000
    from cel_expr_python import cel
    from cel_expr_python.ext import (
        ext_bindings,
        ext_encoders,
        ext_math,
        ext_optional,
        ext_strings,
    )

    return cel.NewEnv(
        variables={"event": cel.Type.DYN},
        extensions=[
            ext_bindings.ExtBindings(),
            ext_encoders.ExtEncoders(),
            ext_math.ExtMath(),
            ext_optional.ExtOptional(),
            ext_strings.ExtStrings(),
        ],
    )


def reference(text: str, event: Mapping[str, Any]) -> Any:
    """The value that the reference gives, a Failure, or None where it has no way to say."""
    try:
        value = _reference().compile(text, disable_check=True).eval(data={"event": event})
        if value.type().name() == "ERROR":
            return Failure(str(value.value()))
        return value
    except RuntimeError as error:
        return Failure(str(error))
    except TypeError:
        return None  # an optional, or a string that is no UTF-8


def ours(text: str, event: Mapping[str, Any]) -> Any:
    """The value that we give, or a Failure."""
    try:
        return compile(text, ENVIRONMENT, check=False).evaluate({"event": event})
    except (CelError, EvaluationError) as error:
        return Failure(str(error))


def difference(text: str, event: Mapping[str, Any], got: Any) -> str | None:
    """What the two disagree on, None when they agree or the table explains it."""
    expected = reference(text, event)
    if expected is None or isinstance(got, Optional):
        return None
    try:
        agree = _agree(got, expected) or _explained(text, event, got, expected)
    except TypeError as error:
        if "Unable to convert" not in str(error):
            raise
        return None  # the reference has no way to hand its value over
    if agree:
        return None
    shown = expected if isinstance(expected, Failure) else expected.value()
    return f"{text}\n  event: {event}\n  ours: {got!r}\n  reference: {shown!r}"


def _agree(got: Any, expected: Any) -> bool:
    if isinstance(got, Failure) or isinstance(expected, Failure):
        return isinstance(got, Failure) and isinstance(expected, Failure)
    return _same(got, expected)


def _same(got: Any, expected: Any) -> bool:
    kind, value = expected.type().name(), expected.value()
    if isinstance(got, list | tuple):
        return kind.startswith("LIST") and len(got) == len(value) and all(map(_same, got, value))
    if isinstance(got, Mapping):
        return (
            kind.startswith("MAP")
            and len(got) == len(value)
            and all(key in value and _same(got[key], value[key]) for key in got)
        )
    match got:
        case bool():
            return kind == "BOOL" and value is got
        case UInt():
            return kind == "UINT" and value == got
        case int():
            return kind == "INT" and value == got
        case float():
            both = (math.isnan(value) and math.isnan(got)) if kind == "DOUBLE" else False
            return kind == "DOUBLE" and (
                both or (value == got and math.copysign(1, value) == math.copysign(1, got))
            )
        case str():
            return kind == "STRING" and value == got
        case bytes():
            return kind == "BYTES" and bytes(value) == got
        case None:
            return kind in ("NULL", "NULL_TYPE") or value is None
        case Timestamp():
            return isinstance(value, datetime) and abs(got.moment - value) < timedelta(
                microseconds=2
            )
        case Duration():
            return (
                isinstance(value, timedelta)
                and abs(got.ns - value // timedelta(microseconds=1) * 1000) < 2000
            )
        case CelType():
            return kind == "TYPE"
    return False


_LARGE = re.compile(r"[0-9]{16,}|1e300")
_OPT_MACRO = re.compile(r"\.opt(Flat)?Map\(")
_LOOP = re.compile(r"\.(all|exists|exists_one|map|filter)\(")
_OPTIONAL = re.compile(r"optional\.|\.\?|\[\?")
_REFUSED = (
    "<end> is greater than <string>.size()",
    "invalid single argument value",
    "simple literal arguments must be numeric",
    "_[?_](list, uint64)",
    "Applying SELECT to non-message type",
    "duplicate key in map",
)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?")


def _explained(text: str, event: Mapping[str, Any], got: Any, expected: Any) -> bool:
    """Whether a row of the table above is about this."""
    small = _LARGE.sub("1234567", text)
    if small != text and difference(small, event, ours(small, event)) is None:
        return True  # the large number alone is what they disagree on
    if _OPT_MACRO.search(text) and _LOOP.search(text):
        return True
    if isinstance(got, MixedMap) or _visits_keys(text, event):
        return True
    if isinstance(got, Failure):
        return "decimal clause" in got.message or "int() for bool" in got.message
    if not isinstance(expected, Failure) and "-nan" in repr(expected.value()):
        return True
    if isinstance(expected, Failure):
        optional = "Index error" in expected.message and bool(_OPTIONAL.search(text))
        return optional or any(each in expected.message for each in _REFUSED)
    formatted = ".format(" in text and type(got) is str
    return formatted and _rounded(got) == _rounded(str(expected.value()))


def _rounded(text: str) -> str:
    """The text with each number to five digits, and without the zeros that end a fraction."""
    text = re.sub(r"0+(?=[Zs])", "", text)
    return _NUMBER.sub(lambda match: f"{float(match[0]):.5g}", text)


def _visits_keys(text: str, event: Mapping[str, Any]) -> bool:
    """Whether a macro makes a list of the keys of a map, whose order is not specified."""
    seen: list[int] = []

    def spy(budget: Budget, value: Any) -> Any:
        if isinstance(value, Mapping):
            seen.append(len(value))
        return access.items(budget, value)

    with mock.patch.object(access, "collected", spy):
        root = Resolver(text, ENVIRONMENT).resolve(parse(text, Limits()), {})
        try:
            careful(root)(Frame({"event": event}, Budget(Limits(), SystemClock())))
        except EvaluationError:
            pass  # only what was visited on the way matters
    return max(seen, default=0) > 1


def kinds(text: str) -> list[str]:
    """What the expression is made of: its nodes, operators, functions and macros."""
    found: list[str] = []
    pending = [Resolver(text, ENVIRONMENT).resolve(parse(text, Limits()), {})]
    while pending:
        node = pending.pop()
        pending += node.children()
        found.append(type(node).__name__)
        match node:
            case tree.Const():
                found.append(f"constant {type_name(node.value)}")
            case tree.Op():
                found.append(f"operator {node.op}")
            case tree.Call():
                found.append(f"function {node.name}")
            case tree.Loop():
                found.append(f"macro {node.kind}{' if' if node.where is not None else ''}")
            case tree.Bind():
                found.append(f"macro {node.kind}")
            case tree.Select():
                found += ["macro has"] * node.test + ["optional field"] * node.optional
            case tree.Index():
                found += ["optional index"] * node.optional
            case tree.ListLit() | tree.MapLit():
                found += ["optional element"] * any(node.optional)
    return found


EVERY_KIND = frozenset(
    {
        *("Const", "Var", "Local", "Select", "Index", "Op", "Call", "ListLit", "MapLit", "Loop"),
        *("Bind", "optional field", "optional index", "optional element", "macro has"),
        *(f"constant {each}" for each in ("bool", "int", "uint", "double", "string", "bytes")),
        *("constant null_type", "constant type"),
        *(f"operator {each}" for each in (*OPERATORS, "&&", "||")),
        *(f"function {each}" for each in FUNCTIONS),
        *(f"macro {each}" for each in ("all", "exists", "existsOne", "map", "map if", "filter if")),
        *(f"macro {each}" for each in ("bind", "optMap", "optFlatMap")),
    }
) - {"function now", "function optional.unwrap", "function unwrapOpt"}
"""What the comparison has to meet. The three functions are not in the reference."""
