"""What is wrong with an expression before it runs: types, arity, attributes, constants.

The checker walks the resolved tree once, gives every node its type and collects
problems instead of stopping at the first. An expression that is not checked is walked
too, for the types; its problems are dropped.
"""

from __future__ import annotations

from ofevents.cel.constants import constant_problem, path
from ofevents.cel.envelope import attribute
from ofevents.cel.environment import Environment
from ofevents.cel.functions import FUNCTIONS
from ofevents.cel.operators import NUMERIC, OPERATORS, constant_type, mismatch
from ofevents.cel.problems import Problem, did_you_mean, problem_at
from ofevents.cel.signatures import Overload
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
    Var,
)
from ofevents.cel.types import BOOL, DYN, ERROR, EVENT, INT, ListOf, MapOf, OptionalOf, Type
from ofevents.cel.unify import Unifier, is_dyn


class Checker:
    """Checks one resolved expression. `problems` has what was found."""

    def __init__(self, text: str, environment: Environment) -> None:
        self._text = text
        self._environment = environment
        self._types = Unifier()
        self._locals: dict[int, Type] = {}
        self.problems: list[Problem] = []

    def check(self, root: Node, result: Type | None) -> Type:
        """The type of the whole; `result` is what it has to be."""
        found = self._visit(root)
        self._finish(root)
        if result is not None and not self._types.assignable([result], [found]):
            found = self._types.final(found)
            what = "a condition" if result == BOOL else "this expression"
            message = f"{what} must be of type {result}, this is of type {found}"
            self._problem(root.pos, message)
        return self._types.final(found)

    def _finish(self, node: Node) -> None:
        node.type = self._types.final(node.type)
        for child in node.children():
            self._finish(child)

    def _problem(self, pos: int, message: str) -> Type:
        self.problems.append(problem_at(self._text, pos, message))
        return ERROR

    def _visit(self, node: Node) -> Type:
        node.type = self._deduce(node)
        return node.type

    def _deduce(self, node: Node) -> Type:
        match node:
            case Const():
                return constant_type(node.value)
            case Var():
                return self._environment.variables[node.name]
            case Local():
                return self._types.known(self._locals.get(node.slot, DYN))
            case Select():
                return self._select(node)
            case Index():
                return self._index(node)
            case Op():
                return self._operator(node)
            case Call():
                return self._call(node)
            case ListLit():
                return ListOf(self._join(node.items, node.optional))
            case MapLit():
                return self._map(node)
            case Loop():
                return self._loop(node)
            case Bind():
                return self._bind(node)
        return ERROR

    def _select(self, node: Select) -> Type:
        operand = self._types.known(self._visit(node.operand))
        wrap = node.optional
        if operand.name == "optional_type":
            operand, wrap = self._types.known(operand.params[0]), not node.test
        found = self._member(operand, node.name, node, quoted=False)
        if node.test:
            return ERROR if found == ERROR else BOOL
        return OptionalOf(found) if wrap and found != ERROR else found

    def _member(self, operand: Type, name: str, node: Select | Index, *, quoted: bool) -> Type:
        """The type of a field or a constant key."""
        pos = node.key.pos if isinstance(node, Index) else node.pos
        if operand == EVENT:
            found = attribute(name, path(node.operand) or "event", quoted=quoted)
            return self._problem(pos, found) if isinstance(found, str) else found
        if operand.keys:
            keys = dict(operand.keys)
            if name in keys:
                return keys[name]
            hint = did_you_mean(name, keys) or f"; known are {', '.join(sorted(keys)[:8])}"
            return self._problem(pos, f"there is no {name} here{hint}")
        if operand.name == "map":
            return operand.params[1]
        if is_dyn(operand) or operand.name[0] == "%":
            return DYN
        return self._problem(pos, f"type {operand} has no fields, so there is no field {name}")

    def _index(self, node: Index) -> Type:
        operand = self._types.known(self._visit(node.operand))
        key = self._visit(node.key)
        wrap = node.optional
        if operand.name == "optional_type":
            operand, wrap = self._types.known(operand.params[0]), True
        if isinstance(node.key, Const) and type(node.key.value) is str and (
            operand == EVENT or operand.keys
        ):  # fmt: skip
            found = self._member(operand, node.key.value, node, quoted=True)
        else:
            found = self._element(node, operand, key)
        return OptionalOf(found) if wrap and found != ERROR else found

    def _element(self, node: Index, operand: Type, key: Type) -> Type:
        if operand.name in ("list", "map") and operand != EVENT:
            wanted, found = (
                (INT, operand.params[0]) if operand.name == "list" else tuple(operand.params)
            )
            if self._types.assignable([wanted], [key]):
                return found
            shown = self._types.final(operand), self._types.final(key)
            return self._problem(node.pos, f"a {shown[0]} has no key of type {shown[1]}")
        if is_dyn(operand) or operand.name[0] == "%" or operand == EVENT:
            return DYN
        return self._problem(node.pos, f"type {operand} has no elements to read with []")

    def _operator(self, node: Op) -> Type:
        types = [self._visit(each) for each in node.args]
        if node.op in ("&&", "||"):
            for each, type_ in zip(node.args, types, strict=True):
                if not self._types.assignable([BOOL], [type_]):
                    shown = self._types.final(type_)
                    self._problem(each.pos, f"{node.op} takes conditions, this is of type {shown}")
            return BOOL
        return self._overload(node, OPERATORS[node.op], types, node.op)

    def _overload(
        self, node: Node, overloads: tuple[Overload, ...], types: list[Type], shown: str
    ) -> Type:
        result: Type | None = None
        for overload in overloads:
            params = list(overload.params)
            if overload.variadic:
                params += [params[-1]] * (len(types) - len(params))
            if len(params) != len(types):
                continue
            *wanted, given = self._types.instance([*params, overload.result])
            if not self._types.assignable(wanted, types):
                continue
            given = self._types.known(given)
            result = given if result is None or given == result else DYN
        if result is not None:
            return result
        finals = [self._types.final(each) for each in types]
        return self._problem(node.pos, mismatch(shown, finals))

    def _call(self, node: Call) -> Type:
        types = [self._visit(each) for each in node.children()]
        declared = self._environment.declared.get(node.name)
        function = FUNCTIONS.get(node.name)
        if declared is None and function is None:
            return ERROR
        overloads = declared or (function.overloads if function else ())
        member = node.target is not None
        styled = tuple(each for each in overloads if each.member is member)
        if function and not function.takes(member=member, count=len(types)):
            return ERROR  # the resolver has said so
        if node.name in ("math.greatest", "math.least"):
            return self._extreme(node, types)
        wrong = constant_problem(node)
        if wrong:
            return self._problem(node.args[-1].pos, wrong)
        return self._overload(node, styled, types, node.name)

    def _extreme(self, node: Call, types: list[Type]) -> Type:
        """Of math.greatest and least: numbers of any types, or one list of them."""
        first = self._types.known(types[0])
        if len(types) == 1 and first.name == "list":
            types = [self._types.known(first.params[0])]
        for each, type_ in zip(node.args, types, strict=False):
            if not is_dyn(type_) and type_.name not in NUMERIC and type_.name[0] != "%":
                return self._problem(each.pos, f"{node.name} takes numbers, this is a {type_}")
        return types[0] if len(set(types)) == 1 else DYN

    def _join(self, nodes: tuple[Node, ...], optional: tuple[bool, ...]) -> Type:
        joined: Type | None = None
        for node, is_optional in zip(nodes, optional, strict=True):
            type_ = self._visit(node)
            if is_optional:
                inner = self._types.fresh()
                if not self._types.assignable([OptionalOf(inner)], [type_]):
                    shown = self._types.final(type_)
                    self._problem(node.pos, f"?... takes an optional value, this is a {shown}")
                type_ = self._types.known(inner)
            joined = type_ if joined is None else self._types.join(joined, type_)
        return self._types.fresh() if joined is None else joined

    def _map(self, node: MapLit) -> Type:
        keys = self._join(node.keys, (False,) * len(node.keys))
        values = self._join(node.values, node.optional)
        for key in node.keys:
            if key.type.name in ("double", "bytes", "list", "map", "null_type"):
                self._problem(key.pos, f"a map key is a string, int, uint or bool, no {key.type}")
        return MapOf(keys, values)

    def _loop(self, node: Loop) -> Type:
        over = self._types.known(self._visit(node.over))
        first, second = self._elements(node, over)
        if len(node.names) == 1:
            value = second if over.name == "list" else first
            self._locals[node.names[0].slot] = value
        else:
            value = second
            for name, type_ in zip(node.names, (first, second), strict=True):
                self._locals[name.slot] = type_
        if node.where is not None:
            self._condition(node.where, node.kind)
        if node.kind in ("all", "exists", "existsOne"):
            self._condition(node.body, node.kind)
            return BOOL
        body = self._visit(node.body)
        if node.kind == "transformMap":
            return MapOf(first, body)
        if node.kind == "transformMapEntry":
            found = MapOf(self._types.fresh(), self._types.fresh())
            if not self._types.assignable([found], [body]):
                return self._problem(node.body.pos, "transformMapEntry takes a map of one entry")
            return found
        return ListOf(body)

    def _elements(self, node: Loop, over: Type) -> tuple[Type, Type]:
        """The types of a macro's two variables: index and element, or key and value."""
        if over.name == "list":
            return INT, over.params[0]
        if over.name == "map":
            return over.params[0], over.params[1]
        if over == EVENT:
            return Type("string"), DYN
        if not is_dyn(over) and over.name[0] != "%":
            shown = self._types.final(over)
            self._problem(node.over.pos, f"{node.kind} takes a list or a map, this is a {shown}")
        return DYN, DYN

    def _condition(self, node: Node, kind: str) -> None:
        type_ = self._visit(node)
        if not self._types.assignable([BOOL], [type_]):
            shown = self._types.final(type_)
            self._problem(node.pos, f"{kind} takes a condition, this is of type {shown}")

    def _bind(self, node: Bind) -> Type:
        value = self._visit(node.value)
        if node.kind == "bind":
            self._locals[node.name.slot] = value
            return self._visit(node.body)
        inner = self._types.fresh()
        if not self._types.assignable([OptionalOf(inner)], [value]):
            shown = self._types.final(value)
            self._problem(node.value.pos, f"{node.kind} takes an optional value, this is a {shown}")
        self._locals[node.name.slot] = self._types.known(inner)
        body = self._visit(node.body)
        if node.kind == "optMap":
            return OptionalOf(body)
        found = OptionalOf(self._types.fresh())
        if not self._types.assignable([found], [body]):
            return self._problem(node.body.pos, "optFlatMap's last argument is an optional value")
        return found
