"""CEL in resources: the variables of each place, and mistakes shown where they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofevents.cel import CelError
from ofevents.resolve.expressions import (
    compile_condition,
    compile_filter,
    compile_payload,
    is_identifier,
)

from .sets import SHOP, of, only, trigger

INPUTS = ("orders", "my-input")


def test_a_condition_knows_its_inputs() -> None:
    text = 'orders && inputs["my-input"] && event.type == "a" && events.orders.data.x > 1'
    program = compile_condition(text, INPUTS)
    event = {"type": "a", "data": {"x": 2}}
    bindings = {
        "orders": True,
        "inputs": {"orders": True, "my-input": True},
        "event": event,
        "events": {"orders": event},
    }
    assert program.evaluate(bindings) is True


@pytest.mark.parametrize(
    "text",
    [
        "ordrs",
        "inputs.ordrs",
        "events.ordrs.data.x == 1",
        "my_input",
        'event.type',
        "orders && 1",
        "orders &&",
        "event.tpe == 'x'",
        "sizee(event.type) > 1",
    ],
)  # fmt: skip
def test_a_wrong_condition_is_refused(text: str) -> None:
    with pytest.raises(CelError):
        compile_condition(text, INPUTS)


def test_a_filter_knows_the_event_and_nothing_else() -> None:
    assert compile_filter("event.data.a > 1").evaluate({"event": {"data": {"a": 2}}}) is True
    for text in ("orders", "inputs.orders", "event.type"):
        with pytest.raises(CelError):
            compile_filter(text)


def test_a_payload_may_be_anything() -> None:
    program = compile_payload('{"id": event.id, "n": [1]}', INPUTS)
    assert program.evaluate({"event": {"id": "x"}}) == {"id": "x", "n": [1]}


def test_identifiers_are_what_cel_can_name() -> None:
    names = ["a", "_a", "A1", "my-input", "1a", "ä", "in", "event", ""]
    assert [name for name in names if is_identifier(name)] == ["a", "_a", "A1"]


@pytest.mark.parametrize(
    ("condition", "place", "inner", "caret"),
    [
        ("condition: ordrs", (12, 16), (1, 1), "ordrs\n^"),
        ("condition: orders && pyments", (12, 26), (1, 11), "orders && pyments\n          ^"),
        ("condition: 'orders && pyments'", (12, 27), (1, 11), "orders && pyments\n          ^"),
        ("condition: |\n      orders &&\n        pyments", (14, 11), (2, 3), "  pyments\n  ^"),
        ("condition: >\n      orders &&\n      pyments", (12, 5), (1, 11),
         "orders && pyments\n          ^"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_place_in_the_file_and_in_the_expression(
    tmp_path: Path, condition: str, place: tuple[int, int], inner: tuple[int, int], caret: str
) -> None:
    text = trigger(f"- name: a\n  topic: x\n  {condition}")
    problem = only(of(tmp_path, SHOP, text))
    offset = len(SHOP.splitlines()) + 1
    assert problem.path == "spec.subscribers[0].condition"
    assert (problem.line - offset, problem.column) == place, str(problem)
    assert problem.inner == inner
    assert problem.caret == caret
    assert "did you mean" in problem.message


def test_all_mistakes_of_all_expressions_are_told(tmp_path: Path) -> None:
    inputs = (
        "  orders: {eventSource: shop, event: orders, filter: event.tpe == '', joinBy: evnt.id}"
    )
    text = trigger("- {name: a, topic: x, condition: a && b, payload: '{'}", inputs)
    paths = [each.path for each in of(tmp_path, SHOP, text).errors]
    assert paths.count("spec.inputs.orders.filter") == 1
    assert paths.count("spec.inputs.orders.joinBy") == 1
    assert paths.count("spec.subscribers[0].condition") == 2
    assert paths.count("spec.subscribers[0].payload") == 1
