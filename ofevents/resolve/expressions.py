"""What expressions of a resource may name: the one definition of the variables.

`resolve` checks expressions in these environments, `source` and `trigger` compile
them in the same ones, so that what `validate` accepts is what runs.

    source filter, attributes   event
    key of a sink               event, as it is sent
    input filter, joinBy        event
    condition, payload          each input's name (bool), inputs (name -> bool),
                                event, events (name -> the latest event of that input)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ofevents.cel import BOOL, EVENT, ON_EVENT, STRING, Environment, Keyed, Program, Type, compile

RESERVED: Final = frozenset(
    "event events inputs true false null in as break const continue else for function "  # noqa: SIM905
    "if import let loop namespace package return var void while".split()
)
"""No input may have these names: our own variables, and CEL's words."""

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def is_identifier(name: str) -> bool:
    """Whether CEL can name the input; others are reached by `inputs["my-input"]`."""
    return bool(_IDENTIFIER.match(name)) and name not in RESERVED


def filter_environment() -> Environment:
    """Of `filter`, `joinBy` and `attributes`: one variable, `event`."""
    return ON_EVENT


def condition_environment(input_names: Iterable[str]) -> Environment:
    """Of `condition` and `payload` in a Trigger with these inputs."""
    names = tuple(input_names)
    return Environment(
        variables={
            **{name: BOOL for name in names if is_identifier(name)},
            "inputs": Keyed(dict.fromkeys(names, BOOL)),
            "event": EVENT,
            "events": Keyed(dict.fromkeys(names, EVENT)),
        }
    )


def compile_filter(text: str) -> Program:
    """A filter. Raises CelError with every problem in it."""
    return compile(text, filter_environment(), result=BOOL)


def compile_value(text: str, result: Type | None = None) -> Program:
    """A joinBy or an attribute. Raises CelError with every problem in it."""
    return compile(text, filter_environment(), result=result)


def compile_key(text: str) -> Program:
    """The key of a sink. Raises CelError with every problem in it."""
    return compile_value(text, STRING)


def compile_condition(text: str, input_names: Iterable[str]) -> Program:
    """A condition. Raises CelError with every problem in it."""
    return compile(text, condition_environment(input_names), result=BOOL)


def compile_payload(text: str, input_names: Iterable[str]) -> Program:
    """A payload. Raises CelError with every problem in it."""
    return compile(text, condition_environment(input_names))
