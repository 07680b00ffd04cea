"""Whether one type can stand where another is wanted, with type parameters.

The rules are those of the CEL specification's checker: dyn goes with everything, a
parameter takes the most general of the types it meets, null goes with the types that
have no zero (timestamps, durations, optionals). A type variable's name starts with `%`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ofevents.cel.types import DYN, ERROR, EVENT, NULL, STRING, MapOf, Type

_PRIMITIVE = frozenset(("bool", "int", "uint", "double", "string", "bytes"))
_EVENT_AS_MAP = MapOf(STRING, DYN)


def is_dyn(type_: Type) -> bool:
    return type_ in (DYN, ERROR)


def _is_variable(type_: Type) -> bool:
    return type_.name[0] == "%"


class Unifier:
    """The type variables of one expression and what they stand for."""

    def __init__(self) -> None:
        self._bound: dict[str, Type] = {}
        self._count = 0

    def fresh(self) -> Type:
        """A new type variable."""
        self._count += 1
        return Type(f"%{self._count}")

    def instance(self, types: Sequence[Type]) -> list[Type]:
        """The types with each parameter (`A`) replaced by one new variable."""
        made: dict[str, Type] = {}

        def replace(type_: Type) -> Type:
            if len(type_.name) == 1 and type_.name.isupper():
                return made.setdefault(type_.name, self.fresh())
            return Type(type_.name, tuple(map(replace, type_.params))) if type_.params else type_

        return [replace(each) for each in types]

    def assignable(self, targets: Sequence[Type], sources: Sequence[Type]) -> bool:
        """Whether each source can stand for its target; variables are bound only if all can."""
        before = dict(self._bound)
        if all(self._assign(a, b) for a, b in zip(sources, targets, strict=True)):
            return True
        self._bound = before
        return False

    def _assign(self, a: Type, b: Type) -> bool:
        if _is_variable(b):
            valid, had = self._substitute(a, b)
            if valid or had:
                return valid
        if _is_variable(a):
            return self._substitute(b, a)[0]
        if is_dyn(a) or is_dyn(b):
            return True
        if a == NULL or b == NULL:
            other = b if a == NULL else a
            return other == NULL or other.name not in {*_PRIMITIVE, "list", "map", "type", "event"}
        if EVENT in (a, b) and a != b:
            a, b = (_EVENT_AS_MAP if each == EVENT else each for each in (a, b))
        if a.name != b.name:
            return False
        if a.name == "type":
            return True
        return len(a.params) == len(b.params) and all(map(self._assign, a.params, b.params))

    def _substitute(self, type_: Type, variable: Type) -> tuple[bool, bool]:
        """Bind the variable to the type; (it fits, it was bound before)."""
        if type_ == variable:
            return True, True
        bound = self._bound.get(variable.name)
        if bound is None:
            if self._occurs(variable, type_):
                return False, False
            self._bound[variable.name] = type_
            return True, False
        if type_ == bound:
            return True, True
        if not self._assign(type_, bound):
            return False, True
        general = self.most_general(type_, bound)
        if not self._occurs(variable, general):
            self._bound[variable.name] = general
        return True, True

    def _occurs(self, variable: Type, type_: Type) -> bool:
        if type_ == variable:
            return True
        if _is_variable(type_) and type_.name in self._bound:
            return self._occurs(variable, self._bound[type_.name])
        return any(self._occurs(variable, param) for param in type_.params)

    def most_general(self, a: Type, b: Type) -> Type:
        if NULL in (a, b):
            return b if a == NULL else a
        return a if self._less_specific(a, b) else b

    def _less_specific(self, a: Type, b: Type) -> bool:
        if is_dyn(a) or _is_variable(a):
            return True
        if is_dyn(b) or _is_variable(b) or a.name != b.name or len(a.params) != len(b.params):
            return False
        return all(map(self._less_specific, a.params, b.params))

    def join(self, a: Type, b: Type) -> Type:
        """The type of a list that has elements of both: the more general one, or dyn."""
        return self.most_general(a, b) if self.assignable([a], [b]) else DYN

    def known(self, type_: Type) -> Type:
        """The type as far as it is known: a variable that is bound becomes what it stands for."""
        while _is_variable(type_) and type_.name in self._bound:
            type_ = self._bound[type_.name]
        return type_

    def final(self, type_: Type) -> Type:
        """The type with every variable replaced; an unbound one is dyn."""
        type_ = self.known(type_)
        if _is_variable(type_):
            return DYN
        if not type_.params:
            return type_
        return Type(type_.name, tuple(map(self.final, type_.params)), type_.keys)
