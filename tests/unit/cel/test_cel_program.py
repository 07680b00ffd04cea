"""The public door of the engine: compile, evaluate, and what a program tells of itself."""

from __future__ import annotations

import pytest

from ofevents.cel import BOOL, EVENT, CelError, Environment, compile
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
