"""What a stream's entry, or a channel's message, becomes as Events; called for each.

Redis has no binding of CloudEvents. The one here is HTTP's, with an entry's fields in
place of headers, and its field `data` in place of the body; the `redis` sink writes it:

- **`data`, alone or beside `content-type`, `metadata` (Dapr's) and `ce-...`:** the data is
  what `data` holds, its bytes unchanged. This is what Dapr writes, and most people.
- **A CloudEvent stays what it is** (promise 3): structured (JSON in `data` that is a
  whole one, which is Dapr's form; or `content-type: application/cloudevents+json`), or
  binary (fields `ce-id`, `ce-source`, ..., percent-encoded as in HTTP). A batch
  (`application/cloudevents-batch+json`) becomes all its events.
- **Any other entry** is a JSON object of its fields. Redis knows texts only, so each
  value is a text: `int(event.data.amount)` in CEL. A value that is no UTF-8 is there in
  base64 under the name `<field>_base64`.
- **What claims to be a CloudEvent and is none** becomes a `BrokenEvent` of type
  `ofevents.redis.malformed`, which the EventSource dead-letters.

The type is `ofevents.redis`, the subject the stream's or channel's name; Dapr's
`metadata` is the extension `redisfieldmetadata`. An entry has the id `stream/entry id`,
the same whenever it comes again, and the time that its id was made from. A message of a
channel has no identity: a random id.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from ofevents.errors import BadEvent
from ofevents.event import Event, Scalar, format_time, from_http
from ofevents.event.record import CONTROL, broken, embedded, extension, plain

TYPE: Final = "ofevents.redis"
MALFORMED: Final = "ofevents.redis.malformed"
_DATA: Final = b"data"
_BESIDE: Final = (b"content-type", b"metadata")
_LAST_TIME: Final = 253_402_300_799_999
"""The last millisecond that a timestamp can name: ids may be any number."""

Fields = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry in hand; `id` is Redis', `size` counts its fields' bytes."""

    id: str
    fields: Fields

    @property
    def size(self) -> int:
        return sum(len(name) + len(value) for name, value in self.fields.items())

    def events(self, source: str, stream: str) -> list[Event]:
        """What becomes of it; the same ids each time it comes."""
        about: dict[str, Scalar] = {
            "specversion": "1.0",
            "id": f"{stream}/{self.id}",
            "source": source,
            "type": TYPE,
            "subject": stream,
        }
        milliseconds = int(self.id.partition("-")[0])
        if milliseconds <= _LAST_TIME:
            about["time"] = format_time(milliseconds / 1000)
        headers = _headers(self.fields)
        if headers is None:
            return [plain(about, _object(self.fields), "application/json")]
        return _events(about, headers, self.fields[_DATA])


def message(data: bytes, source: str, channel: str, id: str, time: float) -> list[Event]:
    """The events of a channel's message, one but for a batch."""
    about: dict[str, Scalar] = {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": TYPE,
        "subject": channel,
        "time": format_time(time),
    }
    return _events(about, (), data)


def _headers(fields: Fields) -> list[tuple[bytes, bytes]] | None:
    """The fields beside `data`; None where the fields themselves are the data."""
    if _DATA not in fields:
        return None
    headers = [(name, value) for name, value in fields.items() if name != _DATA]
    if all(name.lower() in _BESIDE or name[:3].lower() == b"ce-" for name, _ in headers):
        return headers
    return None


def _events(
    about: dict[str, Scalar], headers: Sequence[tuple[bytes, bytes]], data: bytes
) -> list[Event]:
    try:
        found = from_http(headers, data) if headers else None
    except BadEvent as error:
        return [broken({**about, "type": MALFORMED}, data, error)]
    if found is not None:
        return found
    whole = embedded(data)
    if whole is not None:
        return [whole]
    content_type: str | None = None
    for raw, value in headers:
        name, text = raw.decode(errors="replace").lower(), value.decode(errors="replace")
        if name == "content-type":
            content_type = text
        elif extended := extension("redisfield", name):
            about[extended] = CONTROL.sub(" ", text)
    return [plain(about, data, content_type)]


def _object(fields: Fields) -> bytes:
    found: dict[str, str] = {}
    for raw, value in fields.items():
        name = raw.decode(errors="backslashreplace")
        try:
            found[name] = value.decode()
        except UnicodeDecodeError:
            found[f"{name}_base64"] = base64.b64encode(value).decode()
    return orjson.dumps(found)
