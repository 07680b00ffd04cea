"""Macros become loops and names become variables, so that later steps only see meanings.

Scopes are settled here: a macro's variable hides a variable of the environment, and
each gets a slot of its own, so that neither compiled form needs to think of shadowing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ofevents.cel.environment import Environment
from ofevents.cel.functions import FUNCTIONS, TYPES
from ofevents.cel.problems import Problem, did_you_mean, problem_at
from ofevents.cel.tree import (
    Bind,
    Call,
    Const,
    Ident,
    Index,
    ListLit,
    Local,
    Loop,
    MapLit,
    Node,
    Op,
    Select,
    Struct,
    Unknown,
    Var,
)
from ofevents.cel.values import CelType

Scope = Mapping[str, Local]

# Macros by name and number of arguments: the kind of loop, how many variables, a condition or not.
_LOOPS: dict[tuple[str, int], tuple[str, int, bool]] = {
    ("all", 2): ("all", 1, False),
    ("exists", 2): ("exists", 1, False),
    ("exists_one", 2): ("existsOne", 1, False),
    ("existsOne", 2): ("existsOne", 1, False),
    ("map", 2): ("map", 1, False),
    ("map", 3): ("map", 1, True),
    ("filter", 2): ("filter", 1, False),
    ("all", 3): ("all", 2, False),
    ("exists", 3): ("exists", 2, False),
    ("exists_one", 3): ("existsOne", 2, False),
    ("existsOne", 3): ("existsOne", 2, False),
    ("transformList", 3): ("transformList", 2, False),
    ("transformList", 4): ("transformList", 2, True),
    ("transformMap", 3): ("transformMap", 2, False),
    ("transformMap", 4): ("transformMap", 2, True),
    ("transformMapEntry", 3): ("transformMapEntry", 2, False),
    ("transformMapEntry", 4): ("transformMapEntry", 2, True),
}
_NAMESPACES = frozenset(name.rpartition(".")[0] for name in FUNCTIONS if "." in name)
_FORMS = {
    **dict.fromkeys(
        ("all", "exists", "exists_one", "existsOne", "filter"), "list.{}(x, condition)"
    ),
    "map": "list.map(x, result) or list.map(x, condition, result)",
    **dict.fromkeys(
        ("transformList", "transformMap", "transformMapEntry"), "map.{}(key, value, result)"
    ),
    "has": "has(event.subject)",
    "cel.bind": "cel.bind(x, value, result)",
    **dict.fromkeys(("optMap", "optFlatMap"), "optional.{}(x, result)"),
}
MACROS = frozenset(name for name, _ in _LOOPS) | {"has", "cel.bind", "optMap", "optFlatMap"}


class Resolver:
    """Resolves one expression. Problems are collected; an unknown name becomes an `Unknown`."""

    def __init__(self, text: str, environment: Environment) -> None:
        self._text = text
        self._environment = environment
        self._slots = 0
        self.variables: set[str] = set()
        self.mistakes: list[Problem] = []
        """Wrong in any case."""
        self.unknown: list[Problem] = []
        """Undeclared names: mistakes only where the expression is checked."""

    def resolve(self, node: Node, scope: Scope) -> Node:
        """The node with its macros expanded and its names resolved."""
        match node:
            case Const():
                return node
            case Ident() | Select():
                return self._name(node, scope)
            case Index():
                operand, key = self.resolve(node.operand, scope), self.resolve(node.key, scope)
                return Index(node.pos, operand, key, node.optional)
            case Op():
                return Op(node.pos, node.op, [self.resolve(each, scope) for each in node.args])
            case Call():
                return self._call(node, scope)
            case ListLit():
                return ListLit(node.pos, self._all(node.items, scope), node.optional)
            case MapLit():
                keys, values = self._all(node.keys, scope), self._all(node.values, scope)
                return MapLit(node.pos, keys, values, node.optional)
            case Struct():
                return self._mistake(node.pos, f"there is no message type {node.name}; use a map")
        raise TypeError(f"no node: {node!r}")

    def _all(self, nodes: Sequence[Node], scope: Scope) -> tuple[Node, ...]:
        return tuple(self.resolve(each, scope) for each in nodes)

    def _mistake(self, pos: int, message: str) -> Node:
        self.mistakes.append(problem_at(self._text, pos, message))
        return Unknown(pos, message)

    def _undeclared(self, pos: int, message: str) -> Node:
        self.unknown.append(problem_at(self._text, pos, message))
        return Unknown(pos, message)

    def _name(self, node: Node, scope: Scope) -> Node:
        """A name or a chain of selections: the longest part of it that is a variable wins."""
        chain = _chain(node)
        if chain is not None:
            root, names = chain
            if root.absolute or names[0] not in scope:
                found = self._global(".".join(names), node, root)
                if found is not None:
                    return found
        if isinstance(node, Select):
            operand = self.resolve(node.operand, scope)
            return Select(node.pos, operand, node.name, node.optional, node.test)
        assert isinstance(node, Ident)
        if not node.absolute and node.name in scope:
            return Local(node.pos, node.name, scope[node.name].slot)
        known = {*self._environment.variables, *scope}
        hint = did_you_mean(node.name, known)
        if not hint and known:
            names_known = ", ".join(sorted(known)[:8])
            hint = f"; known are {names_known}"
        return self._undeclared(node.pos, f"undeclared variable {node.name}{hint}")

    def _global(self, name: str, node: Node, root: Ident) -> Node | None:
        found = self._environment.find(name, absolute=root.absolute)
        if found is not None:
            self.variables.add(found)
            return Var(root.pos, found)
        if name in TYPES:
            return Const(node.pos, CelType(name))
        return None

    def _call(self, node: Call, scope: Scope) -> Node:
        qualified = self._qualified(node, scope)
        expanded = self._macro(node, qualified, scope)
        if expanded is not None:
            return expanded
        namespace, _, _ = qualified.rpartition(".")
        if qualified in FUNCTIONS or qualified in self._environment.declared:
            return self._function(node, qualified, None, scope)
        if namespace in _NAMESPACES and self._environment.find(namespace) is None:
            return self._function(node, qualified, None, scope)
        if node.target is None:
            return self._function(node, node.name, None, scope)
        return self._function(node, node.name, self.resolve(node.target, scope), scope)

    def _qualified(self, node: Call, scope: Scope) -> str:
        """`math.greatest` for a call whose receiver is a namespace, the plain name without one."""
        chain = _chain(node.target) if node.target is not None else None
        if chain is None or (chain[1][0] in scope and not chain[0].absolute):
            return node.name if node.target is None else ""
        return ".".join([*chain[1], node.name])

    def _function(self, node: Call, name: str, target: Node | None, scope: Scope) -> Node:
        args = self._all(node.args, scope)
        if name in self._environment.declared:
            return Call(node.pos, name, target, args)
        function = FUNCTIONS.get(name)
        if function is None:
            hint = did_you_mean(name, [*FUNCTIONS, *MACROS])
            if name in MACROS:
                self._mistake(
                    node.pos, f"{name} is not called like this; it is {_FORMS[name].format(name)}"
                )
            else:
                self._undeclared(node.pos, f"undeclared function {name}{hint}")
        elif not function.takes(member=target is not None, count=len(args) + (target is not None)):
            forms = " or ".join(sorted({each.shown(name) for each in function.overloads})[:4])
            self._undeclared(node.pos, f"{name} is not called like this; it is {forms}")
        return Call(node.pos, name, target, args)

    def _macro(self, node: Call, qualified: str, scope: Scope) -> Node | None:
        if node.target is None:
            if node.name == "has" and len(node.args) == 1:
                return self._has(node, scope)
            return None
        if qualified == "cel.bind" and len(node.args) == 3:
            return self._bind(node, "bind", node.args[1], scope)
        if node.name in ("optMap", "optFlatMap") and len(node.args) == 2:
            return self._bind(node, node.name, node.target, scope)
        found = _LOOPS.get((node.name, len(node.args)))
        if found is None:
            return None
        return self._loop(node, *found, scope)

    def _has(self, node: Call, scope: Scope) -> Node:
        subject = node.args[0]
        if not isinstance(subject, Select):
            return self._mistake(subject.pos, "has() takes a field, such as has(event.subject)")
        # The field itself is what is tested, so only what is before it can be a qualified name.
        operand = self.resolve(subject.operand, scope)
        if subject.optional:
            operand = Select(subject.pos, operand, subject.name, optional=True)
        return Select(subject.pos, operand, subject.name, test=True)

    def _local(self, node: Node, macro: str) -> Local | None:
        if not isinstance(node, Ident) or node.absolute:
            self._mistake(node.pos, f"{macro} needs the name of a variable here")
            return None
        self._slots += 1
        return Local(node.pos, node.name, self._slots)

    def _bind(self, node: Call, kind: str, value: Node, scope: Scope) -> Node:
        name = self._local(node.args[0], node.name)
        bound = self.resolve(value, scope)
        if name is None:
            return Unknown(node.pos, "a macro without a variable")
        body = self.resolve(node.args[-1], {**scope, name.name: name})
        return Bind(node.pos, kind, name, bound, body)

    def _loop(self, node: Call, kind: str, count: int, filtered: bool, scope: Scope) -> Node:
        assert node.target is not None
        over = self.resolve(node.target, scope)
        names = [self._local(each, node.name) for each in node.args[:count]]
        found = tuple(name for name in names if name is not None)
        if len(found) < count:
            return Unknown(node.pos, "a macro without a variable")
        if count == 2 and found[0].name == found[1].name:
            return self._mistake(found[1].pos, f"{node.name} needs two different names")
        inner = {**scope, **{name.name: name for name in found}}
        rest = [self.resolve(each, inner) for each in node.args[count:]]
        if kind == "filter":
            return Loop(node.pos, kind, over, found, rest[0], found[0])
        return Loop(node.pos, kind, over, found, rest[0] if filtered else None, rest[-1])


def _chain(node: Node | None) -> tuple[Ident, list[str]] | None:
    """The root and the names of `a.b.c`, None for anything else."""
    names: list[str] = []
    while isinstance(node, Select) and not node.optional and not node.test:
        names.append(node.name)
        node = node.operand
    if not isinstance(node, Ident):
        return None
    return node, [node.name, *reversed(names)]
