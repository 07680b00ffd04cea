"""A Trigger's expressions, compiled: what the evaluator runs for each event.

Called by the evaluator when it is built. Every mistake in an expression is found
here, before any event is read; the error's path names the field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ofevents.api.resolved import ResolvedInput, ResolvedSubscriber
from ofevents.cel import Limits, Program
from ofevents.cel.parse import parse
from ofevents.errors import ConfigError
from ofevents.resolve.expressions import (
    compile_condition,
    compile_filter,
    compile_payload,
    compile_value,
)
from ofevents.trigger.condition import Naming, naming

Evaluate = Callable[[Mapping[str, object]], Any]


@dataclass(frozen=True, slots=True)
class Input:
    """An input: its bit in a mask of inputs, and what it asks of an event."""

    bit: int
    name: str
    filter: Evaluate | None
    join_by: Evaluate | None


@dataclass(frozen=True, slots=True)
class Condition:
    """A subscriber's expressions.

    Attributes:
        identity: `namespace/trigger/name`.
        mask: bits of the inputs that it fires for.
        joins: it may need events of several inputs at once.
        holds: None where it is met whenever one of its inputs comes.
    """

    index: int
    identity: str
    mask: int
    joins: bool
    holds: Evaluate | None
    payload: Evaluate | None
    skips: bool
    ordered: bool


def compile_input(bit: int, spec: ResolvedInput) -> Input:
    """Compile an input's `filter` and `joinBy`.

    Raises:
        ConfigError: with the path of the expression that is wrong.
    """
    path = f"spec.inputs.{spec.name}"
    return Input(
        bit,
        spec.name,
        _compile(spec.filter, f"{path}.filter", compile_filter),
        _compile(spec.join_by, f"{path}.joinBy", compile_value),
    )


def compile_subscriber(
    index: int, spec: ResolvedSubscriber, owner: str, inputs: Sequence[ResolvedInput]
) -> Condition:
    """Compile a subscriber's `condition` and `payload`; `owner` is `namespace/trigger`.

    Raises:
        ConfigError: with the path of the expression that is wrong, or of an input
            that would never meet the others.
    """
    names = [one.name for one in inputs]
    path = f"spec.subscribers[{index}]"
    holds = _compile(
        spec.condition, f"{path}.condition", lambda text: compile_condition(text, names)
    )
    payload = _compile(spec.payload, f"{path}.payload", lambda text: compile_payload(text, names))
    found = Naming(frozenset(), joins=False, bare=False)
    if spec.condition is not None:
        found = naming(parse(spec.condition, Limits()), names)
    if found.joins:
        _check_keys(found, inputs)
    fires_for = found.inputs or frozenset(names)
    return Condition(
        index=index,
        identity=f"{owner}/{spec.name}",
        mask=sum(1 << at for at, name in enumerate(names) if name in fires_for),
        joins=found.joins,
        holds=None if found.bare else holds,
        payload=payload,
        skips=spec.on_error == "skip",
        ordered=spec.delivery.ordered,
    )


def _compile(text: str | None, path: str, compile: Callable[[str], Program]) -> Evaluate | None:
    if text is None:
        return None
    try:
        return compile(text).evaluate
    except ConfigError as error:
        error.path = error.path or path
        raise


def _check_keys(found: Naming, inputs: Sequence[ResolvedInput]) -> None:
    """Inputs meet by equal keys, so either all that a condition names have one or none has."""
    named = [one for one in inputs if one.name in found.inputs]
    keyed = [one.name for one in named if one.join_by is not None]
    bare = [one.name for one in named if one.join_by is None]
    if keyed and bare:
        raise ConfigError(
            f"a condition joins {bare[0]} with {keyed[0]}, which has a joinBy: "
            f"give {bare[0]} one too, or they never meet",
            path=f"spec.inputs.{bare[0]}.joinBy",
        )
