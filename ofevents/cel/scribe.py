"""What writing code needs: names, constants, temporaries, and what is known to be bool."""

from __future__ import annotations

import math
from typing import Any

from ofevents.cel import access, arithmetic, compare, strings
from ofevents.cel.functions import FUNCTIONS
from ofevents.cel.moments import event_time
from ofevents.cel.tree import Call, Const, Loop, Node, Op, Select
from ofevents.cel.values import NONE, Optional

_NAMES: dict[str, Any] = {
    "add": arithmetic.add, "sub": arithmetic.sub, "mul": arithmetic.mul, "div": arithmetic.div,
    "mod": arithmetic.mod, "neg": arithmetic.neg, "not_": arithmetic.not_,
    "boolean": arithmetic.boolean, "lt": compare.lt, "le": compare.le, "gt": compare.gt,
    "ge": compare.ge, "eq": compare.eq, "ne": compare.ne, "in_": compare.in_,
    "in_text": compare.in_text, "select": access.select,
    "has": access.has, "index": access.index,
    "opt_index": access.opt_index, "opt_select": access.opt_select, "items": access.items,
    "pairs": access.pairs, "collected": access.collected, "make_map": access.make_map,
    "merge_maps": access.merge_maps, "made": access.made, "present": access.present,
    "optional": access.optional, "measure": access.measure, "event_time": event_time,
    "search": strings.search, "matches": strings.matches, "starts_with": strings.starts_with,
    "ends_with": strings.ends_with, "contains": strings.contains, "Optional": Optional,
    "NONE": NONE,
}  # fmt: skip


class NoFastForm(Exception):
    """The expression has something that always fails; the complete form says how."""


class Scribe:
    """Keeps the names that the generated source refers to."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = dict(_NAMES)
        self.budget = False
        """Whether the expression needs a Budget, called `B` in the source."""
        self._temporaries = 0
        self.loops = 0
        """How many loops are open where the source is written."""

    def temporary(self) -> str:
        self._temporaries += 1
        return f"t{self._temporaries}"

    def named(self, value: Any) -> str:
        name = f"K{len(self.names)}"
        self.names[name] = value
        return name

    def b(self) -> str:
        self.budget = True
        return "B"

    def constant(self, value: Any) -> str:
        if value is None or type(value) in (bool, str, bytes):
            return repr(value)
        if type(value) is int or (type(value) is float and math.isfinite(value)):
            return repr(value) if math.copysign(1, value) > 0 else f"({value!r})"
        return self.named(value)


def is_bool(node: Node) -> bool:
    """Whether the generated source of the node gives True or False and nothing else."""
    match node:
        case Const():
            return type(node.value) is bool
        case Select():
            return node.test
        case Op():
            if node.op == "?:":
                return is_bool(node.args[1]) and is_bool(node.args[2])
            return node.op in ("&&", "||", "!", "==", "!=", "<", "<=", ">", ">=", "in")
        case Loop():
            return node.kind in ("all", "exists", "existsOne")
        case Call():
            function = FUNCTIONS.get(node.name)
            overloads = function.overloads if function else ()
            return {each.result.name for each in overloads} == {"bool"}
    return False
