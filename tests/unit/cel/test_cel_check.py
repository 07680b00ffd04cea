"""What is found when an expression is loaded: names, attributes, types, constants, warnings."""

from __future__ import annotations

import pytest

from ofevents.cel import (
    BOOL,
    DYN,
    EVENT,
    STRING,
    CelError,
    Environment,
    Keyed,
    ListOf,
    MapOf,
    compile,
)

ENV = Environment(
    {
        "event": EVENT,
        "events": Keyed({"orders": EVENT, "pay-ments": EVENT}),
        "inputs": Keyed({"orders": BOOL, "pay-ments": BOOL}),
        "orders": BOOL,
        "latest": MapOf(EVENT),
        "names": ListOf(STRING),
    }
)


def problems(text: str) -> list[str]:
    with pytest.raises(CelError) as caught:
        compile(text, ENV, result=BOOL)
    return [f"{each.line}:{each.column}: {each.message}" for each in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ('event.tpe == "a"', "1:7", "no such attribute tpe, did you mean type?"),
        ('event.sourzce == "a"', "1:7", "did you mean source?"),
        ('event.datacontentype == "a"', "1:7", "did you mean datacontenttype?"),
        ('event.Type == "a"', "1:7", "did you mean event.type?"),
        ("event.orderId == 1", "1:7", "did you mean event.data.orderId?"),
        ("events.orders.order_id == 1", "1:15", "did you mean events.orders.data.order_id?"),
        ("has(event.subjct)", "1:11", "did you mean subject?"),
        ('latest["x"].tpe == "a"', "1:13", "did you mean type?"),
        ("events.orderz.data.x == 1", "1:8", "there is no orderz here, did you mean orders?"),
        ('inputs["payments"]', "1:8", "did you mean pay-ments?"),
        ('evnt.type == "x"', "1:1", "undeclared variable evnt, did you mean event?"),
        ("q", "1:1", "known are event, events, inputs"),
        ("event.type.startswith('x')", "1:12", "did you mean startsWith?"),
        ("event.type.lower() == 'x'", "1:12", "did you mean lowerAscii?"),
        ("math.max(1, 2) == 2", "1:6", "did you mean math.greatest?"),
        ("event.type.startsWith('x', 'y')", "1:12", "it is string.startsWith(string)"),
        ("names.exists(n)", "1:7", "it is list.exists(x, condition)"),
        ("names.exists(1, true)", "1:14", "needs the name of a variable"),
        ("has(event)", "1:5", "has() takes a field"),
        ("names.all(i, i, true)", "1:14", "two different names"),
        ("event.type == 1", "1:12", "== does not take (string, int)"),
        ('event.time > "2026"', "1:12", 'write timestamp("2026-01-31T08:00:00Z")'),
        ("event.type == null", "1:12", "has(x.y) tells whether a field is there"),
        ("1 + 1.0 > 0.0", "1:3", "convert one of them, such as double(x)"),
        ("names[0] > 1", "1:10", "> does not take (string, int)"),
        ("names.exists(n, n == 1)", "1:19", "== does not take (string, int)"),
        ("names['a'] == 'b'", "1:6", "a list(string) has no key of type string"),
        ("event.type.x == 1", "1:12", "type string has no fields"),
        ("size(1) == 1", "1:1", "size does not take (int)"),
        ("event.type", "1:7", "a condition must be of type bool, this is of type string"),
        ("event.type && true", "1:7", "&& takes conditions, this is of type string"),
        ("names.filter(n, n) == []", "1:17", "filter takes a condition"),
        ("event.type.map(c, c) == []", "1:7", "map takes a list or a map, this is a string"),
        ("{1.5: 1} == {}", "1:2", "a map key is a string, int, uint or bool"),
        ("[?1] == []", "1:3", "takes an optional value"),
        ("event.type.matches('[')", "1:20", "the regular expression is wrong: missing ]"),
        ("event.time > timestamp('2026-01-31')", "1:24", "no RFC 3339 timestamp"),
        ("now() - event.time > duration('1d')", "1:31", "no duration such as"),
        ("Foo{a: 1} == 1", "1:4", "there is no message type Foo; use a map"),
        ("for == 1", "1:1", "reserved word"),
        ("'\\q' == ''", "1:1", "\\q is no escape"),
        ("b'\\u0041' == b''", "1:1", "not allowed in bytes"),
        ("9223372036854775808 > 1", "1:1", "out of the range of int"),
        ("event.type = 'x'", "1:12", "write =="),
        ("true and false", "1:6", "write &&"),
        ("event.type ==", "1:14", "ends too early"),
        (" \n ", "1:1", "the expression is empty"),
        ("event\n  .type == 'x' &&\n  evnt.y", "3:3", "did you mean event?"),
    ],
)
def test_a_mistake_is_found_where_it_is(text: str, where: str, said: str) -> None:
    assert any(each.startswith(f"{where}: ") and said in each for each in problems(text)), problems(
        text
    )


def test_every_problem_is_shown_with_its_line_and_a_caret() -> None:
    with pytest.raises(CelError) as caught:
        compile("evnt.a &&\n\tordrs", ENV, result=BOOL)
    first, second = caught.value.problems
    assert first.caret == "evnt.a &&\n^"
    assert second.caret == "\tordrs\n\t^"
    assert str(caught.value).count("^") == 2
    assert caught.value.reason == "InvalidExpression"


