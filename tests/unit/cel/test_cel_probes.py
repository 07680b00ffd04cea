"""What filters on JSON events trip over in other engines; each must be right here.

Every row is something that at least one CEL engine for Python gets wrong, or leaves to
chance: numbers of two types, missing fields in a loop, texts beyond ASCII, guards.
"""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.cel import EVENT, CelError, Environment, Timestamp, compile
from ofevents.errors import EvaluationError

ENV = Environment({"event": EVENT})
ERROR = object()
DATA: dict[str, Any] = {
    "amount": 100.5, "whole": 100.0, "count": 3, "flag": True, "none": None, "name": "Zoë",
    "tags": ["a", "b"], "mixed": [1, "a", None], "items": [{"price": 20}, {"sku": "x"}],
    "pattern": "[", "huge": 2**70, "limits": {"max": 5},
}  # fmt: skip
EVENT_VALUE: dict[str, Any] = {
    "id": "1", "type": "order", "source": "/shop", "time": "2026-11-23T10:00:00+01:00",
    "data": DATA,
}  # fmt: skip

PROBES: list[tuple[str, Any]] = [
    # int and double meet, on either side
    ("event.data.amount > 100", True), ("event.data.count > 2.5", True),
    ("event.data.whole == 100", True), ("event.data.count == 3.0", True),
    ("event.data.count in [1.0, 3.0]", True), ("100 < event.data.amount", True),
    ("event.data.count != null", True), ('event.data.count == "3"', False),
    ('"nope" in event.data.mixed', False), ('event.data.mixed.exists(x, x == "nope")', False),
    ("event.data.flag == 1", False), ("event.data.count && true", ERROR),
    ("event.data.tags[-1]", ERROR), ("0.0/0.0 == 0.0/0.0", False),
    ("event.data.amount + 1.0 > 101.0", True), ("event.data.count + 1.0 > 1.0", ERROR),
    ("double(event.data.count) + 1.0", 4.0),
    # what is missing
    ("has(event.data.missing)", False), ("has(event.data.missing.deep)", ERROR),
    ('{"a": event.data.missing}', ERROR), ("event.data.missing == 1", ERROR),
    ('!has(event.data.missing) || event.data.missing == "a"', True),
    ("has(event.data.count) && event.data.count > 1", True),
    ("event.data.none.exists(c, true)", ERROR), ("event.data.none == null", True),
    # macros absorb errors
    ("event.data.items.exists(i, i.price > 10)", True),
    ("event.data.items.exists(i, i.price > 90)", ERROR),
    ("[1, 2, 3].all(e, 6 / (2 - e) == 6)", False),
    ("event.data.items.map(i, has(i.price), i.price)", [20]),
    # texts
    ("string(true)", "true"), ('size("Zoë")', 3), ('size("😀")', 1), ("size(event.data.name)", 3),
    ('"٣".matches("^\\\\d$")', False), ('matches("abc", "b")', True),
    ("event.data.name.matches(event.data.pattern)", ERROR), ('b"a\\x00b".size()', 3),
    # integers
    ("-(-9223372036854775807 - 1)", ERROR), ("9223372036854775807 + 1", ERROR),
    ("event.data.huge > 1", True), ("event.data.huge + 1", ERROR), ("event.data.count > 1", True),
    # time
    ('event.time.getHours("Europe/Paris")', 10), ("event.time.getHours()", 9),
    ("string(event.time)", "2026-11-23T09:00:00Z"), ('string(duration("90s"))', "90s"),
    ("timestamp(0)", Timestamp(0)), ('int(timestamp("1970-01-01T00:00:01Z"))', 1),
    ('event.time > timestamp("2026-01-01T00:00:00Z")', True),
    # maps and fields
    ('{"a-b": 1}.`a-b`', 1), ("event.data.?missing.orValue(0)", 0), ("[?event.data.?missing]", []),
    ('event["data"]["count"]', 3), ("event.data.limits['max']", 5), ("[1, 2,]", [1, 2]),
    ("cel.bind(m, event.data.limits.max, m * m)", 25),
]  # fmt: skip
REFUSED: list[tuple[str, str]] = [
    ('timestamp("2026-11-23")', "no RFC 3339 timestamp"), ('duration("1d")', "no duration"),
    ("duration('320000000000s')", "out of range"), ('"a" in "abc"', "no matching overload"),
    ('{"a": 1, "a": 2} == {1.5: 1}', "a map key"), ("evnt.data == 1", "did you mean event?"),
    ('event.type.startswith("a")', "did you mean startsWith?"), ("1 + 'a'", "no matching overload"),
    ('event.tpe == "a"', "did you mean type?"), ("event.type == 1", "no matching overload"),
    ('event.time > "2026"', "timestamp("), ('event.type.matches("[")', "regular expression"),
    ("f(1)", "undeclared function f"), ("event.type ==", "ends too early"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), PROBES, ids=[text for text, _ in PROBES])
def test_a_probe(text: str, wanted: Any) -> None:
    program = compile(text, ENV)
    if wanted is ERROR:
        with pytest.raises(EvaluationError):
            program.evaluate({"event": EVENT_VALUE})
    else:
        got = program.evaluate({"event": EVENT_VALUE})
        assert type(got) is type(wanted)
        assert got == wanted


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_other_engines_accept_is_refused_at_load(text: str, said: str) -> None:
    with pytest.raises(CelError) as caught:
        compile(text, ENV)
    assert said in str(caught.value)


def test_duplicate_keys_are_an_error() -> None:
    with pytest.raises(EvaluationError, match="twice"):
        compile('{"a": 1, "a": 2}', ENV).evaluate({})


def test_bad_input_beside_a_field_that_is_not_read_does_no_harm() -> None:
    odd = {**DATA, "odd": object(), "lone": "\ud800", "nan": float("nan"), "tuple": (1, 2)}
    program = compile('event.type == "order" && event.data.count == 3', ENV)
    assert program.evaluate({"event": {**EVENT_VALUE, "data": odd}}) is True
