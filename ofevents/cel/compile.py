"""From text to a Program: parse, resolve, check, compile. The one door of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ofevents.cel import ops
from ofevents.cel.careful import Frame, Run, careful
from ofevents.cel.environment import Environment
from ofevents.cel.limits import Budget, Limits
from ofevents.cel.parse import parse
from ofevents.cel.problems import CelError, Problem
from ofevents.cel.resolve import Resolver
from ofevents.cel.tree import Node
from ofevents.cel.types import BOOL, DYN, Type
from ofevents.clock import Clock, SystemClock
from ofevents.errors import EvaluationError

DEFAULT_LIMITS = Limits()
DEFAULT_CLOCK = SystemClock()


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled expression; safe to use from several threads, as it keeps no state.

    Attributes:
        text: the expression as it was given.
        variables: the variables of the environment that it reads.
        paths: what it reads of them, such as `event.data.items.[].price`.
        warnings: what is allowed and probably not meant.
        type: the type that the checker deduced.
        evaluate: `evaluate(bindings) -> value`. Raises EvaluationError and nothing else.
    """

    text: str
    variables: frozenset[str]
    paths: frozenset[str]
    warnings: tuple[Problem, ...]
    type: Type
    evaluate: Callable[[Mapping[str, object]], Any] = field(repr=False, compare=False)


def compile(
    text: str,
    environment: Environment,
    *,
    result: Type | None = None,
    limits: Limits = DEFAULT_LIMITS,
    clock: Clock = DEFAULT_CLOCK,
    check: bool = True,
) -> Program:
    """Compile an expression. Raises CelError with every problem that was found.

    Args:
        text: the expression.
        environment: the variables it may use.
        result: the type it must have, such as BOOL for a condition; None for any.
        limits: what it and each evaluation may cost.
        clock: where `now()` and the deadline come from.
        check: False leaves unknown names and wrong types to fail when they are evaluated.
    """
    resolver = Resolver(text, environment)
    root = resolver.resolve(parse(text, limits), {})
    problems = resolver.mistakes + (resolver.unknown if check else [])
    if problems:
        raise CelError(problems)
    run = partial(_evaluate, careful(root), result == BOOL, partial(Budget, limits, clock))
    return Program(text, frozenset(resolver.variables), frozenset(), (), DYN, run)


def _evaluate(
    run: Run, condition: bool, budget: Callable[[], Budget], bindings: Mapping[str, object]
) -> Any:
    try:
        value = run(Frame(bindings, budget()))
        return ops.boolean(value) if condition else value
    except EvaluationError:
        raise
    except Exception as error:
        raise EvaluationError(f"the expression failed: {type(error).__name__}: {error}") from error


def syntax(text: str, limits: Limits = DEFAULT_LIMITS) -> Node:
    """The tree of a text, for tools that only look at it. Raises CelError."""
    return parse(text, limits)
