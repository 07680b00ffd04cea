"""Broken and odd texts: whatever is written, only CelError and EvaluationError come out."""

from __future__ import annotations

import random

from ofevents.cel import BOOL, EVENT, CelError, Environment, Limits, compile, to_json
from ofevents.errors import EvaluationError
from tests.unit.cel.expressions import Expressions, json_event

ENV = Environment({"event": EVENT})
LIMITS = Limits(deadline=0.05)
PIECES = (
    "(", ")", "[", "]", "{", "}", ".", "?", "?.", ",", ":", "'", '"', '"""', "`", "\\", "\\u12",
    "//", "\n", "\0", "\ud800", "😀", "&&", "||", "!", "-", "=", "==", "<", " in ", "in", "true",
    "null",
    "1u", "0x", "1e", "9" * 25, ".5", "b'", "r'", "has(", ".map(x,", ".exists(", "cel.bind(x,",
    "optional.of(", "dyn", "@", "#", "$", "\t", "event", "now()", ".format(", "%s", "e1",
    "-9223372036854775808",
)  # fmt: skip


def mutated(text: str, choices: random.Random) -> str:
    for _ in range(1 + choices.randrange(3)):
        at = choices.randrange(len(text) + 1)
        upto = min(len(text), at + choices.choice((0, 0, 1, 2, 5)))
        text = text[:at] + choices.choice(("", *PIECES)) + text[upto:]
    return text


def test_mutated_texts_end_in_a_value_or_a_clear_error() -> None:
    choices = random.Random(7)
    outcomes = {"refused": 0, "failed": 0, "evaluated": 0}
    for number in range(3000):
        event = json_event(choices.randrange)
        text = mutated(Expressions(choices.randrange).any(1 + choices.randrange(3)), choices)
        try:
            result = BOOL if number % 4 == 1 else None
            program = compile(text, ENV, limits=LIMITS, check=number % 4 == 0, result=result)
        except CelError as error:
            outcomes["refused"] += 1
            assert all(
                each.line > 0 and each.column > 0 and each.message for each in error.problems
            )
            continue
        try:
            to_json(program.evaluate({"event": event}))
            outcomes["evaluated"] += 1
        except EvaluationError:
            outcomes["failed"] += 1
    assert min(outcomes.values()) > 30, outcomes
