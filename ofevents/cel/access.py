"""Reading fields, keys and elements, visiting them, and making maps.

Both compiled forms of an expression call these. Any Mapping is read with `m[key]` and
asked with `key in m`, so a lazy event decodes only what an expression reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ofevents.cel.limits import Budget, LimitExceeded
from ofevents.cel.values import NONE, MixedMap, Optional, UInt, no_overload, plain, type_name
from ofevents.errors import EvaluationError

MISSING: Any = object()
"""What a look-up finds where there is nothing."""


def lookup(m: Any, key: Any) -> Any:
    """The map's value for the key, MISSING without one. A bool is found only as a bool."""
    kind = type(key)
    if kind is str:
        try:
            return m[key]
        except KeyError:
            return MISSING
    if kind not in (int, UInt, float, bool):
        no_overload("a map key", key)
    if kind is float and not key.is_integer():
        return MISSING
    if kind is not bool:
        key = int(key)
    if type(m) is dict and (key == 0 or key == 1):
        # Python takes True for 1.
        if any((type(each) is bool) is (kind is bool) and each == key for each in m):
            return m[key]
        return MISSING
    try:
        return m[key]
    except KeyError:
        return MISSING


def select(a: Any, name: str) -> Any:
    """`a.name`."""
    if isinstance(a, Mapping):
        try:
            return a[name]
        except KeyError:
            raise EvaluationError(f"no such key: {name}; has() or .?{name} is the guard") from None
    if type(a) is Optional:
        return opt_select(a, name)
    raise EvaluationError(f"a {type_name(a)} has no field {name}")


def has(a: Any, name: str) -> bool:
    """`has(a.name)`."""
    if isinstance(a, Mapping):
        return name in a
    if type(a) is Optional:
        return a.present and has(a.value, name)
    raise EvaluationError(f"a {type_name(a)} has no field {name}")


def opt_select(a: Any, name: str) -> Optional:
    """`a.?name`: an optional; none where there is no such key."""
    if type(a) is Optional:
        return opt_select(a.value, name) if a.present else NONE
    return Optional(a[name]) if has(a, name) else NONE


def index(a: Any, key: Any) -> Any:
    """`a[key]`."""
    a = plain(a)
    if type(a) is Optional:
        return opt_index(a, key)
    found = _element(a, plain(key))
    if found is MISSING:
        where = "index out of range" if type(a) in (list, tuple) else "no such key"
        raise EvaluationError(f"{where}: {str(key)[:80]}")
    return found


def opt_index(a: Any, key: Any) -> Optional:
    """`a[?key]`: an optional; none where there is no such key or index."""
    a = plain(a)
    if type(a) is Optional:
        return opt_index(a.value, key) if a.present else NONE
    if isinstance(a, Mapping) and type(key) not in (str, int, UInt, bool, float):
        return NONE
    found = _element(a, plain(key))
    return NONE if found is MISSING else Optional(found)


def _element(a: Any, key: Any) -> Any:
    if isinstance(a, Mapping):
        return lookup(a, key)
    if type(a) not in (list, tuple):
        no_overload("[]", a, key)
    if type(key) is float and key.is_integer():
        key = int(key)
    if type(key) not in (int, UInt):
        no_overload("[]", a, key)
    return a[key] if 0 <= key < len(a) else MISSING


def items(B: Budget, a: Any) -> Any:
    """What a macro visits: a list's elements, a map's keys."""
    if type(a) is list:
        return B.walk(a)
    a = plain(a)
    if isinstance(a, Mapping):
        return B.walk(list(a))
    if type(a) in (list, tuple):
        return B.walk(a)
    no_overload("a macro", a)


def pairs(B: Budget, a: Any) -> Any:
    """What a macro of two variables visits: (index, element) or (key, value)."""
    a = plain(a)
    if isinstance(a, Mapping):
        return ((key, lookup(a, key)) for key in B.walk(list(a)))
    if type(a) in (list, tuple):
        return enumerate(B.walk(a))
    no_overload("a macro", a)


def make_map(B: Budget, entries: list[tuple[Any, Any]]) -> Mapping[Any, Any]:
    """A map literal. Two equal keys, or a key that is no bool, number or string, are an error."""
    B.make(16 * len(entries))
    made: dict[tuple[bool, Any], tuple[Any, Any]] = {}
    for key, value in entries:
        key = plain(key)
        if type(key) not in (str, int, UInt, bool):
            no_overload("a map key", key)
        slot = (type(key) is bool, key)
        if slot in made:
            raise EvaluationError(f"the map has the key {str(key)[:80]} twice")
        made[slot] = (key, value)
    result = dict(made.values())
    return result if len(result) == len(made) else MixedMap(made)


def merge_maps(B: Budget, maps: list[Any]) -> Mapping[Any, Any]:
    """What transformMapEntry makes of its bodies' maps."""
    entries: list[tuple[Any, Any]] = []
    for each in maps:
        found = plain(each)
        if not isinstance(found, Mapping):
            no_overload("transformMapEntry", found)
        entries += [(key, lookup(found, key)) for key in B.walk(list(found))]
    return make_map(B, entries)


def collected(B: Budget, a: Any) -> Any:
    """As `items`, for a macro that makes a list or map of what it visits."""
    B.make(16 * len(a) if type(a) is list else 0)
    return items(B, a)


def made(B: Budget, value: Any) -> Any:
    """A list or map literal within a loop, charged for its memory."""
    B.make(64 + 16 * len(value))
    return value


def present(value: Any) -> list[Any]:
    """The value of an optional element or entry as a list of one, or an empty one."""
    if type(value) is not Optional:
        no_overload("an optional element", value)
    return [value.value] if value.present else []


def optional(value: Any) -> Optional:
    """The operand where only an optional will do."""
    if type(value) is not Optional:
        no_overload("an optional value", value)
    return value


def measure(B: Budget, value: Any) -> Any:
    """The result of a program, charged as if it were written out in full.

    A value that is small in memory may be huge on the wire when its parts are shared.
    """
    pending: list[tuple[Any, int]] = [(value, B.depth)]
    while pending:
        each, depth = pending.pop()
        kind = type(each)
        if kind is str or kind is bytes:
            B.make(len(each))
        elif kind is list or kind is tuple or isinstance(each, Mapping):
            if depth <= 0:
                raise LimitExceeded("the result is nested too deeply (or contains itself)")
            B.make(16 * len(each))
            B.steps(len(each))
            inner = each if kind is list or kind is tuple else [each[key] for key in each]
            pending += [(part, depth - 1) for part in inner]
    return value
