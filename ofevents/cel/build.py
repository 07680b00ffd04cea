"""Grammar reductions to nodes: the callbacks that lark makes while it parses.

`parse.py` is the only caller. A callback gets the children of one reduction, tokens
included, and returns a node (or, inside the grammar's helper rules, what its parent
reduction needs). Nothing here recurses.
"""

from __future__ import annotations

from typing import Any

from ofevents.cel.lexis import literal_int, literal_text
from ofevents.cel.tree import Call, Const, Ident, Index, ListLit, MapLit, Node, Op, Select, Struct

RESERVED = frozenset(
    """as break const continue else for function if import let loop package namespace return
    var void while""".split()  # noqa: SIM905 - one line of words reads better than a list
)


class Mistake(Exception):
    """A text that the grammar allows and the language does not."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message


Children = list[Any]


def _at(token: Any) -> int:
    return int(token.start_pos)


def _single(self: Builder, children: Children) -> Any:
    return children[0]


def _pass(self: Builder, children: Children) -> Children:
    return children


class Builder:
    """One method per grammar rule; lark finds them by name."""

    def expr(self, children: Children) -> Any:
        if len(children) == 1:
            return children[0]
        condition, mark, yes, _, no = children
        return Op(_at(mark), "?:", [condition, yes, no])

    def conditionalor(self, children: Children) -> Any:
        return self._chain("||", children)

    def conditionaland(self, children: Children) -> Any:
        return self._chain("&&", children)

    def _chain(self, op: str, children: Children) -> Any:
        if len(children) == 1:
            return children[0]
        left, mark, right = children
        if not (isinstance(left, Op) and left.op == op):
            left = Op(_at(mark), op, [left])
        # Flat, so that a thousand terms are no deeper than two; in place, so that they are linear.
        left.args += right.args if isinstance(right, Op) and right.op == op else [right]
        left.depth = max(left.depth, right.depth + 1)
        return left

    def relation(self, children: Children) -> Any:
        return _binary(children)

    addition = relation
    multiplication = relation

    relation_lt = relation_le = relation_gt = relation_ge = _pass
    relation_eq = relation_ne = relation_in = _pass
    addition_add = addition_sub = _pass
    multiplication_mul = multiplication_div = multiplication_mod = _pass
    unary_not = unary_neg = _single

    def unary(self, children: Children) -> Any:
        if len(children) == 1:
            return children[0]
        mark, operand = children
        return Op(_at(mark), "!" if mark == "!" else "neg", [operand])

    member = primary = _single

    def field(self, children: Children) -> Any:
        return children[0]

    def member_dot(self, children: Children) -> Node:
        operand, name = children[0], children[-1]
        return Select(_at(name), operand, _field(name), optional=len(children) == 4)

    def member_dot_arg(self, children: Children) -> Node:
        target, _, name, _, *rest = children
        return Call(_at(name), str(name), target, _arguments(rest))

    def member_index(self, children: Children) -> Node:
        return Index(_at(children[1]), children[0], children[-2], optional=len(children) == 5)

    def member_object(self, children: Children) -> Node:
        return Struct(_at(children[1]), _qualified(children[0], _at(children[1])))

    def dot_ident_arg(self, children: Children) -> Node:
        _, name, _, *rest = children
        return Call(_at(name), _plain(name), None, _arguments(rest))

    def dot_ident(self, children: Children) -> Node:
        return Ident(_at(children[1]), _plain(children[1]), absolute=True)

    def ident_arg(self, children: Children) -> Node:
        name, _, *rest = children
        return Call(_at(name), _plain(name), None, _arguments(rest))

    def ident(self, children: Children) -> Node:
        return Ident(_at(children[0]), _plain(children[0]))

    def paren_expr(self, children: Children) -> Any:
        return children[1]

    def exprlist(self, children: Children) -> Children:
        return children[::2]

    def items(self, children: Children) -> Children:
        """One element, or a list and one more."""
        if len(children) == 1:
            return children
        found: Children = children[0]
        found.append(children[2])
        return found

    mapinits = fieldinits = items

    def item(self, children: Children) -> tuple[Node, bool]:
        return children[-1], len(children) == 2

    def mapinit(self, children: Children) -> tuple[Node, Node, bool]:
        return children[-3], children[-1], len(children) == 4

    fieldinit = mapinit

    def list_lit(self, children: Children) -> Node:
        items = children[1] if isinstance(children[1], list) else []
        nodes = tuple(node for node, _ in items)
        return ListLit(_at(children[0]), nodes, tuple(optional for _, optional in items))

    def map_lit(self, children: Children) -> Node:
        entries = children[1] if isinstance(children[1], list) else []
        return MapLit(
            _at(children[0]),
            tuple(key for key, _, _ in entries),
            tuple(value for _, value, _ in entries),
            tuple(optional for _, _, optional in entries),
        )

    def literal(self, children: Children) -> Node:
        token = children[0]
        try:
            return _literal(token)
        except ValueError as error:
            raise Mistake(_at(token), str(error)) from None


def _literal(token: Any) -> Node:
    pos, text = _at(token), str(token)
    match token.type:
        case "NULL_LIT":
            return Const(pos, None)
        case "BOOL_LIT":
            return Const(pos, text == "true")
        case "FLOAT_LIT":
            return Const(pos, float(text))
        case "UINT_LIT" if text[0] == "-":
            return Op(pos, "neg", [Const(pos, literal_int(text[1:]))])
        case "UINT_LIT" | "INT_LIT":
            return Const(pos, literal_int(text))
        case _:
            return Const(pos, literal_text(text))


def _binary(children: Children) -> Any:
    if len(children) == 1:
        return children[0]
    (left, mark), right = children
    return Op(_at(mark), str(mark), [left, right])


def _arguments(rest: Children) -> tuple[Node, ...]:
    return tuple(rest[0]) if isinstance(rest[0], list) else ()


def _plain(token: Any) -> str:
    name = str(token)
    if name in RESERVED:
        raise Mistake(_at(token), f"{name} is a reserved word of CEL and cannot be a name")
    return name


def _field(token: Any) -> str:
    return str(token).strip("`")


def _qualified(node: Any, pos: int) -> str:
    parts: list[str] = []
    while isinstance(node, Select):
        parts.append(node.name)
        node = node.operand
    if not isinstance(node, Ident):
        raise Mistake(pos, "{ is not expected here")
    return ".".join([node.name, *reversed(parts)])
