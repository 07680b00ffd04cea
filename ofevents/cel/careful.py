"""The complete form of an expression: closures that absorb errors as CEL demands.

`codegen.py` makes a fast form that is right as long as nothing fails. When something
fails, the evaluation is done again by these closures, where an error of one side of
`&&` or one element of `exists` may be absorbed by another. They are also the whole
program where the fast form cannot be made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ofevents.cel import ops
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


class Frame:
    """One evaluation: what is bound, the macros' variables by slot, the budget."""

    __slots__ = ("B", "bindings", "slots")

    def __init__(self, bindings: Mapping[str, object], budget: Budget) -> None:
        self.bindings = bindings
        self.B = budget
        self.slots: dict[int, Any] = {}


Run = Callable[[Frame], Any]
_BINARY = {
    "+": ops.add, "-": ops.sub, "*": ops.mul, "/": ops.div, "%": ops.mod, "==": ops.eq,
    "!=": ops.ne, "<": ops.lt, "<=": ops.le, ">": ops.gt, ">=": ops.ge, "in": ops.in_,
}  # fmt: skip
_UNARY = {"!": ops.not_, "neg": ops.neg}


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
            return lambda f: f.slots[slot]
        case Unknown():
            return _fail(node.message)
        case Select():
            return _select(node)
        case Index():
            operand, key = careful(node.operand), careful(node.key)
            if is_time(node.operand, node.key) and not node.optional:
                return lambda f: event_time(ops.index(f.B, operand(f), "time"))
            get = ops.opt_index if node.optional else ops.index
            return lambda f: get(f.B, operand(f), key(f))
        case Op():
            return _operator(node)
        case Call():
            return _call(node)
        case ListLit():
            return _list(node)
        case MapLit():
            return _map(node)
        case Loop():
            return _loop(node)
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
        return lambda f: ops.has(plain(operand(f)), name)
    if node.optional:
        return lambda f: ops.opt_select(plain(operand(f)), name)
    if is_time(node.operand, name):
        return lambda f: event_time(ops.select(plain(operand(f)), name))
    return lambda f: ops.select(plain(operand(f)), name)


def _operator(node: Op) -> Run:
    args = [careful(each) for each in node.args]
    if node.op in ("&&", "||"):
        return _logic(args, decides=node.op == "||")
    if node.op == "?:":
        condition, yes, no = args
        return lambda f: yes(f) if ops.boolean(condition(f)) else no(f)
    if len(args) == 1:
        unary, (only,) = _UNARY[node.op], args
        return lambda f: unary(f.B, only(f))
    binary, (left, right) = _BINARY[node.op], args
    return lambda f: binary(f.B, left(f), right(f))


def _logic(args: list[Run], *, decides: bool) -> Run:
    """`&&` and `||`: one term that decides (false, true) absorbs the errors of all others."""

    def run(f: Frame) -> bool:
        failed: Exception | None = None
        for arg in args:
            try:
                value = ops.boolean(arg(f))
            except (LimitExceeded, RecursionError, MemoryError):
                raise
            except Exception as error:
                failed = failed or error
                continue
            if value is decides:
                return decides
        if failed is not None:
            raise failed
        return not decides

    return run


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
        return lambda f: [part(f) for part in parts]

    def run(f: Frame) -> list[Any]:
        made: list[Any] = []
        for part, optional in zip(parts, node.optional, strict=True):
            value = part(f)
            made += [value] if not optional else present(value)
        return made

    return run


def present(value: Any) -> list[Any]:
    """An optional's value as a list of one, or none."""
    if type(value) is not Optional:
        ops.no_overload("an optional element", value)
    return [value.value] if value.present else []


def _map(node: MapLit) -> Run:
    entries = [
        (careful(key), careful(value), optional)
        for key, value, optional in zip(node.keys, node.values, node.optional, strict=True)
    ]

    def run(f: Frame) -> Any:
        made: list[tuple[Any, Any]] = []
        for key, value, optional in entries:
            name, found = key(f), value(f)
            made += [(name, each) for each in (present(found) if optional else [found])]
        return ops.make_map(f.B, made)

    return run


def _bind(node: Bind) -> Run:
    slot, value, body = node.name.slot, careful(node.value), careful(node.body)

    def bind(f: Frame) -> Any:
        f.slots[slot] = value(f)
        return body(f)

    def opt(f: Frame) -> Any:
        found = value(f)
        if type(found) is not Optional:
            ops.no_overload(node.kind, found)
        if not found.present:
            return NONE
        f.slots[slot] = found.value
        result = body(f)
        if node.kind == "optMap":
            return Optional(result)
        if type(result) is not Optional:
            ops.no_overload("optFlatMap", result)
        return result

    return bind if node.kind == "bind" else opt


def _loop(node: Loop) -> Run:
    over, body = careful(node.over), careful(node.body)
    where = careful(node.where) if node.where is not None else None
    slots = [name.slot for name in node.names]

    def visit(f: Frame) -> Any:
        if len(slots) == 1:
            (slot,) = slots
            for each in ops.items(f.B, over(f)):
                f.slots[slot] = each
                yield None
        else:
            first, second = slots
            for key, each in ops.pairs(f.B, over(f)):
                f.slots[first], f.slots[second] = key, each
                yield None

    def test(f: Frame) -> bool:
        return where is None or ops.boolean(where(f))

    match node.kind:
        case "all" | "exists":
            return _quantifier(visit, body, decides=node.kind == "exists")
        case "existsOne":
            return lambda f: sum([ops.boolean(body(f)) for _ in visit(f)]) == 1
        case "map" | "filter" | "transformList":
            return lambda f: [body(f) for _ in visit(f) if test(f)]
        case "transformMap":
            return lambda f: ops.make_map(
                f.B, [(f.slots[slots[0]], body(f)) for _ in visit(f) if test(f)]
            )
    return lambda f: ops.merge_maps(f.B, [body(f) for _ in visit(f) if test(f)])


def _quantifier(visit: Callable[[Frame], Any], body: Run, *, decides: bool) -> Run:
    def run(f: Frame) -> bool:
        failed: Exception | None = None
        for _ in visit(f):
            try:
                value = ops.boolean(body(f))
            except (LimitExceeded, RecursionError, MemoryError):
                raise
            except Exception as error:
                failed = failed or error
                continue
            if value is decides:
                return decides
        if failed is not None:
            raise failed
        return not decides

    return run
