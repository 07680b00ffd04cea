"""How the signatures of functions are written and read.

`size(list(A)) -> int` is a function, `string|contains(string) -> bool` a member with its
receiver before the bar; a single capital letter is a type parameter, `...` repeats the
last parameter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ofevents.cel.types import Type


@dataclass(frozen=True, slots=True)
class Overload:
    """One signature. `member` puts the receiver first in `params`."""

    member: bool
    params: tuple[Type, ...]
    result: Type
    variadic: bool = False

    def shown(self, name: str) -> str:
        """How a call looks: `string.contains(string)`."""
        params = [str(param) for param in self.params]
        if self.member:
            return f"{params[0]}.{name}({', '.join(params[1:])})"
        return f"{name}({', '.join(params)}{', ...' if self.variadic else ''})"


_TYPE = re.compile(r"\s*([A-Za-z_.]+)\s*(\()?")
_SHORT = {"timestamp": "google.protobuf.Timestamp", "duration": "google.protobuf.Duration"}


def parse_type(source: str) -> Type:
    """A type as it is written: `map(string, list(A))`."""
    found, rest = _read_type(source)
    if rest.strip():
        raise ValueError(f"{source!r} is no type")
    return found


def _read_type(source: str) -> tuple[Type, str]:
    match = _TYPE.match(source)
    if match is None:
        raise ValueError(f"{source!r} is no type")
    name, rest = _SHORT.get(match[1], match[1]), source[match.end() :]
    params: list[Type] = []
    while match[2]:
        param, rest = _read_type(rest)
        params.append(param)
        rest = rest.lstrip()
        if rest[:1] == ")":
            rest = rest[1:]
            break
        rest = rest.removeprefix(",")
    return Type(name, tuple(params)), rest


def parse_overload(source: str) -> tuple[str, Overload]:
    """The name and the overload of one signature."""
    head, _, result = source.partition(" -> ")
    receiver, _, rest = head.partition("|")
    name, _, inside = (rest or receiver).partition("(")
    inside = inside.strip()[:-1]
    params: list[Type] = [parse_type(receiver)] if rest else []
    variadic = inside.endswith("...")
    inside = inside.removesuffix("...")
    while inside.strip():
        param, inside = _read_type(inside)
        params.append(param)
        inside = inside.lstrip().removeprefix(",")
    return name, Overload(bool(rest), tuple(params), parse_type(result), variadic)
