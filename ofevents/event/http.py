"""The CloudEvents 1.0 HTTP binding: binary, structured and batch, both ways.

Called by the webhook source and the function framework (`from_http`), and by the
HTTP subscriber once per delivery (`to_http`), so it is on the hot path. Bytes
cross unchanged. What HTTP itself cannot say is lost in the binary mode:
integers and booleans arrive as strings (as the specification has it), an event
without data but with a datacontenttype that is not JSON arrives with empty data.
In the structured mode and in a batch it is the whitespace around JSON data alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal
from urllib.parse import quote, unquote_to_bytes

import orjson

from ofevents.errors import BadEvent
from ofevents.event.rules import RESERVED, Scalar, check_attributes, is_json
from ofevents.event.value import Event
from ofevents.event.verbatim import elements

Format = Literal["binary", "structured", "raw"]
Headers = Mapping[str, str] | Iterable[tuple[bytes, bytes]]
"""A mapping, or the pairs that a server has read off the wire (ASGI)."""

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"

_CLAIMS: Final = frozenset({"specversion", "id", "source", "type"})
_PLAIN: Final = re.compile(r"[!#$&-~]*")
_SAFE: Final = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"')
_ESCAPED: Final = re.compile(r"\\(.)")


# -- out --------------------------------------------------------------------


def to_http(event: Event, format: Format = "binary") -> tuple[dict[str, str], bytes]:
    """Headers (names in lower case) and body of one event.

    `raw` sends the data and its Content-Type alone, for programs that know nothing
    of CloudEvents.
    """
    if format == "structured":
        return {"content-type": STRUCTURED}, event.to_json()
    headers: dict[str, str] = {}
    attributes = event.attributes
    if event.data is not None or "datacontenttype" in attributes:
        # Without one the data is JSON, and the specification asks to say so here.
        headers["content-type"] = event.datacontenttype or "application/json"
    if format == "binary":
        for name, value in attributes.items():
            if value.__class__ is str:
                if _PLAIN.fullmatch(value) is None:
                    value = quote(value, _SAFE)
            else:
                value = str(value).lower()
            headers["ce-" + name] = value
        headers.pop("ce-datacontenttype", None)
    return headers, event.data or b""


def to_http_batch(events: Sequence[Event]) -> tuple[dict[str, str], bytes]:
    """Headers and body of several events in one request."""
    return {"content-type": BATCH}, b"[%b]" % b",".join(event.to_json() for event in events)


# -- in ---------------------------------------------------------------------


def from_http(headers: Headers, body: bytes) -> list[Event] | None:
    """The events of a request or an answer; None where it does not claim to hold any.

    It claims to by one of the two media types, or by a `ce-` header of a required
    attribute. A batch may be empty.

    Raises:
        BadEvent: it claims to, and is none; the message names the header or attribute.
    """
    content_type, found = _read(headers)
    media = (content_type or "").partition(";")[0].strip().lower()
    if media == STRUCTURED:
        return [Event.from_json(body)]
    if media == BATCH:
        return _batch(body)
    if media.startswith("application/cloudevents"):
        raise BadEvent(
            f"not a CloudEvent that we read: Content-Type is {media[:80]}, "
            f"expected {STRUCTURED} or {BATCH}"
        )
    if _CLAIMS.isdisjoint(found):
        return None
    return [_binary(content_type, found, body)]


def _read(headers: Headers) -> tuple[str | None, dict[str, str]]:
    """The Content-Type, and the `ce-` headers by attribute name, still encoded."""
    content_type: str | None = None
    found: dict[str, str] = {}
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    for raw_name, raw_value in pairs:
        name = (raw_name if isinstance(raw_name, str) else raw_name.decode("latin-1")).lower()
        if name == "content-type":
            if content_type is not None:
                raise BadEvent("header Content-Type is given twice; expected it once")
            content_type = _text(name, raw_value)
        elif name.startswith("ce-"):
            if name[3:] in found:
                raise BadEvent(f"not a CloudEvent: header {name[:80]} is given twice")
            found[name[3:]] = _text(name, raw_value)
    return content_type, found


def _text(name: str, value: str | bytes) -> str:
    if isinstance(value, str):
        return value.strip(" \t")
    try:
        return value.decode().strip(" \t")
    except UnicodeDecodeError as error:
        raise BadEvent(
            f"header {name[:80]} is not UTF-8: {error.reason} at byte {error.start}"
        ) from error


def _binary(content_type: str | None, found: dict[str, str], body: bytes) -> Event:
    attributes: dict[str, Scalar] = {name: _unescape(name, text) for name, text in found.items()}
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    for name in RESERVED & attributes.keys():
        raise BadEvent(f"not a CloudEvent: ce-{name} is no attribute; data is the body")
    check_attributes(attributes)
    if body or (content_type is not None and not is_json(content_type)):
        return Event(attributes, body)
    return Event(attributes, None)  # no bytes are no JSON value


def _unescape(name: str, text: str) -> str:
    if '"' in text:
        text = _QUOTED.sub(lambda found: _ESCAPED.sub(r"\1", found.group(1)), text)
    if "%" not in text:
        return text
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError as error:
        raise BadEvent(
            f"header ce-{name[:80]} is not UTF-8 after percent-decoding: {error.reason}"
        ) from error


def _batch(body: bytes) -> list[Event]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadEvent(f"not a batch of CloudEvents: the body is not JSON ({error})") from error
    if not isinstance(parsed, list):
        raise BadEvent(
            f"not a batch of CloudEvents: expected a JSON array, got {type(parsed).__name__}"
        )
    events = []
    for index, (one, text) in enumerate(zip(parsed, elements(body), strict=True)):
        try:
            events.append(Event.from_dict(one, text))
        except BadEvent as error:
            raise BadEvent(f"event {index} of the batch: {error}") from error
    return events
