"""Random expressions and events, for the comparison with the reference implementation.

`Expressions` writes an expression of a wanted type from choices that hypothesis (or any
source of numbers) makes. It is typed so that a good part of them succeed, and in one of
twelve places takes a term of another type, so that enough of them fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
Pick = Callable[[int], int]
"""`pick(n)`: a number from 0 to n - 1."""

TYPES = (
    "bool",
    "bool",
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "time",
    "span",
    "dyn",
)
_TEXTS = (
    "",
    "a",
    "ab",
    "order",
    "x",
    "Zoë",
    "😀b",
    "a,b,c",
    "A b",
    "12",
    "-7",
    "1.5",
    "true",
    " t ",
)
_PATTERNS = ("a", "^a.*", "[0-9]+", "(a|b)+$", "", "Zo.")
_ZONES = ("UTC", "Europe/Paris", "America/New_York", "+05:30", "-02:00", "Nowhere")
_TIMES = ("2026-01-31T08:00:00Z", "2020-02-29T23:59:59.5+01:00", "1969-12-31T23:59:59.999Z", "bad")
_SPANS = ("90s", "1h30m", "-1.5s", "100ms", "0s", "36h", "bad")
_BASE64 = ("aGVsbG8=", "aGVsbG8", "YQ==", "!", "")
_CLAUSES = ("%s", "%d", "%x", "%f", "%e", "%b", "%o", "%X", "%.2f", "%%", "a%sb%s")
_PATHS: dict[str, tuple[str, ...]] = {
    "bool": ("event.data.flag",),
    "int": ("event.data.count", "event.data['count']", "event.data.nested.n"),
    "double": ("event.data.amount",),
    "string": ("event.type", "event.source", "event.data.name", "event.data.items[0].sku"),
    "list": ("event.data.tags", "event.data.items", "event.data.mixed", "event.data.numbers"),
    "map": ("event.data", "event.data.nested", "event", "event.data.items[1]"),
    "dyn": ("event.data.missing", "event.data.none", "event.data.mixed[1]", "event.data.items[9]"),
}
_INTS = ("0", "1", "2", "-1", "3", "7", "10", "63", "100", "-5", "9223372036854775807", "0x1F")
_DOUBLES = ("0.0", "1.0", "1.5", "-2.25", "0.1", "1e3", "1e300", "-0.0", "100.5", "0.5", "2.5")


def json_event(pick: Pick) -> dict[str, Any]:
    """An event as it is decoded from JSON; most fields are there, their values vary."""

    def one(*values: T) -> T:
        return values[pick(len(values))]

    items = [
        {"sku": one("a", "b", "x"), "price": one(1, 2.5, 10, 100.5), "qty": one(0, 1, 3)}
        for _ in range(2 + pick(2))
    ]
    if pick(3) == 0:
        del items[-1]["price"]
    data: dict[str, Any] = {
        "amount": one(0.0, 1.5, 100.5, 100, -3.25), "count": one(0, 1, 3, 42, -1),
        "flag": one(True, False), "name": one(*_TEXTS), "tags": one([], ["a"], ["a", "vip", "x"]),
        "items": items, "nested": {"n": one(1, 2, 7), "s": one("a", "x")}, "none": None,
        "mixed": one([1, "a", None, 2.5, True], ["x", 1], [[1], {"a": 1}]),
        "numbers": one([3, 1, 2], [1.5, 2], [0]),
    }  # fmt: skip
    return {"id": "1", "type": one("order", "x", "a"), "source": one("/shop", "a"), "data": data}


# `$kind` is a term of that kind, `$T` of one kind that all `$T` of the template share, `#list`
# a list (`#map` a map) whose element (key) is then `@`, a new name that the rest sees.
_TEMPLATES: dict[str, tuple[str, ...]] = {
    "bool": (
        "$T == $T", "$any == $any", "$T != $T", "$int < $int", "$double <= $double", "!$bool",
        "$string > $string", "$uint >= $int", "$dyn > $double", "$time < $time", "$span >= $span",
        "($bool && $bool)", "($bool || $bool)", "($bool && $bool && $bool)", "!($bool)",
        "($bool ? $bool : $bool)", "$any in $list", "$string in $map", "$int in [1, 2, $int]",
        "$string in ['a', 'order']", "has(event.data.amount)", "has(event.data.nested.s)",
        "has($map.a)", "has(event.data.missing)", "has($map.?a.b)", "bool($string)", "bool($bool)",
        "$string.startsWith($text)", "$string.endsWith($string)", "$string.contains($text)",
        "$string.matches($pattern)", "matches($string, $pattern)", "$opt.hasValue()",
        "math.isNaN($double)", "math.isInf($double)", "math.isFinite($double)",
        "#list.exists(@, $bool)", "#list.all(@, $bool)", "#list.exists_one(@, $bool)",
        "#map.exists(@, $bool)", "#map.all(@, $bool)", "#list.exists_one(@, @ == $any)",
        "#list.exists(@, @ == $any)", "#list.all(@, @ != $any)", "type($any) == type($any)",
        "type($any) == $type",
    ),
    "int": (
        "$int + $int", "$int - $int", "$int * $int", "$int / $int", "$int % $int", "-($int)",
        "size($list)", "size($string)", "$map.size()", "$bytes.size()", "int($double)",
        "int($uint)",
        "int($string)", "int($time)", "($bool ? $int : $int)", "$list[$int]", "$map['n']",
        "$time.getFullYear()", "$time.getMonth($zone)", "$time.getDayOfYear($zone)",
        "$time.getDayOfMonth()", "$time.getDate($zone)", "$time.getDayOfWeek($zone)",
        "$time.getHours($zone)", "$time.getMinutes()", "$time.getSeconds()", "$span.getHours()",
        "$time.getMilliseconds()", "$span.getMinutes()", "$span.getSeconds()",
        "$span.getMilliseconds()", "$string.indexOf($text)", "$string.indexOf($string, $int)",
        "$string.lastIndexOf($text)", "$string.lastIndexOf($string, $int)", "math.abs($int)",
        "math.sign($int)", "math.greatest($int, $int)", "math.least($int, $int, $int)",
        "math.bitAnd($int, $int)", "math.bitOr($int, $int)", "math.bitXor($int, $int)",
        "math.bitNot($int)", "math.bitShiftLeft($int, $int)", "math.bitShiftRight($int, $int)",
        "$opt.orValue($int)", "cel.bind(v, $int, v + $int)",
    ),
    "uint": (
        "$uint + $uint", "$uint - $uint", "$uint * $uint", "$uint / $uint", "$uint % $uint",
        "uint($int)", "uint($double)", "uint($string)", "math.bitNot($uint)", "math.abs($uint)",
        "math.bitShiftRight($uint, $int)", "math.bitAnd($uint, $uint)", "math.sign($uint)",
    ),
    "double": (
        "$double + $double", "$double - $double", "$double * $double", "$double / $double",
        "-($double)", "double($int)", "double($uint)", "double($string)", "math.ceil($double)",
        "math.floor($double)", "math.round($double)", "math.trunc($double)", "math.abs($double)",
        "math.sign($double)", "math.greatest($double, $int)", "math.least($double, $uint)",
        "math.greatest($list)", "math.least($list)", "math.sqrt($double)", "math.sqrt($int)",
    ),
    "string": (
        "$string + $string", "string($int)", "string($uint)", "string($bool)", "string($bytes)",
        "string($double)", "string($time)", "string($span)", "$string.charAt($int)",
        "$string.lowerAscii()", "$string.upperAscii()", "$string.trim()", "$string.reverse()",
        "$string.replace($text, $string)", "$string.replace($text, $text, $int)",
        "$string.substring($int)", "$string.substring($int, $int)", "strings.quote($string)",
        "$list.join()", "$list.join($text)", "$string.split($text).join('-')",
        "'$clause'.format([$any])", "'$clause'.format([$int])", 
        "'$clause $clause'.format([$any, $any])",
        "base64.encode($bytes)", "($bool ? $string : $string)", "$map['s']", "$map.s",
        "$opt.orValue($string)", "cel.bind(v, $string, v + v)", "['a', 'b'][$int]",
    ),
    "bytes": ("$bytes + $bytes", "bytes($string)", "base64.decode($base64)", "bytes($bytes)"),
    "list": (
        "$list + $list", "[$any, $any]", "[$T, $T, $T]", "[$int, $int]", "[?$opt, $any]",
        "[?$opt, ?$opt,]", "#list.map(@, $any)", "#list.map(@, @)", "#list.map(@, $bool, @)",
        "#list.filter(@, $bool)", "#map.map(@, @)", "#map.filter(@, $bool)",
        "#list.filter(@, @ == $any)",
        "$string.split($text)", "$string.split($text, $int)", "($bool ? $list : $list)",
        "#list.map(@, [@, $any])",
    ),
    "map": (
        "{'a': $any, 'b': $any}", "{$string: $any}", "{$int: $any, $int: $any}", "{'n': $int}",
        "{?'a': $opt, 's': $string}", "{?'n': $opt,}", "$map.a", "($bool ? $map : $map)",
        "{$bool: $any}",
    ),
    "time": (
        "$time + $span", "$span + $time", "$time - $span", "timestamp($time)", "timestamp($int)",
        "timestamp($string)",
    ),
    "span": ("$span + $span", "$span - $span", "$time - $time", "duration($span)"),
    "opt": (
        "optional.of($any)", "optional.none()", "optional.ofNonZeroValue($any)", "$map.?a",
        "$map[?$string]", "$list[?$int]", "$opt.or($opt)", "optional.of($int).optMap(q, q + $int)",
        "$opt.optMap(q, q)", "$map.?n.optFlatMap(q, optional.of(q))", "$opt.a", "$map.?a.b",
        "$list[?0].optFlatMap(q, q)", "optional.of($map).a", "optional.of([$any, 1])[0]", "$opt.?b",
    ),
    "dyn": (
        "$map.a", "$map.missing", "$list[$int]", "$list[0]", "$map[$any]", "dyn($any)",
        "$opt.value()",
        "cel.bind(v, $any, [v, $any])", "($bool ? $any : $any)", "$opt.orValue($any)", "type($any)",
        "event.data[$string]", "event[$text]", "$any.a",
    ),
    "type": ("int", "string", "type", "list", "map", "bool", "null_type",
             "google.protobuf.Timestamp"),
}  # fmt: skip
_TERM = re.compile(r"[$#@](\w*)")
_WORDS = {"pattern": _PATTERNS, "zone": _ZONES, "base64": _BASE64, "text": _TEXTS}


class Expressions:
    """Writes expressions. One instance makes one expression."""

    def __init__(self, pick: Pick) -> None:
        self._pick = pick
        self._names: list[tuple[str, str]] = []
        """The macros' variables in scope and their kinds."""
        self._made = 0

    def one(self, values: Sequence[T]) -> T:
        return values[self._pick(len(values))]

    def any(self, depth: int) -> str:
        """An expression of some type."""
        return self.make(self.one(TYPES), depth)

    def make(self, kind: str, depth: int) -> str:
        """An expression of that kind, as a rule."""
        if self._pick(30) == 0:
            kind = self.one(TYPES)
        if depth <= 0 or (kind not in ("opt", "type") and self._pick(7) == 0):
            return self._leaf(kind)
        return self._fill(self.one(_TEMPLATES[kind]), depth - 1)

    def _leaf(self, kind: str) -> str:
        named = [name for name, type_ in self._names if type_ in (kind, "dyn")]
        if named and self._pick(3):
            return self.one(named)
        if kind in _PATHS and self._pick(2):
            return self.one(_PATHS[kind])
        return self.one(_LEAVES[kind])

    def _fill(self, template: str, depth: int) -> str:
        shared, name, before = self.one(TYPES), "", len(self._names)

        def term(match: re.Match[str]) -> str:
            nonlocal name
            kind = match[1]
            if match[0] == "@":
                return name
            if match[0][0] == "#":
                # What is visited is written before its variable is in scope.
                visited = self.make(kind, depth)
                self._made += 1
                name = f"e{self._made}"
                self._names.append((name, "dyn" if kind == "list" else "string"))
                return visited
            if kind == "clause":
                return self.one(_CLAUSES)
            if kind in _WORDS:
                return quoted(self.one(_WORDS[kind]))
            return self.make({"T": shared, "any": self.one(TYPES)}.get(kind, kind), depth)

        text = _TERM.sub(term, template)
        del self._names[before:]
        return text if text[0] in "([{" or " " not in text else f"({text})"


def quoted(text: str) -> str:
    """A string literal of CEL."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_LEAVES: dict[str, tuple[str, ...]] = {
    "bool": ("true", "false"),
    "int": _INTS,
    "uint": ("0u", "1u", "2u", "7u", "18446744073709551615u"),
    "double": _DOUBLES,
    "string": tuple(map(quoted, _TEXTS)),
    "bytes": ("b''", "b'a'", r"b'\xff'", "b'abc'", "bytes('é')"),
    "list": ("[]", "[1, 2, 3]", "['a', 'b']", "[1.5, 2, 3u]", "[[1], []]"),
    "map": ("{}", "{'a': 1}", "{1: 'x', 2: 'y'}", "{'a': {'b': 2}}"),
    "time": tuple(f"timestamp('{each}')" for each in _TIMES),
    "span": tuple(f"duration('{each}')" for each in _SPANS),
    "opt": ("optional.none()", "optional.of(1)", "optional.of('a')"),
    "dyn": ("null", "null", "1", "'a'", "int", "dyn(2u)"),
    "type": _TEMPLATES["type"],
}
