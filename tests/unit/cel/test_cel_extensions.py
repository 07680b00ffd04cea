"""The functions on strings, numbers and bytes, one table each."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ofevents.cel import Environment, UInt, compile
from ofevents.cel.functions import FUNCTIONS
from ofevents.errors import EvaluationError

ERROR = object()
STRINGS: list[tuple[str, Any]] = [
    ("'abc'.contains('b')", True), ("'abc'.startsWith('ab')", True), ("'abc'.endsWith('bc')", True),
    ("'abc'.contains(1)", ERROR), ("(1).contains('a')", ERROR), ("'a'.startsWith(1)", ERROR),
    ("'foobar'.matches('o+b')", True), ("matches('foobar', '^o')", False),
    ("'a'.matches('[')", ERROR),
    ("'٣'.matches('^\\\\d$')", False), ("'é'.matches('^.$')", True), ("(1).matches('a')", ERROR),
    ("'Zoë'.charAt(2)", "ë"), ("'a'.charAt(1)", ""), ("'a'.charAt(2)", ERROR),
    ("'a'.charAt(-1)", ERROR),
    ("'a😀b'.indexOf('b')", 2), ("'abab'.indexOf('b', 2)", 3), ("'a'.indexOf('z')", -1),
    ("'a'.indexOf('a', 9)", ERROR), ("'abab'.lastIndexOf('b')", 3),
    ("'abab'.lastIndexOf('b', 2)", 1),
    ("'a'.lastIndexOf('', 1)", 1), ("'a'.lastIndexOf('a', -1)", ERROR), ("'aÉ'.upperAscii()", "AÉ"),
    ("'AÉ'.lowerAscii()", "aÉ"), ("' \\u2003a\\u00a0'.trim()", "a"),
    ("'\\u200ba'.trim()", "\u200ba"),
    ("'aaa'.replace('a', 'b', 2)", "bba"), ("'aaa'.replace('a', 'b', -1)", "bbb"),
    ("'ab'.replace('', '-')", "-a-b-"), ("'a,b'.split(',')", ["a", "b"]),
    ("'ab'.split('')", ["a", "b"]),
    ("'a,b,c'.split(',', 2)", ["a", "b,c"]), ("'a'.split(',', 0)", []),
    ("'abc'.split('', 2)", ["a", "bc"]),
    ("''.split('')", [""]), ("['a', 'b'].join('-')", "a-b"), ("['a', 'b'].join()", "ab"),
    ("[].join('-')", ""), ("['a', 1].join()", ERROR), ("'Zoë!'.substring(1, 3)", "oë"),
    ("'abc'.substring(3)", ""), ("'abc'.substring(4)", ERROR), ("'abc'.substring(2, 1)", ERROR),
    ("'abc'.substring(-1)", ERROR), ("'a😀'.reverse()", "😀a"),
    ("strings.quote('a\"\\n')", '"a\\"\\n"'),
]  # fmt: skip
FORMAT: list[tuple[str, Any]] = [
    ("'%s-%d%%'.format(['a', 5])", "a-5%"), ("'%.2f'.format([1.005])", "1.00"),
    ("'%f'.format([2])", "2.000000"),
    ("'%e'.format([1234.5])", "1.234500e+03"),
    ("'%b %o %x %X'.format([5, 8, 255, 255])", "101 10 ff FF"),
    ("'%b'.format([true])", "1"), ("'%x'.format(['é'])", "c3a9"), ("'%X'.format([b'\\xab'])", "AB"),
    ("'%x'.format([-255])", "-ff"), ("'%s'.format([[1, 'a', null, true]])", "[1, a, null, true]"),
    ("'%s'.format([{'b': 1.5, 'a': b'x'}])", "{a: x, b: 1.5}"), ("'%s'.format([int])", "int"),
    ("'%s'.format([1234567.5])", "1234567.5"),
    ("'%s %s'.format([1.0/0.0, 0.0/0.0])", "Infinity NaN"),
    ("'%d'.format([1.0/0.0])", "Infinity"), ("'%s'.format([duration('1.5s')])", "1.500s"),
    ("'%s'.format([])", ERROR), ("'%d'.format(['a'])", ERROR), ("'%d'.format([1.5])", ERROR),
    ("'%z'.format([1])", ERROR), ("'%'.format([1])", ERROR), ("'%f'.format(['a'])", ERROR),
    ("'%x'.format([1.5])", ERROR), ("'%o'.format([true])", ERROR), ("'%b'.format([null])", ERROR),
    ("'%.9999f'.format([1.5])", ERROR), ("'%s'.format([optional.none()])", ERROR),
    ("'%s'.format('a')", ERROR),
]  # fmt: skip
MATH: list[tuple[str, Any]] = [
    ("math.greatest(1, 2.5, 2u)", 2.5), ("math.least([3, 1u, 2.0])", UInt(1)),
    ("math.greatest([])", ERROR),
    ("math.greatest('a')", ERROR), ("math.greatest(5)", 5), ("math.least(1, '2')", ERROR),
    ("math.ceil(1.2)", 2.0), ("math.floor(-1.2)", -2.0), ("math.round(2.5)", 3.0),
    ("math.round(-2.5)", -3.0),
    ("math.round(0.49999999999999994)", 0.0), ("math.trunc(-1.9)", -1.0),
    ("math.ceil(dyn(1))", ERROR),
    ("math.round(1e300)", 1e300), ("math.floor(1.0/0.0)", math.inf), ("math.abs(-5)", 5),
    ("math.abs(-9223372036854775808)", ERROR), ("math.abs(-1.5)", 1.5), ("math.abs(2u)", UInt(2)),
    ("math.sign(-3)", -1), ("math.sign(2u)", UInt(1)), ("math.sign(-0.5)", -1.0),
    ("math.sign(dyn(true))", ERROR),
    ("math.sqrt(9)", 3.0), ("math.isNaN(math.sqrt(-1.0))", True), ("math.isNaN(0.0/0.0)", True),
    ("math.isInf(1.0/0.0)", True), ("math.isFinite(1.5)", True), ("math.isFinite(dyn(1))", ERROR),
    ("math.bitAnd(6, 3)", 2), ("math.bitOr(6u, 3u)", UInt(7)), ("math.bitXor(6, 3)", 5),
    ("math.bitNot(0)", -1),
    ("math.bitNot(0u)", UInt(2**64 - 1)), ("math.bitAnd(1, dyn(1u))", ERROR),
    ("math.bitNot(dyn(1.5))", ERROR),
    ("math.bitShiftLeft(1, 63)", -(2**63)), ("math.bitShiftLeft(1u, 64)", UInt(0)),
    ("math.bitShiftRight(-1, 63)", 1), ("math.bitShiftRight(8u, 2)", UInt(2)),
    ("math.bitShiftLeft(1, -1)", ERROR), ("math.bitShiftLeft(dyn(1.5), 1)", ERROR),
]  # fmt: skip
ENCODERS: list[tuple[str, Any]] = [
    ("base64.encode(b'hello')", "aGVsbG8="), ("base64.decode('aGVsbG8=')", b"hello"),
    ("base64.decode('aGVsbG8')", b"hello"), ("base64.decode('!')", ERROR),
    ("base64.decode('a===')", ERROR),
    ("base64.encode(dyn('a'))", ERROR), ("base64.decode(' aGVsbG8=')", ERROR),
]  # fmt: skip
ALL = [*STRINGS, *FORMAT, *MATH, *ENCODERS]


@pytest.mark.parametrize(("text", "wanted"), ALL, ids=[text for text, _ in ALL])
def test_a_function(text: str, wanted: Any) -> None:
    program = compile(text, Environment(), check=False)
    if wanted is ERROR:
        with pytest.raises(EvaluationError):
            program.evaluate({})
        return
    got = program.evaluate({})
    assert type(got) is type(wanted)
    assert got == wanted


def test_every_function_is_documented() -> None:
    from pathlib import Path

    import ofevents.cel

    readme = (Path(ofevents.cel.__file__).parent / "README.md").read_text("utf-8")
    missing = [name for name in FUNCTIONS if name.rpartition(".")[2] not in readme]
    assert not missing
