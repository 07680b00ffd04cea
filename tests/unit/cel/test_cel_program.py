"""The public door of the engine: compile, evaluate, and what a program tells of itself."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.cel import BOOL, EVENT, CelError, Environment, Limits, compile
from ofevents.cel.check import Checker
from ofevents.cel.fast import generate
from ofevents.cel.limits import Budget, LimitExceeded
from ofevents.cel.parse import parse
from ofevents.cel.resolve import Resolver
from ofevents.clock import SystemClock
from ofevents.errors import EvaluationError

ENV = Environment({"event": EVENT})


def event(**data: object) -> dict[str, object]:
    return {"event": {"id": "1", "type": "order", "source": "/shop", "data": data}}


def test_a_condition_is_exactly_true_or_false() -> None:
    program = compile('event.type == "order" && event.data.amount > 99.5', ENV, result=BOOL)
    assert program.evaluate(event(amount=100)) is True
    assert program.evaluate(event(amount=99)) is False


def test_a_missing_field_is_an_evaluation_error_that_names_it() -> None:
    program = compile("event.data.amount > 1", ENV, result=BOOL)
    with pytest.raises(EvaluationError, match="amount"):
        program.evaluate(event())


def test_a_condition_that_is_no_bool_is_an_error() -> None:
    program = compile("event.data.flag", ENV, result=BOOL)
    assert program.evaluate(event(flag=True)) is True
    with pytest.raises(EvaluationError, match="condition"):
        program.evaluate(event(flag=1))


def test_an_undeclared_variable_is_found_at_load_with_the_nearest_name() -> None:
    with pytest.raises(CelError) as caught:
        compile("evnt.type == 'x'", ENV, result=BOOL)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (1, 1)
    assert "did you mean event?" in problem.message
    assert str(caught.value).endswith("evnt.type == 'x'\n^")


@pytest.mark.parametrize(
    "text",
    [
        'event.type == "order"',
        'event.data.amount > 100 && event.data.country in ["DE", "AT"]',
        'event.source.startsWith("/shop") || event.type.endsWith("x") || event.type.contains("y")',
        "has(event.data.amount) && !has(event.data.nope)",
        'event.data.items.exists(i, i.sku == "b" && i.price >= 1.5)',
        'event.data.items.all(i, i.sku.matches("^[a-z]$"))',
        "event.data.items.map(i, i.price * 2.0).filter(p, p > 1.0) == [3.0]",
        "event.data.items[0].price == 1.5 && 1 == event.data.count && event.data.count != 0",
        'event.time < timestamp("2030-01-01T00:00:00Z") && event["time"].getHours() == 8',
        "event.data.items.exists_one(i, i.price == 1.5) ? true : false",
        'event.data.?nope.orValue("a") == "a" && event.data.?count.or(optional.none()).hasValue()',
        "cel.bind(d, event.data, d.count + d.count) == 2",
        'event.data.m.exists(k, v, k == "a" && v == 1) && "a" in event.data.m',
        '{"a": event.data.count, ?"b": event.data.?nope} == {"a": 1}',
        "event.data.m.transformMap(k, v, v + 1).a == 2 && math.greatest(1, event.data.count) == 1",
    ],
)
def test_what_succeeds_never_needs_the_complete_form(text: str) -> None:
    """Its closures would give the same, much slower: nothing else would show that."""

    def careful(bindings: Any, budget: Any) -> Any:
        raise AssertionError("the fast form has failed")

    root = Resolver(text, ENV).resolve(parse(text, Limits()), {})
    Checker(text, ENV).check(root, BOOL)
    names = {
        "new_budget": lambda: Budget(Limits(), SystemClock()),
        "careful": careful,
        "LimitExceeded": LimitExceeded,
    }
    evaluate = generate(root, condition=True, measured=False, names=names)
    assert evaluate is not None
    data = {
        "amount": 100.5, "country": "DE", "count": 1, "m": {"a": 1},
        "items": [{"sku": "b", "price": 1.5}],
    }  # fmt: skip
    value = {"type": "order", "source": "/shop", "time": "2026-01-31T08:00:00Z", "data": data}
    assert evaluate({"event": value}) is True