def test_a_long_line_is_cut_around_the_mistake() -> None:
    with pytest.raises(CelError) as caught:
        compile("true || " * 200 + "q", ENV)
    (problem,) = caught.value.problems
    source, caret = problem.caret.split("\n")
    assert len(source) <= 160
    assert source[len(caret) - 1] == "q"


@pytest.mark.parametrize(
    "text",
    [
        'event.partitionkey == "a"',
        "event.myextension == 1",
        'event["tpe"] == "a"',
        "has(event.subject) && event.subject != ''",
        "event.data.anything.at[0].all > 100",
        "event.data.count == 3.0 || event.data.count > 2",
        'events["pay-ments"].data.x == 1 && inputs["pay-ments"] && orders',
        "latest[event.type].type == 'x'",
        "latest.exists(name, latest[name].data.x == 1)",
        "size(event.type) < 1.5",
        "event.data.x == null",
        "[1, 'a'].exists(x, x == 1)",
        "'x' in event",
        "event.?subject.orValue('') == ''",
        "event.`type` == 'x'",
    ],
)
def test_what_is_right_is_accepted(text: str) -> None:
    assert compile(text, ENV, result=BOOL).warnings == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 == 2", "always false"),
        ("event.type == 'a' && event.type == 'b'", "cannot be both 'a' and 'b'"),
        ("orders && 'a' == event.type && event.type == 'b'", "always false"),
        ("event.data.x != 1 || event.data.x != 2", "always true"),
        ("event.type == event.type", "both sides are the same"),
        ("size(names) < 0", "always false"),
    ],
)
def test_a_comparison_with_one_possible_result_is_warned_of(text: str, said: str) -> None:
    (warning,) = compile(text, ENV, result=BOOL).warnings
    assert said in warning.message


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1", "int"),
        ("[1, 2.0]", "list(dyn)"),
        ("{'a': [1u]}", "map(string, list(uint))"),
        ("event.type + 'x'", "string"),
        ("event.data", "dyn"),
        ("events.orders", "event"),
        ("names.map(n, size(n))", "list(int)"),
        ("optional.of(1).or(optional.none())", "optional_type(int)"),
        ("event.time - event.time", "google.protobuf.Duration"),
        ("int", "type(int)"),
        ("math.greatest(1, 2.0)", "dyn"),
        ("{'a': 1}.transformMap(k, v, string(v))", "map(string, string)"),
        ("cel.bind(a, 1, a + 1)", "int"),
        ("[[], [1]]", "list(list(int))"),
        ("event.?subject", "optional_type(string)"),
        ("[optional.of(1), optional.of(dyn(1))]", "list(optional_type(dyn))"),
        ("true ? optional.of(1) : optional.of(dyn(1))", "optional_type(dyn)"),
        ("[optional.of(1), null]", "list(optional_type(int))"),
    ],
)
def test_the_type_is_deduced(text: str, wanted: str) -> None:
    assert str(compile(text, ENV).type) == wanted


def test_a_wanted_type_is_enforced() -> None:
    compile("event.type", ENV, result=STRING)
    compile("event.data.x", ENV, result=STRING)
    compile("1", ENV, result=DYN)
    with pytest.raises(CelError, match="must be of type string, this is of type int"):
        compile("1", ENV, result=STRING)


def test_the_variables_and_paths_that_it_reads() -> None:
    text = (
        'event.type == "a" && event.data.items.exists(i, i.price > event.data.limits["max"]) '
        "&& has(event.subject) && events.orders.data.l[0].x == 1 "
        "&& cel.bind(d, event.data.deep, d.a == d[event.id]) "
        "&& event.data.m.all(k, v, v.n > 0) && [1].all(x, x > 0)"
    )
    program = compile(text, ENV, result=BOOL)
    assert program.text == text
    assert program.variables == {"event", "events"}
    assert program.paths == {
        "event.type", "event.data.items", "event.data.items.[].price", "event.data.limits.max",
        "event.subject", "events.orders.data.l.[].x", "event.data.deep.a", "event.data.deep.[]",
        "event.id", "event.data.m", "event.data.m.[].n",
    }  # fmt: skip


def test_an_expression_that_is_not_checked_fails_when_it_is_evaluated() -> None:
    assert compile("nope || f(1) || true", ENV, check=False).evaluate({}) is True
    with pytest.raises(CelError):
        compile("1 +", ENV, check=False)


def test_qualified_names_and_containers() -> None:
    plain = Environment({"a.b": MapOf(STRING), "a.b.c": STRING})
    assert compile("a.b.c", plain).evaluate({"a.b.c": "yes", "a.b": {"c": "no"}}) == "yes"
    inside = Environment({"x.y": BOOL, "y": STRING}, container="x")
    assert compile("y", inside).evaluate({"x.y": True, "y": "no"}) is True
    assert compile(".y", inside).evaluate({"x.y": True, "y": "top"}) == "top"
    assert compile("['a'].exists(y, y == 'a')", inside).evaluate({"x.y": False, "y": ""}) is True
