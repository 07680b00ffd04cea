"""What a record of an outside system becomes: the rules that its adapters share.

Called once per record by the adapters of message systems (`kafka_record`,
`nats_record`), which read their own form of headers and say what the id is:

- JSON that is a whole CloudEvent stays what it is, whatever the headers say (`embedded`).
- Any other bytes are data unchanged (`plain`). datacontenttype is what the record
  says of itself; without it `application/json` if it parses, `text/plain` if it is
  UTF-8, else `application/octet-stream`.
- Headers become extensions (`extension`).
- What claims to be a CloudEvent and is none must neither be lost nor hold up the
  records behind it: `broken` keeps its bytes for the dead letters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import orjson

from ofevents.errors import BadEvent
from ofevents.event.rules import Scalar
from ofevents.event.value import BrokenEvent, Event

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Characters that no attribute may hold."""
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9]")
_LONGEST_NAME: Final = 64


def embedded(value: bytes | None) -> Event | None:
    """The CloudEvent that the bytes are in its JSON format; None for anything else."""
    if value is not None and value[:1] == b"{" and b'"specversion"' in value:
        try:
            return Event.from_json(value)
        except BadEvent:
            return None  # JSON that happens to have such a field
    return None


def plain(attributes: dict[str, Scalar], value: bytes, content_type: str | None) -> Event:
    """The event of bytes that are no CloudEvent; completes `attributes`."""
    if content_type and content_type.isascii() and content_type.isprintable():
        attributes["datacontenttype"] = content_type
        return Event(attributes, value)
    try:
        decoded = orjson.loads(value)
    except orjson.JSONDecodeError:
        attributes["datacontenttype"] = _not_json(value)
        return Event(attributes, value)
    attributes["datacontenttype"] = "application/json"
    return Event(attributes, value, decoded)


def _not_json(value: bytes) -> str:
    try:
        value.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain; charset=utf-8"


def broken(attributes: Mapping[str, Scalar], value: bytes, error: BadEvent) -> BrokenEvent:
    """What is emitted for a record that claims to be a CloudEvent and is none."""
    octets = {**attributes, "datacontenttype": "application/octet-stream"}
    return BrokenEvent(error, octets, value)


def extension(prefix: str, header: str) -> str | None:
    """The attribute for a header of that lower-case name; None where nothing is left of it."""
    name = _NOT_IN_NAMES.sub("", header)
    return f"{prefix}{name}"[:_LONGEST_NAME] if name else None
