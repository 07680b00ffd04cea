"""Finds the bytes of a value inside JSON text, so that they can be kept as they are.

Called by the Event's readers: parsing `data` and writing it again would change
what the sender wrote (`1.0`, integers over 64 bits, white space), and promise 3
keeps an event's bytes. The text has been parsed already, so it is known to be
valid: the patterns here only have to tell values apart, not to judge them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any, Final

import orjson

from ofevents.errors import BadEvent
from ofevents.event.rules import is_json

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_KEY: Final = re.compile(rb"[\s,{]*+(" + _STRING + rb")\s*+:\s*+")
_SCALAR: Final = re.compile(_STRING + rb'|[^\s,\[\]{}"]++')
_NESTING: Final = re.compile(_STRING + rb"|[\[{]|[\]}]")
_BETWEEN: Final = re.compile(rb"[\s,]*+")


def last_member(text: bytes, key: bytes) -> bytes | None:
    """The value of `key` where it is the last member and its name stands there once.

    The quick way, which looks at no byte of the value; None where that is not so.
    """
    name = b'"%b"' % key
    if text.count(name) != 1:
        return None
    at = _BETWEEN.match(text, text.find(b"{") + 1).end()  # type: ignore[union-attr]
    while (found := _KEY.match(text, at)) is not None:
        if found.group(1) == name:
            return text[found.end() : text.rindex(b"}")].rstrip()
        at = _end(text, found.end())
    return None


def member(text: bytes, key: str) -> bytes | None:
    """The value of a member of the object in `text`; of several, the last one."""
    value = None
    at = text.find(b"{") + 1
    while (found := _KEY.match(text, at)) is not None:
        at = _end(text, found.end())
        if orjson.loads(found.group(1)) == key:
            value = text[found.end() : at]
    return value


def elements(text: bytes) -> Iterator[bytes]:
    """The values of the array in `text`, in order."""
    at = text.find(b"[") + 1
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
        if text[at : at + 1] == b"]":
            return
        end = _end(text, at)
        yield text[at:end]
        at = end


def _end(text: bytes, start: int) -> int:
    """Where the value that begins at `start` ends."""
    if text[start] not in b"[{":
        scalar = _SCALAR.match(text, start)
        assert scalar is not None
        return scalar.end()
    depth = 0
    for token in _NESTING.finditer(text, start):
        opening = token.group()
        if opening in (b"[", b"{"):
            depth += 1
        elif opening in (b"]", b"}"):
            depth -= 1
            if depth == 0:
                return token.end()
    raise AssertionError("the text was parsed before")


def data_of(parsed: dict[str, Any], content_type: Any, text: bytes | None) -> bytes | None:
    """The data of one event in the JSON format, its bytes as they were written.

    `parsed` is what `text` holds; without a text, JSON data is written anew.

    Raises:
        BadEvent: both forms of data, or base64 that is none.
    """
    if parsed.get("data_base64") is not None:
        if parsed.get("data") is not None:
            raise BadEvent("not a CloudEvent: it has both data and data_base64")
        try:
            return base64.b64decode(parsed["data_base64"], validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise BadEvent(f"not a CloudEvent: data_base64 is no base64 ({error})") from error
    if "data" not in parsed:
        return None
    value = parsed["data"]
    if not is_json(content_type):
        if value is None:
            return None
        if isinstance(value, str):
            return value.encode()
    written = None
    if text is not None:
        if next(reversed(parsed)) == "data":
            written = last_member(text, b"data")
        if written is None:
            written = member(text, "data")
    return orjson.dumps(value) if written is None else written
