"""A sample of the comparison with the reference implementation; all of it is conformance."""

from __future__ import annotations

import random

import pytest

from tests.unit.cel.expressions import Expressions, json_event
from tests.unit.cel.oracle import Failure, difference, kinds, ours

SEED = 20260131


def test_a_sample_agrees_with_the_reference() -> None:
    pytest.importorskip("cel_expr_python", reason="pip install cel-expr-python")
    choices = random.Random(SEED)
    found: list[str] = []
    for _ in range(400):
        event = json_event(choices.randrange)
        text = Expressions(choices.randrange).any(2 + choices.randrange(3))
        said = difference(text, event, ours(text, event))
        found += [said] if said else []
    assert not found, "\n".join(found)


def test_the_comparison_sees_a_wrong_answer() -> None:
    pytest.importorskip("cel_expr_python", reason="pip install cel-expr-python")
    assert difference("1 + 1", {}, 3)
    assert difference("1 + 1", {}, 2.0)
    assert difference("1 / 0", {}, 1)
    assert difference("[1, 2]", {}, [1])
    assert difference("1 + 1", {}, Failure("no"))
    assert difference("1 + 1", {}, 2) is None


def test_the_kinds_of_an_expression_are_counted() -> None:
    found = kinds("has(event.a) && [1].map(x, x > 0, x + 1) == [2]")
    assert {"macro has", "macro map if", "operator +", "operator &&", "constant int"} <= set(found)
