"""From text to a Program: parse, resolve, check, compile. The one door of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ofevents.cel import access, arithmetic
from ofevents.cel.careful import careful
from ofevents.cel.check import Checker
from ofevents.cel.constants import warnings
from ofevents.cel.environment import Environment
from ofevents.cel.fast import Evaluate, generate
from ofevents.cel.frames import Frame, Run
from ofevents.cel.limits import Budget, LimitExceeded, Limits
from ofevents.cel.parse import parse
from ofevents.cel.paths import read_paths
from ofevents.cel.problems import CelError, Problem, problem_at
from ofevents.cel.resolve import Resolver
from ofevents.cel.tree import Bind, Loop, Node, Op
from ofevents.cel.types import BOOL, Type
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
    evaluate: Evaluate = field(repr=False, compare=False)


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
    resolver, checker = Resolver(text, environment), Checker(text, environment)
    parsed = parse(text, limits)
    try:
        root = resolver.resolve(parsed, {})
        deduced = checker.check(root, result)
    except RecursionError:
        message = "nested too deeply for the stack that the caller has left"
        raise CelError([problem_at(text, 0, message)]) from None
    problems = list(resolver.mistakes)
    if check:
        problems += resolver.unknown + checker.problems
    if problems:
        raise CelError(problems)
    return Program(
        text,
        frozenset(resolver.variables),
        read_paths(root),
        tuple(warnings(text, root)),
        deduced,
        _evaluator(root, limits, clock, condition=result == BOOL),
    )


def _evaluator(root: Node, limits: Limits, clock: Clock, *, condition: bool) -> Evaluate:
    """The fast form with the complete one behind it."""

    def new_budget() -> Budget:
        return Budget(limits, clock)

    complete: list[Run] = []
    measured = not condition and _shares(root)

    def careful_form(bindings: Mapping[str, object], budget: Budget | None = None) -> Any:
        try:
            if not complete:
                complete.append(careful(root))  # made when something fails for the first time
            frame = Frame(bindings, budget.again() if budget else new_budget())
            value = complete[0](frame)
            if condition:
                return arithmetic.boolean(value)
            return access.measure(frame.B, value) if measured else value
        except EvaluationError:
            raise
        except Exception as error:
            message = f"the expression failed: {type(error).__name__}: {error}"
            raise EvaluationError(message) from error

    names = {"new_budget": new_budget, "careful": careful_form, "LimitExceeded": LimitExceeded}
    fast = generate(root, condition=condition, measured=measured, names=names)
    return fast or careful_form


def _shares(root: Node) -> bool:
    """Whether the result may hold a part more than once, and so be larger than it looks."""
    pending = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, Loop | Bind) or (isinstance(node, Op) and node.op == "+"):
            return True
        pending += node.children()
    return False
