"""The rules of the language, one table each; no file beside the project is needed.

Every case is run twice: as generated code, and by the closures that take over when
something fails. Both have to give the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ofevents.cel import DYN, CelType, Duration, Environment, Limits, Timestamp, UInt, compile
from ofevents.cel.careful import careful
from ofevents.cel.frames import Frame
from ofevents.cel.limits import Budget
from ofevents.cel.parse import parse
from ofevents.cel.resolve import Resolver
from ofevents.clock import SystemClock
from ofevents.errors import EvaluationError

ERROR = object()
DATA: dict[str, Any] = {
    "i": 3, "d": 100.5, "s": "Zoë", "b": True, "n": None, "l": [1, 2, 3], "e": [],
    "m": {"a": {"b": 1}},
    "items": [{"sku": "x", "price": 5}, {"sku": "y"}], "mixed": [1, "a", None, True, 2.5],
}  # fmt: skip
ENV = Environment({"x": DYN})

LITERALS = [
    ("0x1F", 31), ("1u", UInt(1)), ("-5", -5), ("1.5e3", 1500.0), (".5", 0.5),
    ("'a' + \"b\"", "ab"),
    ("r'\\n'", "\\n"), ("'''a\nb'''", "a\nb"), (r"'\x41\101\u0041\U00000041\n'", "AAAA\n"),
    (r"b'\xff\377a'", b"\xff\xffa"), ("b'é'", "é".encode()), ("br'\\a'", b"\\a"),
    ("[1, 2,]", [1, 2]), ("{'a': 1,}", {"a": 1}), ("null", None), ("1 // comment", 1),
    ("'// no comment'", "// no comment"), ("{'a-b': 1}.`a-b`", 1), ("{'for': 1}.for", 1),
]  # fmt: skip
ARITHMETIC = [
    ("7 / -2", -3), ("-7 % 3", -1), ("7 % -3", 1), ("9223372036854775807 + 1", ERROR),
    ("-9223372036854775808 - 1", ERROR), ("-9223372036854775808 / -1", ERROR), ("1 / 0", ERROR),
    ("1 % 0", ERROR), ("1.0 / 0.0", float("inf")), ("1u - 2u", ERROR), ("2u * 3u", UInt(6)),
    ("18446744073709551615u + 1u", ERROR), ("-(1u)", ERROR), ("x.i + 1.0", ERROR),
    ("x.d + 1.0", 101.5), ("[1] + ['a']", [1, "a"]), ("b'a' + b'b'", b"ab"), ("'a' + 1", ERROR),
    ("x.i * 9223372036854775807", ERROR), ("5.0 % 2.0", ERROR), ("--3", 3), ("!x.b", False),
    ("!x.i", ERROR), ("1 + 2 * 3 - 4 / 2", 5),
]  # fmt: skip
COMPARISONS = [
    ("x.i == 3.0", True), ("x.i == 3u", True), ("x.i < 3.5", True), ("3u > -1", True),
    ("x.i == '3'", False), ("x.i != null", True), ("x.n == null", True), ("x.b == 1", False),
    ("x.b == 1.0", False), ("x.b != 1", True), ("x.b == true", True), ("[true] == [1]", False),
    ("[1, [2u]] == [1.0, [2]]", True), ("{'a': 1} == {'a': 1.0}", True),
    ("{1: 1} == {true: 1}", False),
    ("x.i < 'a'", ERROR), ("null < null", ERROR), ("'a' < 'b'", True), ("'😀' > '\\uffff'", True),
    ("0.0 / 0.0 == 0.0 / 0.0", False), ("0.0 / 0.0 != 0.0 / 0.0", True), ("1 < 0.0 / 0.0", False),
    ("9007199254740993 == 9007199254740992.0", False), ("x.l == x.l", True),
    ("x.l != [1, 2]", True),
    ("type(x.i) == int", True), ("b'a' < b'b'", True), ("false < true", True), ("3 == x.i", True),
    ("100 < x.d", True), ("101 >= x.d", True), ("'Zoë' == x.s", True), ("x.s >= 'A'", True),
    ("0 == x.e", False), ("x.m == {'a': {'b': 1u}}", True),
]  # fmt: skip
LOGIC = [
    ("x.missing == 1 || true", True), ("true || x.missing == 1", True),
    ("x.missing == 1 && false", False),
    ("x.missing == 1 && true", ERROR), ("false || x.missing == 1", ERROR), ("x.i && false", False),
    ("x.i && true", ERROR), ("true && x.i", ERROR), ("x.i || true", True),
    ("x.missing ? 1 : 2", ERROR),
    ("true ? 1 : x.missing", 1), ("false ? x.missing : 2", 2), ("1 ? 2 : 3", ERROR),
    ("1/0 > 0 || 1/0 > 0 || true", True), ("(1/0 > 0 && false) || true", True),
    ("!(x.missing == 1) || true", True), ("(x.missing == 1 ? true : false) || true", True),
    ("x.b ? 'y' : 'n'", "y"), ("has(x.i) && x.i > 1", True), ("!has(x.zz) || x.zz == 1", True),
]  # fmt: skip
ACCESS = [
    ("x.m.a.b", 1), ("x['m']['a'].b", 1), ("x.missing", ERROR), ("x.i.a", ERROR), ("x.s.a", ERROR),
    ("x.l.a", ERROR), ("has(x.m.a)", True), ("has(x.m.z)", False), ("has(x.z.a)", ERROR),
    ("has(x.s.a)", ERROR), ("has(x.l.a)", ERROR), ("x.l[0]", 1), ("x.l[3]", ERROR),
    ("x.l[-1]", ERROR),
    ("x.l[1.0]", 2), ("x.l[1u]", 2), ("x.l[1.5]", ERROR), ("x.l['a']", ERROR), ("x.l[true]", ERROR),
    ("x.s[0]", ERROR), ("'abc'[0]", ERROR), ("{1: 'a'}[1.0]", "a"), ("{1: 'a'}[1u]", "a"),
    ("{1: 'a'}[true]", ERROR), ("{true: 'a'}[1]", ERROR), ("{true: 'a', 1: 'b'}[1]", "b"),
    ("{true: 'a', 1: 'b'}[true]", "a"), ("{'a': 1, 'a': 2}", ERROR), ("{1: 1, 1u: 2}", ERROR),
    ("{1.0: 1}", ERROR), ("{null: 1}", ERROR), ("{1: 1}[null]", ERROR), ("1 in {1u: 0}", True),
    ("1.5 in {1: 0}", False), ("'i' in x", True), ("'a' in x.mixed", True), ("true in [1]", False),
    ("2.5 in x.mixed", True), ("null in x.mixed", True), ("1 in 'a'", ERROR),
    ("'a' in 'abc'", ERROR),
    ("[1] in {1: 1}", ERROR), ("x.i in [1, 2, 3]", True), ("x.s in ['a', 'Zoë']", True),
    ("x.i in ['a', 'b']", False), ("x.e in [[]]", True),
]  # fmt: skip
MACROS = [
    ("x.items.exists(i, i.price > 1)", True), ("x.items.exists(i, i.price > 9)", ERROR),
    ("x.items.all(i, i.price > 9)", False), ("x.items.all(i, i.price > 1)", ERROR),
    ("x.items.exists_one(i, i.sku == 'x')", True), ("x.items.exists_one(i, i.price > 1)", ERROR),
    ("x.items.existsOne(i, true)", False), ("x.items.map(i, i.sku)", ["x", "y"]),
    ("x.items.map(i, has(i.price), i.price)", [5]), ("x.items.filter(i, has(i.price)).size()", 1),
    ("x.l.map(a, x.l.map(b, a * b))[2]", [3, 6, 9]), ("x.l.map(x, x)", [1, 2, 3]),
    ("[[1, 2], [3]].map(l, l.map(l, l + 1))", [[2, 3], [4]]), ("x.m.map(k, k)", ["a"]),
    ("x.m.exists(k, k == 'a')", True), ("x.s.map(c, c)", ERROR), ("x.e.all(a, 1 / 0 > 0)", True),
    ("x.e.exists(a, true)", False), ("[1, true].exists(a, a)", True),
    ("[true, 1].all(a, a)", ERROR),
    ("[false, 1].all(a, a)", False), ("[1].filter(a, a)", ERROR),
    ("x.l.exists(a, a == 2 || a / 0 > 0)", True),
    ("[3].all(i, v, i == 0 && v == 3)", True), ("{'a': 1}.exists(k, v, k == 'a' && v == 1)", True),
    ("[1, 2].existsOne(i, v, v > i + 1)", False),
    ("[1, 2].transformList(i, v, i + v)", [1, 3]), ("[1, 2].transformList(i, v, i > 0, v)", [2]),
    ("{'a': 1}.transformMap(k, v, v + 1)", {"a": 2}), ("[5].transformMap(i, v, v)", {0: 5}),
    ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, k)", {"b": "b"}),
    ("{'a': 'b'}.transformMapEntry(k, v, {v: k})", {"b": "a"}),
    ("[1, 1].transformMapEntry(i, v, {v: i})", ERROR), ("[1].transformMapEntry(i, v, v)", ERROR),
    ("cel.bind(a, x.i, a * a)", 9), ("cel.bind(a, 1/0, true)", True),
    ("cel.bind(a, 1/0, a == 1)", ERROR),
    ("cel.bind(a, 1/0, a == 1 || true)", True), ("x.l.map(a, cel.bind(b, a, b + a))", [2, 4, 6]),
]  # fmt: skip
OPTIONALS = [
    ("x.?i.orValue(0)", 3), ("x.?zz.orValue(0)", 0), ("x.?zz.a.b.hasValue()", False),
    ("x.?m.a.b.value()", 1), ("x.?i.a.hasValue()", ERROR), ("x.l[?9].hasValue()", False),
    ("x.l[?0].value()", 1), ("x.m[?'z'].hasValue()", False), ("optional.none().value()", ERROR),
    ("optional.of(1).or(optional.of(1/0)).value()", 1), ("optional.of(1).orValue(1/0)", 1),
    ("optional.none().orValue(1/0)", ERROR), ("optional.none().or(optional.of(2)).value()", 2),
    ("optional.none().or(2)", ERROR), ("(1).orValue(2)", ERROR), ("[?x.?i, ?x.?zz]", [3]),
    ("{?'a': x.?i, ?'b': x.?zz}", {"a": 3}), ("[?1]", ERROR), ("has(x.?m.a)", True),
    ("has(x.?zz.a)", False), ("optional.of(2).optMap(v, v + 1).value()", 3),
    ("optional.none().optMap(v, v + 1).hasValue()", False), ("(1).optMap(v, v)", ERROR),
    ("x.?m.optFlatMap(m, m.?a).optMap(a, a.b).orValue(0)", 1),
    ("optional.of(1).optFlatMap(v, v)", ERROR), ("optional.ofNonZeroValue('').hasValue()", False),
    ("optional.ofNonZeroValue(0.5).hasValue()", True), ("optional.of(1) == optional.of(1.0)", True),
    ("optional.none() == optional.of(1)", False),
    ("optional.unwrap([optional.of(1), optional.none()])", [1]),
    ("[optional.of(1), x.?zz].unwrapOpt()", [1]), ("type(optional.none()) == optional_type", True),
    ("optional.ofNonZeroValue(duration('0s')).hasValue()", False),
    ("optional.of(x.l)[0].value()", 1),
]  # fmt: skip
CONVERSIONS = [
    ("int('-7')", -7), ("int('0x1')", ERROR), ("int(' 1')", ERROR), ("int(1.9)", 1),
    ("int(-1.9)", -1),
    ("int(1e19)", ERROR), ("int(0.0/0.0)", ERROR), ("int(18446744073709551615u)", ERROR),
    ("int(true)", ERROR), ("int(null)", ERROR), ("uint(-1)", ERROR), ("uint('7')", UInt(7)),
    ("uint(1.9)", UInt(1)), ("double('1e3')", 1000.0), ("double('x')", ERROR),
    ("double('-inf')", float("-inf")),
    ("string(1.0)", "1"), ("string(0.1)", "0.1"), ("string(1234567.5)", "1.2345675e+06"),
    ("string(-2000000.0)", "-2e+06"), ("string(1e100)", "1e+100"), ("string(true)", "true"),
    ("string(b'\\xff')", ERROR), ("string(b'\\xc3\\xab')", "ë"), ("string(1u)", "1"),
    ("string([])", ERROR),
    ("bytes('ë')", "ë".encode()), ("bool('True')", True), ("bool('yes')", ERROR),
    ("bool(1)", ERROR),
    ("type(1)", CelType("int")), ("type(type(1))", CelType("type")),
    ("type(x.n)", CelType("null_type")),
    ("type(timestamp(0))", CelType("google.protobuf.Timestamp")), ("dyn(x.i)", 3), ("size(x.s)", 3),
    ("size(b'\\xff\\x00')", 2), ("'a\\u0000b'.size()", 3), ("x.m.size()", 1), ("size(1)", ERROR),
    ("size('😀')", 1), ("string(x.d)", "100.5"),
    ("int(timestamp('2009-02-13T23:31:30Z'))", 1234567890),
]  # fmt: skip
TIMES = [
    ("string(timestamp('2026-01-31T08:00:00.5+01:00'))", "2026-01-31T07:00:00.500Z"),
    ("timestamp('2016-12-31T23:59:60Z') == timestamp('2017-01-01T00:00:00Z')", True),
    ("timestamp('2026-01-31')", ERROR), ("timestamp('2026-02-30T00:00:00Z')", ERROR),
    ("timestamp('0001-01-01T00:00:00Z') - duration('1ns')", ERROR),
    ("timestamp(1) + duration('1s')", Timestamp(2 * 10**9)),
    ("duration('1s') + timestamp(1)", Timestamp(2 * 10**9)),
    ("timestamp(2) - timestamp(1)", Duration(10**9)),
    ("duration('1h') - timestamp(1)", ERROR), ("duration('1.5h') == duration('90m')", True),
    ("duration('-1m30s')", Duration(-90 * 10**9)), ("duration('1d')", ERROR),
    ("duration('')", ERROR),
    ("duration('320000000000s')", ERROR), ("string(duration('-1.5s'))", "-1.500s"),
    ("duration('200000000000s') + duration('1s')", ERROR), ("duration('3730.5s').getMinutes()", 62),
    ("duration('3730.5s').getMilliseconds()", 500), ("duration('1h').getDate()", ERROR),
    ("timestamp('2026-03-29T01:30:00Z').getHours('Europe/Paris')", 3),
    ("timestamp('2026-03-29T00:30:00Z').getHours('Europe/Paris')", 1),
    ("timestamp('2026-01-01T00:00:00Z').getFullYear('-00:30')", 2025),
    ("timestamp('2026-01-01T00:00:00Z').getHours('+05:30')", 5),
    ("timestamp(0).getHours('Mars')", ERROR),
    ("timestamp('2026-01-04T00:00:00Z').getDayOfWeek()", 0), ("timestamp(0).getDayOfYear()", 0),
    ("timestamp(0).getMonth()", 0), ("timestamp(0).getDayOfMonth()", 0),
    ("timestamp(0).getDate()", 1),
    ("timestamp(0) < timestamp(1)", True), ("duration('1s') <= duration('1s')", True),
    ("timestamp(0) < 1", ERROR),
    ("timestamp('2026-01-31T08:00:00.123456789Z').getMilliseconds()", 123),
    ("timestamp(5).getSeconds() + timestamp(65).getMinutes()", 6),
]  # fmt: skip
TABLES = {
    "literals": LITERALS, "arithmetic": ARITHMETIC, "comparisons": COMPARISONS, "logic": LOGIC,
    "access": ACCESS, "macros": MACROS, "optionals": OPTIONALS, "conversions": CONVERSIONS,
    "times": TIMES,
}  # fmt: skip


def outcome(run: Any) -> Any:
    try:
        return run()
    except EvaluationError:
        return ERROR


def same(got: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return isinstance(got, list) and len(got) == len(wanted) and all(map(same, got, wanted))
    if isinstance(wanted, dict):
        return isinstance(got, Mapping) and dict(got) == wanted
    return type(got) is type(wanted) and bool(got == wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        pytest.param(*case, id=f"{table}: {case[0]}")
        for table, cases in TABLES.items()
        for case in cases
    ],
)
def test_a_rule(text: str, wanted: Any) -> None:
    fast = outcome(lambda: compile(text, ENV, check=False).evaluate({"x": DATA}))
    assert (fast is wanted) if wanted is ERROR else same(fast, wanted), fast
    root = Resolver(text, ENV).resolve(parse(text, Limits()), {})
    frame = Frame({"x": DATA}, Budget(Limits(), SystemClock()))
    slow = outcome(lambda: careful(root)(frame))
    assert (slow is wanted) if wanted is ERROR else same(slow, wanted), slow
