"""A text that stands for a key of a Secret, until the worker reads the Secret itself.

On a cluster no credential that a resource refers to gets into its resolved spec: the
look-up answers with a marker, the renderer mounts the key into the Pod, and the worker puts
the value in (`local/single.py`). A marker stands between NUL characters, which no text has
that people write: nothing that a resource says is mistaken for one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_MARKER: Final = re.compile("\x00secret:([^/\x00]+)/([^/\x00]+)\x00")


def marker(name: str, key: str) -> str:
    """The text that stands for that key of that Secret of the worker's own namespace."""
    return f"\x00secret:{name}/{key}\x00"


def only(value: Any) -> tuple[str, str] | None:
    """Name and key where the value is a marker and nothing else."""
    found = _MARKER.fullmatch(value) if isinstance(value, str) else None
    return (found[1], found[2]) if found else None


def markers(value: Any) -> set[tuple[str, str]]:
    """(name, key) of each marker in a JSON value."""
    return {
        (found[1], found[2]) for text in _texts(value) for found in _MARKER.finditer(text)
    }  # fmt: skip


def replace(value: Any, read: Callable[[str, str], str]) -> Any:
    """A JSON value with each marker replaced by what `read(name, key)` returns."""
    if isinstance(value, str):
        return _MARKER.sub(lambda found: read(found[1], found[2]), value)
    if isinstance(value, Mapping):
        return {key: replace(each, read) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [replace(each, read) for each in value]
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)
