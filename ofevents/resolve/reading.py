"""YAML files to plain values, with the place of every key and item.

Called by `documents.py`. PyYAML's composer gives nodes with marks; values are
built from the nodes here, so that one walk yields value and place, finds keys
that stand twice, and stops at a bomb of aliases. Values are what Kubernetes would
read: dates stay text, and a key must be text.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ofevents.resolve.problems import Path, Position, Problem

MAX_NODES: Final = 200_000
MAX_DEPTH: Final = 100
_MERGE: Final = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """YAML without dates and base-60 numbers, which Kubernetes does not read either."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in pairs if not tag.endswith((":timestamp", ":int"))]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^[-+]?(0|[1-9][0-9_]*|0o?[0-7]+|0x[0-9a-fA-F]+)$"),
    list("-+0123456789"),
)


@dataclass(slots=True)
class RawDocument:
    """One document of a file: its value and the place of each path in it."""

    file: str
    value: Any
    positions: dict[Path, Position]
    problems: list[Problem] = field(default_factory=list)


def read(text: str, file: str) -> tuple[list[RawDocument], list[Problem]]:
    """All documents of a text; empty ones are left out. Never raises for bad text."""
    documents: list[RawDocument] = []
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:
        return [], [_syntax(error, file)]
    try:
        while loader.check_node():
            if (node := loader.get_node()) is None:
                break
            document = RawDocument(file, None, {})
            document.value = _Builder(loader, document).build(node, (), 0)
            if document.value is not None:
                documents.append(document)
    except yaml.YAMLError as error:
        # What stands before the mistake is still checked: all errors at once.
        return documents, [_syntax(error, file)]
    except RecursionError:
        problem = Problem("error", "this file is nested too deeply to be read", file, 1, 1)
        return documents, [problem]
    finally:
        loader.dispose()
    return documents, []


def _syntax(error: yaml.YAMLError, file: str) -> Problem:
    # The line itself is not shown: it may be a Secret's.
    mark = getattr(error, "problem_mark", None)
    begun = getattr(error, "context_mark", None)
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    message = f"not YAML: {what}"
    if context := getattr(error, "context", None):
        message += f", {context}"
        if begun and mark and begun.line != mark.line:
            message += f" that begins in line {begun.line + 1}"
    place = mark or begun
    line, column = (place.line + 1, place.column + 1) if place else (1, 1)
    return Problem("error", message, file, line, column)


class _Builder:
    """Builds the value of one document from its nodes."""

    def __init__(self, loader: _Loader, document: RawDocument) -> None:
        self._loader = loader
        self._document = document
        self._count = 0

    def build(self, node: Node, path: Path, depth: int) -> Any:
        self._count += 1
        if self._count > MAX_NODES or depth > MAX_DEPTH:
            raise ConstructorError(
                None, None, "more values than a resource can have (aliases?)", node.start_mark
            )
        if path not in self._document.positions:
            self._document.positions[path] = _position(node, node)
        if isinstance(node, MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, SequenceNode):
            return [
                self.build(item, (*path, index), depth + 1) for index, item in enumerate(node.value)
            ]
        return self._scalar(node)

    def _scalar(self, node: Node) -> Any:
        value = self._loader.construct_object(node)
        if value is None or isinstance(value, (str, bool, int, float)):
            return value
        raise ConstructorError(None, None, f"the tag {node.tag} is not read", node.start_mark)

    def _mapping(self, node: MappingNode, path: Path, depth: int) -> dict[str, Any]:
        value: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                for source in self._merges(value_node):
                    for key, each in self.build(source, path, depth + 1).items():
                        merged.setdefault(key, each)
                continue
            key = self._key(key_node)
            if key in value:
                self._report(key_node, path, f"the key {key} stands twice in this mapping")
            inner = (*path, key)
            self._document.positions[inner] = _position(key_node, value_node)
            value[key] = self.build(value_node, inner, depth + 1)
        return {**merged, **value}

    def _key(self, node: Node) -> str:
        key: Hashable = self._scalar(node) if isinstance(node, ScalarNode) else None
        if isinstance(key, str):
            return key
        if isinstance(node, ScalarNode):
            # `on:` and `1:` are no text in YAML; the word is kept so that all else is checked.
            self._report(node, (), f"the key {node.value} is not text; put it in quotes")
            return str(node.value)
        raise ConstructorError(None, None, "a key must be text", node.start_mark)

    def _merges(self, node: Node) -> Iterator[Node]:
        for each in node.value if isinstance(node, SequenceNode) else [node]:
            if not isinstance(each, MappingNode):
                raise ConstructorError(None, None, "<< needs a mapping", each.start_mark)
            yield each

    def _report(self, node: Node, path: Path, message: str) -> None:
        mark = node.start_mark
        self._document.problems.append(
            Problem("error", message, self._document.file, mark.line + 1, mark.column + 1)
        )


def _position(key: Node, value: Node) -> Position:
    """The place of a key, and of its text where columns can be counted in it."""
    mark, start, end = key.start_mark, value.start_mark, value.end_mark
    text: tuple[int, int] | None = None
    if isinstance(value, ScalarNode) and start.line == end.line:
        quotes = 1 if value.style else 0
        if end.column - start.column == len(value.value) + 2 * quotes:
            text = (start.line + 1, start.column + 1 + quotes)
    elif isinstance(value, ScalarNode) and value.style == "|":
        text = _block(value)
    return Position(mark.line + 1, mark.column + 1, text)


def _block(node: ScalarNode) -> tuple[int, int] | None:
    """Where the first line of a `|` text begins: the line below, after its indentation."""
    lines = (node.start_mark.buffer or "")[node.start_mark.pointer :].split("\n", 2)
    if len(lines) < 2:
        return None
    first = node.value.split("\n", 1)[0]
    at = lines[1].find(first) if first else -1
    return None if at < 0 else (node.start_mark.line + 2, at + 1)
