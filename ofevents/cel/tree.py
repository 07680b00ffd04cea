"""The nodes of a parsed expression: what `parse.py` makes and every later step reads.

`pos` is the offset in the text that a message about the node points at; `depth` the
levels below and including the node, known at once so that no later step can recurse
too deep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ofevents.cel.types import DYN, Type

DEPTH_MAX = 256
"""More levels than this no tree has, whatever the limits of a caller."""


class TooDeep(Exception):
    """The tree would have more than `DEPTH_MAX` levels; `args[0]` is the offset."""


@dataclass(slots=True, eq=False)
class Node:
    """Any term of an expression."""

    pos: int
    depth: int = field(init=False, default=1)
    type: Type = field(init=False, default=DYN)
    """What the checker deduced; dyn in an expression that is not checked."""

    def children(self) -> Sequence[Node]:
        return ()

    def __post_init__(self) -> None:
        self.depth = 1 + max((child.depth for child in self.children()), default=0)
        if self.depth > DEPTH_MAX:
            raise TooDeep(self.pos)


@dataclass(slots=True, eq=False)
class Const(Node):
    """A literal, or the name of a type."""

    value: Any


@dataclass(slots=True, eq=False)
class Ident(Node):
    """A name as it is written; `absolute` with a leading dot."""

    name: str
    absolute: bool = False


@dataclass(slots=True, eq=False)
class Var(Node):
    """A variable of the environment; the name may be qualified (`a.b`)."""

    name: str


@dataclass(slots=True, eq=False)
class Local(Node):
    """A variable of a macro. `slot` is unique within the expression."""

    name: str
    slot: int


@dataclass(slots=True, eq=False)
class Unknown(Node):
    """A name, function or macro that does not exist: an error when it is reached."""

    message: str


@dataclass(slots=True, eq=False)
class Select(Node):
    """`operand.name`, `operand.?name` (optional) or `has(operand.name)` (test)."""

    operand: Node
    name: str
    optional: bool = False
    test: bool = False

    def children(self) -> Sequence[Node]:
        return (self.operand,)


@dataclass(slots=True, eq=False)
class Index(Node):
    """`operand[key]` or `operand[?key]`."""

    operand: Node
    key: Node
    optional: bool = False

    def children(self) -> Sequence[Node]:
        return (self.operand, self.key)


@dataclass(slots=True, eq=False)
class Op(Node):
    """An operator: `+ - * / % == != < <= > >= in ! neg ?: && ||`; the last two are n-ary."""

    op: str
    args: list[Node]

    def children(self) -> Sequence[Node]:
        return self.args


@dataclass(slots=True, eq=False)
class Call(Node):
    """A function call; `target` is the receiver of a member call."""

    name: str
    target: Node | None
    args: tuple[Node, ...]

    def children(self) -> Sequence[Node]:
        return self.args if self.target is None else (self.target, *self.args)


@dataclass(slots=True, eq=False)
class ListLit(Node):
    """`[a, ?b]`: items, and which of them are optional."""

    items: tuple[Node, ...]
    optional: tuple[bool, ...]

    def children(self) -> Sequence[Node]:
        return self.items


@dataclass(slots=True, eq=False)
class MapLit(Node):
    """`{k: v, ?k: v}`."""

    keys: tuple[Node, ...]
    values: tuple[Node, ...]
    optional: tuple[bool, ...]

    def children(self) -> Sequence[Node]:
        return (*self.keys, *self.values)


@dataclass(slots=True, eq=False)
class Struct(Node):
    """`Name{field: value}`: a protobuf message, which we do not have."""

    name: str

    def children(self) -> Sequence[Node]:
        return ()


@dataclass(slots=True, eq=False)
class Loop(Node):
    """A macro over a list or map. `where` is the condition of map, filter and transforms.

    kinds: all, exists, existsOne, map, filter, transformList, transformMap, transformMapEntry.
    With two variables the first is the index or key and the second the value.
    """

    kind: str
    over: Node
    names: tuple[Local, ...]
    where: Node | None
    body: Node

    def children(self) -> Sequence[Node]:
        return (self.over, self.body) if self.where is None else (self.over, self.where, self.body)


@dataclass(slots=True, eq=False)
class Bind(Node):
    """`cel.bind(name, value, body)`; `kind` is bind, optMap or optFlatMap."""

    kind: str
    name: Local
    value: Node
    body: Node

    def children(self) -> Sequence[Node]:
        return (self.value, self.body)
