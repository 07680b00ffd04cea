"""What is wrong with an expression, said where it is wrong.

The parser and the checker collect `Problem`s; `CelError` carries all of them to
whoever loads a resource (`ofevents validate`, admission, a worker's start).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from ofevents.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake or warning: `line` and `column` count code points from 1."""

    line: int
    column: int
    message: str
    caret: str

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.message}\n{self.caret}"


class CelError(ConfigError):
    """An expression is wrong; found when it is loaded, never while it runs.

    `problems` has at least one entry, in the order of the source; `str()` shows all.
    """

    reason = "InvalidExpression"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda each: (each.line, each.column)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def problem_at(text: str, offset: int, message: str) -> Problem:
    """The problem at that offset (code points) of the expression's text."""
    offset = min(max(offset, 0), len(text))
    before = text[:offset]
    line = before.count("\n") + 1
    start = before.rfind("\n") + 1
    end = text.find("\n", offset)
    source = text[start : end if end >= 0 else len(text)].rstrip("\r")
    column = offset - start
    if len(source) > 160:
        # A long line is shown around the place that matters.
        cut = max(0, column - 80)
        source, shown = source[cut : cut + 160], column - cut
    else:
        shown = column
    # A tab keeps its width under the same tab, so that the caret stays below its character.
    pad = "".join("\t" if char == "\t" else " " for char in source[:shown])
    return Problem(line, column + 1, message, f"{source}\n{pad}^")


_MEANT = {
    "len": "size", "length": "size", "count": "size", "lower": "lowerAscii", "upper": "upperAscii",
    "toLower": "lowerAscii", "toUpper": "upperAscii", "strip": "trim", "includes": "contains",
    "match": "matches", "regex": "matches", "any": "exists", "some": "exists", "every": "all",
    "str": "string", "float": "double", "math.max": "math.greatest", "math.min": "math.least",
    "max": "math.greatest", "min": "math.least",
}  # fmt: skip
"""What other languages call our functions."""


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.7) -> str | None:
    """The known name that was most likely meant, None when nothing is near."""
    names = sorted(set(known))
    if _MEANT.get(name) in names:
        return _MEANT[name]
    lowered = {each.lower(): each for each in reversed(names)}
    if name.lower() in lowered:
        return lowered[name.lower()]
    found = get_close_matches(name.lower(), list(lowered), n=1, cutoff=cutoff)
    return lowered[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`, did you mean type?` or the empty string."""
    found = nearest(name, known)
    return f", did you mean {found}?" if found else ""
