"""The complete form of an expression: closures that absorb errors as CEL demands.

`codegen.py` makes a fast form that is right as long as nothing fails. When something
fails, the evaluation is done again by these closures, where an error of one side of
`&&` or one element of `exists` may be absorbed by another. They are also the whole
program where the fast form cannot be made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ofevents.cel import access, arithmetic, compare
from ofevents.cel.frames import Failed, Frame, Run, absorb, bound, loop
from ofevents.cel.functions import FUNCTIONS, Function
from ofevents.cel.limits import Budget, LimitExceeded
from ofevents.cel.moments import event_time
from ofevents.cel.tree import (
    Bind,
    Call,
    Const,
    Index,
    ListLit,
    Local,
    Loop,
    MapLit,
    Node,
    Op,
    Select,
    Unknown,
    Var,
)
from ofevents.cel.types import EVENT
from ofevents.cel.values import NONE, Optional, plain
from ofevents.errors import EvaluationError

_BUDGETED: dict[str, Callable[[Budget, Any, Any], Any]] = {
    "+": arithmetic.add,
    "==": compare.eq,
    "!=": compare.ne,
    "in": compare.in_,
}
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "-": arithmetic.sub,
    "*": arithmetic.mul,
    "/": arithmetic.div,
    "%": arithmetic.mod,
    "<": compare.lt,
    "<=": compare.le,
    ">": compare.gt,
    ">=": compare.ge,
}
_UNARY: dict[str, Callable[[Any], Any]] = {"!": arithmetic.not_, "neg": arithmetic.neg}


def careful(node: Node) -> Run:
    """The closure of the node."""
    match node:
        case Const():
            value = node.value
            return lambda f: value
        case Var():
            return _var(node.name)
        case Local():
            slot = node.slot
            return lambda f: bound(f.slots[slot])
        case Unknown():
            return _fail(node.message)
        case Select():
            return _select(node)
        case Index():
            operand, key = careful(node.operand), careful(node.key)
            if is_time(node.operand, node.key) and not node.optional:
                return lambda f: event_time(access.index(operand(f), "time"))
            get = access.opt_index if node.optional else access.index
            return lambda f: get(operand(f), key(f))
        case Op():
            return _operator(node)
        case Call():
            return _call(node)
        case ListLit():
            return _list(node)
        case MapLit():
            return _map(node)
        case Loop():
            where = careful(node.where) if node.where is not None else None
            return loop(node, careful(node.over), where, careful(node.body))
        case Bind():
            return _bind(node)
    raise TypeError(f"no node: {node!r}")


def is_time(operand: Node, key: object) -> bool:
    """Whether this reads the `time` of an event, which may be bound as text or datetime."""
    if isinstance(key, Const):
        key = key.value
    return key == "time" and operand.type == EVENT


def _var(name: str) -> Run:
    def run(f: Frame) -> Any:
        try:
            return f.bindings[name]
        except KeyError:
            raise EvaluationError(f"the variable {name} is not bound") from None

    return run


def _fail(message: str) -> Run:
    def run(f: Frame) -> Any:
        raise EvaluationError(message)

    return run


def _select(node: Select) -> Run:
    operand, name = careful(node.operand), node.name
    if node.test:
        return lambda f: access.has(plain(operand(f)), name)
    if node.optional:
        return lambda f: access.opt_select(plain(operand(f)), name)
    if is_time(node.operand, name):
        return lambda f: event_time(access.select(plain(operand(f)), name))
    return lambda f: access.select(plain(operand(f)), name)


def _operator(node: Op) -> Run:
    args = [careful(each) for each in node.args]
    if node.op in ("&&", "||"):
        decides = node.op == "||"
        return lambda f: absorb(f, args, decides=decides)
    if node.op == "?:":
        condition, yes, no = args
        return lambda f: yes(f) if arithmetic.boolean(condition(f)) else no(f)
    if len(args) == 1:
        unary, (only,) = _UNARY[node.op], args
        return lambda f: unary(only(f))
    left, right = args
    if node.op in _BUDGETED:
        budgeted = _BUDGETED[node.op]
        return lambda f: budgeted(f.B, left(f), right(f))
    binary = _BINARY[node.op]
    return lambda f: binary(left(f), right(f))


def _call(node: Call) -> Run:
    parts = [careful(each) for each in node.children()]
    function = FUNCTIONS.get(node.name)
    if function is None:
        return _fail(f"no such function: {node.name}")
    if not function.takes(member=node.target is not None, count=len(parts)):
        return _fail(f"no such overload: {node.name} with {len(parts)} arguments")
    if node.name in ("or", "orValue"):
        return _lazy_or(function, *parts)
    run = function.run
    if function.budgeted:
        return lambda f: run(f.B, *[part(f) for part in parts])
    return lambda f: run(*[part(f) for part in parts])


def _lazy_or(function: Function, value: Run, other: Run) -> Run:
    """`or` and `orValue` look at their argument only when there is no value."""

    def run(f: Frame) -> Any:
        found = value(f)
        if type(found) is Optional and found.present:
            return found if function.name == "or" else found.value
        return function.run(found, other(f))

    return run


def _list(node: ListLit) -> Run:
    parts = [careful(each) for each in node.items]
    if not any(node.optional):
        return lambda f: access.made(f.B, [part(f) for part in parts])

    def run(f: Frame) -> list[Any]:
        made: list[Any] = []
        for part, optional in zip(parts, node.optional, strict=True):
            value = part(f)
            made += [value] if not optional else access.present(value)
        return made

    return run


def _map(node: MapLit) -> Run:
    entries = [
        (careful(key), careful(value), optional)
        for key, value, optional in zip(node.keys, node.values, node.optional, strict=True)
    ]

    def run(f: Frame) -> Any:
        made: list[tuple[Any, Any]] = []
        for key, value, optional in entries:
            name, found = key(f), value(f)
            made += [(name, each) for each in (access.present(found) if optional else [found])]
        return access.make_map(f.B, made)

    return run


def _bind(node: Bind) -> Run:
    slot, value, body = node.name.slot, careful(node.value), careful(node.body)

    def bind(f: Frame) -> Any:
        try:
            f.slots[slot] = value(f)
        except (LimitExceeded, RecursionError, MemoryError):
            raise
        except Exception as error:
            f.slots[slot] = Failed(error)  # an error only where the name is used
        return body(f)

    def opt(f: Frame) -> Any:
        found = value(f)
        if not access.optional(found).present:
            return NONE
        f.slots[slot] = found.value
        result = body(f)
        if node.kind == "optMap":
            return Optional(result)
        return access.optional(result)

    return bind if node.kind == "bind" else opt
