"""What can be decided at load because it is constant: patterns, times, comparisons.

`check.py` turns the first kind into errors (a regular expression that does not compile),
`compile.py` the second into warnings (a comparison that always has the same result).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ofevents.cel.moments import parse_duration, parse_timestamp
from ofevents.cel.problems import Problem, problem_at
from ofevents.cel.strings import regex
from ofevents.cel.tree import Call, Const, Index, Local, Node, Op, Select, Var
from ofevents.cel.values import CelType
from ofevents.errors import EvaluationError

_READERS: dict[str, Callable[[str], object]] = {
    "matches": regex,
    "timestamp": parse_timestamp,
    "duration": parse_duration,
}
_COMPARISONS = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def constant_problem(node: Call) -> str | None:
    """What is wrong with a constant argument of the call: a pattern, a time."""
    reader = _READERS.get(node.name)
    last = node.args[-1] if node.args else None
    if reader is None or not isinstance(last, Const) or type(last.value) is not str:
        return None
    try:
        reader(last.value)
    except EvaluationError as error:
        return str(error)
    return None


def warnings(text: str, root: Node) -> list[Problem]:
    """What the expression says that can only have one result."""
    found: list[Problem] = []
    pending = [root]
    while pending:
        node = pending.pop()
        pending += node.children()
        if not isinstance(node, Op):
            continue
        message = _comparison(node) or _chain(node)
        if message:
            found.append(problem_at(text, node.pos, message))
    return found


def _comparison(node: Op) -> str | None:
    compare = _COMPARISONS.get(node.op)
    if compare is None:
        return None
    left, right = node.args
    if isinstance(left, Const) and isinstance(right, Const):
        if isinstance(left.value, CelType) or isinstance(left.value, bool) != isinstance(
            right.value, bool
        ):
            return None
        try:
            return f"this is always {str(bool(compare(left.value, right.value))).lower()}"
        except TypeError:
            return None
    if path(left) is not None and path(left) == path(right) and node.op in ("==", "!=", "<", ">"):
        return "both sides are the same"
    bound = right.value if isinstance(right, Const) else None
    sized = isinstance(left, Call) and left.name == "size"
    if sized and (node.op, bound) in (("<", 0), (">=", 0)):
        return f"a size is never negative, so this is always {str(node.op == '>=').lower()}"
    return None


def _chain(node: Op) -> str | None:
    """`a == "x" && a == "y"` and `a != "x" || a != "y"`."""
    wanted = {"&&": "==", "||": "!="}.get(node.op)
    if wanted is None:
        return None
    seen: dict[str, Any] = {}
    for term in node.args:
        if not (isinstance(term, Op) and term.op == wanted):
            continue
        for side, other in (term.args, term.args[::-1]):
            where = path(side)
            if where is None or not isinstance(other, Const):
                continue
            if where in seen and seen[where] != other.value:
                always = "false" if wanted == "==" else "true"
                return (
                    f"this is always {always}: {where} cannot be both "
                    f"{seen[where]!r} and {other.value!r}"
                )
            seen[where] = other.value
    return None


def path(node: Node) -> str | None:
    """`event.data.a` for a plain chain of names from a variable, None for anything else."""
    names: list[str] = []
    while True:
        if isinstance(node, Select) and not node.test and not node.optional:
            names.append(node.name)
            node = node.operand
        elif isinstance(node, Index) and isinstance(node.key, Const) and not node.optional:
            names.append(str(node.key.value))
            node = node.operand
        else:
            break
    if isinstance(node, Var):
        return ".".join([node.name, *reversed(names)])
    if isinstance(node, Local):
        return ".".join([f"{node.name}#{node.slot}", *reversed(names)])
    return None
