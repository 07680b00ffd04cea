"""What is wrong with a user's documents, said where it is wrong.

Reading and resolving collect `Problem`s, all of them; `ofevents validate` prints
them, `ofevents run` refuses to start with the errors, admission answers them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

Path = tuple[str | int, ...]
"""Where in a document: keys and indexes from its root."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file, both from 1; `text` is where a text's first character stands,

    None where that cannot be told by counting (escapes, folded lines).
    """

    line: int
    column: int
    text: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One error or warning.

    Attributes:
        severity: an error refuses the document, a warning does not.
        message: a sentence.
        file, line, column: the place, from 1; "" and 0 where it has none.
        resource: `Kind namespace/name`, "" where the document has no name.
        path: inside the resource, such as `spec.subscribers[0].condition`.
        expected: what would be right, as a noun; "" where the message says it.
        nearest: the known name that was probably meant, "" for none.
        caret: for an expression: its line and a caret below the place, two lines.
        inner: for an expression: line and column inside it, from 1.
        blocks: a warning that keeps its resource from running, such as a Secret
            that is not in the set.
    """

    severity: Literal["error", "warning"]
    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    resource: str = ""
    path: str = ""
    expected: str = ""
    nearest: str = ""
    caret: str = ""
    inner: tuple[int, int] | None = None
    blocks: bool = False

    @property
    def where(self) -> str:
        """`shop.yaml:12:5`, as editors and terminals link it."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part)

    @property
    def sentence(self) -> str:
        """Message, what was expected, and the nearest name, in one line."""
        parts = [self.message]
        if self.nearest:
            parts.append(f"did you mean {self.nearest}?")
        elif self.expected:
            parts.append(f"expected {self.expected}")
        return "; ".join(parts)

    def __str__(self) -> str:
        head = ": ".join(part for part in (self.where, self.resource, self.path) if part)
        text = f"{head}: {self.sentence}" if head else self.sentence
        return f"{text}\n{self.caret}" if self.caret else text

    def to_json(self) -> dict[str, Any]:
        """For programs; empty fields are left out."""
        fields = {
            "severity": self.severity,
            "message": self.message,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "resource": self.resource,
            "path": self.path,
            "expected": self.expected,
            "nearest": self.nearest,
            "caret": self.caret,
            "blocks": self.blocks,
        }
        if self.inner:
            fields["expressionLine"], fields["expressionColumn"] = self.inner
        return {key: value for key, value in fields.items() if value or key == "severity"}


def show_path(path: Sequence[str | int]) -> str:
    """`spec.subscribers[0].condition`; keys that are no plain words in quotes."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        elif part.replace("-", "").replace("_", "").isalnum():
            shown += f".{part}" if shown else part
        else:
            shown += f'["{part}"]'
    return shown


def locate(positions: Mapping[Path, Position], path: Path) -> Position:
    """The place of a path, or of the nearest thing around it that is in the file."""
    for length in range(len(path), -1, -1):
        if found := positions.get(path[:length]):
            return found
    return Position(0, 0)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that was most likely meant, "" when none is near."""
    lowered = {each.lower(): each for each in sorted(set(known), reverse=True)}
    found = get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[found[0]] if found else ""
