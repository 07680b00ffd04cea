"""Which inputs a condition names, and whether it has to wait for several of them.

Called by the evaluator for each subscriber, once. A subscriber fires only for
events of inputs that its condition names (OpenFunction re-evaluated every
condition for every event, so a subscriber on `a` got b's payload as well), and
only a condition that can need two events at once pays for state in the store.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from ofevents.cel.tree import Const, Ident, Index, Node, Op, Select, Var

_MAPPINGS: Final = ("inputs", "events")


@dataclass(frozen=True, slots=True)
class Naming:
    """What a condition says about inputs.

    Attributes:
        inputs: the names of the inputs that it names.
        joins: it may be met by events of several inputs together.
        bare: it is one input's name and nothing else, thus true when that arrives.
    """

    inputs: frozenset[str]
    joins: bool
    bare: bool


def naming(root: Node, known: Collection[str]) -> Naming:
    """Read the tree of a condition over these inputs."""
    found = _named(root, known)
    return Naming(found, _joins(root, known), len(found) == 1 and _direct(root, known) is not None)


def _joins(node: Node, known: Collection[str]) -> bool:
    """A disjunction of terms that name one input each needs no state."""
    if len(_named(node, known)) <= 1:
        return False
    if not isinstance(node, Op) or node.op not in ("||", "&&"):
        return True
    naming_terms = [term for term in node.args if _named(term, known)]
    if node.op == "&&" and len(naming_terms) > 1:
        return True
    return any(_joins(term, known) for term in naming_terms)


def _named(node: Node, known: Collection[str]) -> frozenset[str]:
    direct = _direct(node, known) or _event_of(node, known)
    if direct is not None:
        return frozenset((direct,))
    if _variable(node) in _MAPPINGS:
        return frozenset(known)  # read in a way that we cannot follow: it may be any
    found: frozenset[str] = frozenset()
    for child in node.children():
        found |= _named(child, known)
    return found


def _direct(node: Node, known: Collection[str]) -> str | None:
    """The input whose bool this node is: `orders` or `inputs["orders"]`."""
    name = _variable(node)
    if name is None:
        name = _member(node, "inputs")
    return name if name in known and name not in _MAPPINGS else None


def _event_of(node: Node, known: Collection[str]) -> str | None:
    """The input whose event this node is: `events.orders`."""
    name = _member(node, "events")
    return name if name in known else None


def _member(node: Node, mapping: str) -> str | None:
    if isinstance(node, Select) and _variable(node.operand) == mapping:
        return node.name
    if isinstance(node, Index) and _variable(node.operand) == mapping:
        key = node.key
        return key.value if isinstance(key, Const) and isinstance(key.value, str) else None
    return None


def _variable(node: Node) -> str | None:
    return node.name if isinstance(node, Var | Ident) else None
