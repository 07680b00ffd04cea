"""What the closures of `careful.py` are built of: a frame, absorbed errors, loops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ofevents.cel import access, arithmetic
from ofevents.cel.limits import Budget, LimitExceeded
from ofevents.cel.tree import Loop


class Frame:
    """One evaluation: what is bound, the macros' variables by slot, the budget."""

    __slots__ = ("B", "bindings", "slots")

    def __init__(self, bindings: Mapping[str, object], budget: Budget) -> None:
        self.bindings = bindings
        self.B = budget
        self.slots: dict[int, Any] = {}


Run = Callable[[Frame], Any]


class Failed:
    """What a name is bound to when its value could not be evaluated."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


def bound(value: Any) -> Any:
    """The value of a name, or the error that it is bound to."""
    if type(value) is Failed:
        raise value.error
    return value


def absorb(f: Frame, conditions: Iterable[Run], *, decides: bool) -> bool:
    """`&&`, `||`, `all` and `exists`: one false (true) decides, whatever errors are beside it.

    Without a decision the first error is the result. Limits are never absorbed.
    """
    failed: Exception | None = None
    for condition in conditions:
        try:
            value = arithmetic.boolean(condition(f))
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


def loop(node: Loop, over: Run, where: Run | None, body: Run) -> Run:
    """The closure of a macro."""
    visit = _visits(node, over)

    def found(f: Frame) -> list[Any]:
        """The body's value for each element that the condition lets through."""
        return [body(f) for _ in visit(f) if where is None or arithmetic.boolean(where(f))]

    match node.kind:
        case "all" | "exists":
            decides = node.kind == "exists"
            return lambda f: absorb(f, (body for _ in visit(f)), decides=decides)
        case "existsOne":
            return lambda f: sum(map(arithmetic.boolean, found(f))) == 1
        case "map" | "filter" | "transformList":
            return found
        case "transformMapEntry":
            return lambda f: access.merge_maps(f.B, found(f))
    key, value = node.names[0].slot, body

    def entry(f: Frame) -> tuple[Any, Any]:
        return f.slots[key], value(f)

    body = entry
    return lambda f: access.make_map(f.B, found(f))


def _visits(node: Loop, over: Run) -> Callable[[Frame], Iterator[None]]:
    """Sets the macro's variables to one element after the other."""
    slots = [name.slot for name in node.names]
    if len(slots) == 2:
        first, second = slots

        def pairs(f: Frame) -> Iterator[None]:
            for key, each in access.pairs(f.B, over(f)):
                f.slots[first], f.slots[second] = key, each
                yield None

        return pairs
    (slot,) = slots
    items = access.items if node.kind in ("all", "exists", "existsOne") else access.collected

    def elements(f: Frame) -> Iterator[None]:
        for each in items(f.B, over(f)):
            f.slots[slot] = each
            yield None

    return elements
