"""The functions on strings: CEL's own and the strings extension. Positions are code points."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import re2

from ofevents.cel.limits import Budget
from ofevents.cel.values import UInt, no_overload, plain
from ofevents.errors import EvaluationError

# Unicode White_Space; Python's own strip() takes the separators \x1c to \x1f too.
_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_QUOTED = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
    "\\": "\\\\", '"': '\\"',
}  # fmt: skip
_TO_QUOTE = re.compile(r'[\a\b\f\n\r\t\v\\"]')
_SURROGATE = re.compile("[\ud800-\udfff]")


def text(name: str, value: Any) -> str:
    """The argument as a string, or the error of the function of that name."""
    if type(value) is str:
        return value
    value = plain(value)
    if type(value) is not str:
        no_overload(name, value)
    return str(value)


def number(name: str, value: Any) -> int:
    """The argument as an int, or the error of the function of that name."""
    if type(value) is not int:
        value = plain(value)
        if type(value) is not int:
            no_overload(name, value)
    return int(value)


def contains(value: Any, part: Any) -> bool:
    return text("contains", part) in text("contains", value)


def starts_with(value: Any, part: Any) -> bool:
    return text("startsWith", value).startswith(text("startsWith", part))


def ends_with(value: Any, part: Any) -> bool:
    return text("endsWith", value).endswith(text("endsWith", part))


@lru_cache(maxsize=64)  # each may take 4 MB
def regex(pattern: str) -> Any:
    """The compiled RE2 pattern. Raises EvaluationError with RE2's reason."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 4 << 20
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = str(error.args[0] if error.args else error)
        if isinstance(error.args[0] if error.args else None, bytes):
            reason = error.args[0].decode(errors="replace")
        raise EvaluationError(f"the regular expression is wrong: {reason}") from None


def matches(B: Budget, value: Any, pattern: Any) -> bool:
    subject = text("matches", value)
    B.work(8 * len(subject))
    return search(regex(text("matches", pattern)), subject)


def search(compiled: Any, subject: str) -> bool:
    """Whether the compiled pattern is found anywhere in the text."""
    try:
        return compiled.search(subject) is not None
    except UnicodeEncodeError:
        raise EvaluationError("matches: the string has a lone surrogate") from None


def char_at(value: Any, at: Any) -> str:
    subject, position = text("charAt", value), number("charAt", at)
    _within("charAt", position, len(subject))
    return subject[position : position + 1]


def _within(name: str, position: int, length: int) -> None:
    if not 0 <= position <= length:
        raise EvaluationError(f"{name}: index out of range: {position}")


def index_of(value: Any, part: Any, offset: Any = 0) -> int:
    subject, wanted = text("indexOf", value), text("indexOf", part)
    start = number("indexOf", offset)
    _within("indexOf", start, len(subject))
    return subject.find(wanted, start)


def last_index_of(value: Any, part: Any, offset: Any = None) -> int:
    subject, wanted = text("lastIndexOf", value), text("lastIndexOf", part)
    if offset is not None:
        start = number("lastIndexOf", offset)
        _within("lastIndexOf", start, len(subject))
        subject = subject[: start + len(wanted)]
    if len(wanted) < 64:
        return subject.rfind(wanted)
    # Python searches backwards in quadratic time, forwards in linear time.
    found = subject[::-1].find(wanted[::-1])
    return -1 if found < 0 else len(subject) - found - len(wanted)


def lower_ascii(B: Budget, value: Any) -> str:
    subject = text("lowerAscii", value)
    B.make(len(subject))
    return subject.translate(_LOWER)


def upper_ascii(B: Budget, value: Any) -> str:
    subject = text("upperAscii", value)
    B.make(len(subject))
    return subject.translate(_UPPER)


def trim(B: Budget, value: Any) -> str:
    subject = text("trim", value)
    B.make(len(subject))
    return subject.strip(_SPACE)


def replace(B: Budget, value: Any, old: Any, new: Any, limit: Any = -1) -> str:
    subject, before, after = text("replace", value), text("replace", old), text("replace", new)
    count = number("replace", limit)
    found = subject.count(before)
    if 0 <= count < found:
        found = count
    B.make(len(subject) + found * len(after))
    return subject.replace(before, after, max(count, -1))


def split(B: Budget, value: Any, separator: Any, limit: Any = -1) -> list[str]:
    subject, between = text("split", value), text("split", separator)
    count = number("split", limit)
    B.make(2 * len(subject) + 64 * (subject.count(between) if between else len(subject)))
    if count == 0:
        return []
    if between:
        return subject.split(between, count - 1 if count > 0 else -1)
    if not subject:
        return [""]
    if 0 < count < len(subject):
        return [*subject[: count - 1], subject[count - 1 :]]
    return list(subject)


def join(B: Budget, values: Any, separator: Any = "") -> str:
    values = plain(values)
    if type(values) not in (list, tuple):
        no_overload("join", values)
    between = text("join", separator)
    parts = [text("join", part) for part in B.walk(values)]
    B.make(sum(map(len, parts)) + len(between) * len(parts))
    return between.join(parts)


def substring(B: Budget, value: Any, start: Any, end: Any = None) -> str:
    subject, first = text("substring", value), number("substring", start)
    last = len(subject) if end is None else number("substring", end)
    _within("substring", first, len(subject))
    _within("substring", last, len(subject))
    if first > last:
        raise EvaluationError(f"substring: the start {first} is behind the end {last}")
    B.make(last - first)
    return subject[first:last]


def quote(B: Budget, value: Any) -> str:
    subject = text("strings.quote", value)
    B.make(2 * len(subject) + 2)
    return f'"{_SURROGATE.sub(chr(0xFFFD), _TO_QUOTE.sub(lambda m: _QUOTED[m[0]], subject))}"'


def reverse(B: Budget, value: Any) -> str:
    subject = text("reverse", value)
    B.make(len(subject))
    return subject[::-1]


def size(value: Any) -> int:
    """Characters of a string, bytes, elements or entries."""
    kind = type(value)
    if kind is str or kind is list or kind is dict or kind is bytes:
        return len(value)
    if kind is UInt or not hasattr(value := plain(value), "__len__"):
        no_overload("size", value)
    return len(value)
