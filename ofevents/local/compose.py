"""Makes the CloudEvents that `ofevents send` sends: from options, or from a file.

Everything is read and checked before the first event is sent, so that a mistake
in line 90 does not leave 89 sent ones behind.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from ofevents.errors import BadEvent, ConfigError
from ofevents.event import Event


def read(path: Path) -> bytes:
    """The bytes of a file, `-` is stdin.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error


def pairs(texts: Sequence[str], separator: str, option: str) -> dict[str, str]:
    """`name=value` options as a mapping.

    Raises:
        ConfigError: the separator is missing.
    """
    found = {}
    for text in texts:
        name, between, value = text.partition(separator)
        if not between or not name.strip():
            raise ConfigError(f"{option} {text!r}: expected name{separator}value")
        found[name.strip()] = value.strip() if separator == ":" else value
    return found


def one(
    data: bytes | None,
    content_type: str | None,
    *,
    id: str | None,
    type: str,
    source: str,
    subject: str | None,
    extensions: Mapping[str, str],
) -> Event:
    """The event that the options describe.

    Raises:
        ConfigError: an attribute breaks the CloudEvents rules.
    """
    if data is not None and content_type is None:
        content_type = "application/json" if _parses(data) else "text/plain"
    try:
        event = Event.create(
            id=id or str(uuid.uuid4()),
            type=type,
            source=source,
            subject=subject,
            time=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            data=data,
            datacontenttype=content_type,
        )
        return Event.from_dict({**event.attributes, **extensions}).replace(data=data)
    except BadEvent as error:
        raise ConfigError(str(error)) from error


def _parses(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


def from_file(path: Path) -> list[Event]:
    """The CloudEvents in a file: JSON lines, or one JSON array.

    Raises:
        ConfigError: naming each line or element that is no CloudEvent.
    """
    text = read(path)
    if text.lstrip().startswith(b"["):
        try:
            elements: list[Any] = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"not a JSON array: {error}", where=str(path)) from error
        numbered = [(f"element {index}", one) for index, one in enumerate(elements)]
        make: Any = Event.from_dict
    else:
        lines = enumerate(text.splitlines(), 1)
        numbered = [(f"line {number}", line) for number, line in lines if line.strip()]
        make = Event.from_json
    events, problems = [], []
    for place, element in numbered:
        try:
            events.append(make(element))
        except BadEvent as error:
            problems.append(f"{path}: {place}: {error}")
    if problems:
        raise ConfigError("\n".join(problems[:20]))
    if not events:
        raise ConfigError("there is no event in it", where=str(path))
    return events
