"""One message on a Dapr bus: an envelope whose id Dapr may deduplicate by.

Dapr re-encodes CloudEvents (numbers become doubles, keys are sorted, its own
attributes are added), and some components drop a message whose top-level `id` they
have seen, whatever its source. So a message crosses as `rawPayload`, bytes that Dapr
does not touch, and these bytes are a CloudEvent of our own:

    {"specversion":"1.0","type":"ofevents.message","source":"ofevents",
     "id":"<digest of promise 3>","datacontenttype":"application/json",
     "data":{"at":"<nanoseconds>","headers":{...},"message":<event or delivery>}}

with the message exactly as `codec.encode` wrote it at the end. `at` is when it was
published, for `stored` and `position`; the headers are the hop's. Any Dapr
application can subscribe to such a topic and finds the event in `data.message`.

The front has a fixed width, so that reading id and time costs two slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from ofevents.bus import codec
from ofevents.ports import Message

CONTENT_TYPE: Final = "application/cloudevents+json"
ROOM: Final = 12 * 1024
"""Bytes that an envelope may add to the message: its frame and the hop's headers."""

_ID: Final = b'{"specversion":"1.0","type":"ofevents.message","source":"ofevents","id":"'
_AT: Final = b'","datacontenttype":"application/json","data":{"at":"'
_HEADERS: Final = b'","headers":'
_MESSAGE: Final = b'},"message":'
"""A value in `headers` is text, so nothing inside them reads like this."""
_ID_AT: Final = len(_ID)
_ID_END: Final = _ID_AT + 32
_AT_AT: Final = _ID_END + len(_AT)
_AT_END: Final = _AT_AT + 19
_HEADERS_AT: Final = _AT_END + len(_HEADERS)


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a message without reading it: digest, and nanoseconds."""

    id: str
    at: int


def encode(topic: str, message: Message, at: int) -> tuple[bytes, int]:
    """The bytes to publish, and how many of them are the message itself.

    `at` is nanoseconds since the epoch (19 digits).

    Raises:
        BadEvent: as `codec.encode`.
    """
    headers, body = codec.encode(message)
    id = codec.message_id(topic, message)
    front = b"".join((_ID, id.encode(), _AT, b"%019d" % at, _HEADERS, orjson.dumps(headers)))
    return b"".join((front, _MESSAGE[1:], body, b"}}")), len(body)


def head(raw: bytes) -> Head | None:
    """Of an envelope; None for a stranger's bytes."""
    if not raw.startswith(_ID) or raw[_ID_END:_AT_AT] != _AT:
        return None
    try:
        return Head(raw[_ID_AT:_ID_END].decode(), int(raw[_AT_AT:_AT_END]))
    except ValueError:
        return None


def split(raw: bytes) -> tuple[dict[str, str], bytes] | None:
    """Headers and body as `codec.encode` gave them; None for a stranger's bytes."""
    end = raw.find(_MESSAGE, _HEADERS_AT)
    if end < 0 or raw[_AT_END:_HEADERS_AT] != _HEADERS:
        return None
    try:
        headers: Any = orjson.loads(raw[_HEADERS_AT : end + 1])
    except orjson.JSONDecodeError:
        return None
    return (headers, raw[end + len(_MESSAGE) : -2]) if isinstance(headers, dict) else None
