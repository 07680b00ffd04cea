"""What an expression may name: the variables, and how a qualified name is found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ofevents.cel.signatures import Overload
from ofevents.cel.types import EVENT, Type


@dataclass(frozen=True, slots=True)
class Environment:
    """The declared variables, each with its type.

    Attributes:
        variables: name to type. A name may be qualified (`a.b`).
        container: the namespace that names are looked up in first (`com.example`); rarely needed.
        declared: functions that only the checker knows; calling one fails when it is evaluated.
    """

    variables: Mapping[str, Type] = field(default_factory=dict)
    container: str = ""
    declared: Mapping[str, tuple[Overload, ...]] = field(default_factory=dict)

    def candidates(self, name: str, *, absolute: bool = False) -> Iterator[str]:
        """The names that a name can stand for, the most specific first."""
        parts = [] if absolute or not self.container else self.container.split(".")
        for count in range(len(parts), 0, -1):
            yield ".".join([*parts[:count], name])
        yield name

    def find(self, name: str, *, absolute: bool = False) -> str | None:
        """The declared variable that the name stands for."""
        for candidate in self.candidates(name, absolute=absolute):
            if candidate in self.variables:
                return candidate
        return None


ON_EVENT: Final = Environment(variables={"event": EVENT})
"""Of an expression over one event: filters, attributes, keys."""
