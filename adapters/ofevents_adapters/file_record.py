"""A line, or a whole file, as an Event; called for each by `file`.

- **type** `ofevents.file`, **subject** and **partitionkey** the file's path: events of one
  file stay in order. **id** is the file's identity and the line's offset,
  `device-inode@first seen/offset`, or for a whole file `device-inode@last change`.
- **data** by `format`: `text` is UTF-8; `json` one JSON value, where one that is a whole
  CloudEvent stays what it is (promise 3); `binary` bytes as they are.
- **What is not what the format says**, or too long to be held, becomes a `BrokenEvent` of
  type `ofevents.file.malformed`, which the EventSource dead-letters; of what is too long
  it has the first bytes, and the error says where the rest is.

The end of a line is no part of it; empty lines are no events. A line has no time: nothing
says when it was written. A whole file has that of its last change.
"""

from __future__ import annotations

from typing import Final, Literal

import orjson

from ofevents.errors import BadEvent
from ofevents.event import Event, Scalar, format_time
from ofevents.event.record import broken, embedded
from ofevents_adapters.file_positions import Identity, Position
from ofevents_adapters.file_reader import KEPT, LONGEST, Found, Line

TYPE: Final = "ofevents.file"
MALFORMED: Final = "ofevents.file.malformed"
LARGEST: Final = 16 * 1024 * 1024
"""Bytes of a whole file at most."""
_TYPES: Final = {
    "text": "text/plain; charset=utf-8",
    "json": "application/json",
    "binary": "application/octet-stream",
}

Format = Literal["json", "text", "binary"]


def line_event(line: Line, file: Identity, position: Position, source: str, form: Format) -> Event:
    """The event of a line; never fails."""
    about = _about(f"{file}@{position.since}/{line.offset}", source, position.path)
    if line.cut:
        error = BadEvent(
            f"the line at byte {line.offset} of {position.path} has more than {LONGEST} bytes; "
            f"the first {len(line.data)} are kept here"
        )
        return broken({**about, "type": MALFORMED}, line.data, error)
    return _event(about, line.data, form)


def file_event(data: bytes, found: Found, source: str, form: Format) -> Event:
    """The event of a whole file; never fails."""
    about = _about(f"{found.file}@{found.modified}", source, found.path)
    about["time"] = format_time(found.modified / 1e9)
    if found.size > LARGEST:
        error = BadEvent(
            f"{found.path} has {found.size} bytes, more than {LARGEST}; the first {KEPT} are "
            "kept here"
        )
        return broken({**about, "type": MALFORMED}, data[:KEPT], error)
    return _event(about, data, form)


def _about(id: str, source: str, path: str) -> dict[str, Scalar]:
    # A name on disk is bytes: what is no UTF-8 of it is shown as escapes, and so are
    # characters that no attribute may hold.
    shown = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": TYPE,
        "subject": shown,
        "partitionkey": shown,
    }


def _event(about: dict[str, Scalar], data: bytes, form: Format) -> Event:
    try:
        if form == "text":
            data.decode()
        elif form == "json":
            whole = embedded(data)
            if whole is not None:
                return whole
            decoded = orjson.loads(data)
            about["datacontenttype"] = _TYPES[form]
            return Event(about, data, decoded)
    except UnicodeDecodeError as error:
        why = BadEvent(
            f"{about['subject']} has the format text, and what is at {about['id']} is not UTF-8: "
            f"{error.reason} at byte {error.start}; format: binary takes any bytes"
        )
        return broken({**about, "type": MALFORMED}, data, why)
    except orjson.JSONDecodeError as error:
        why = BadEvent(
            f"{about['subject']} has the format json, and what is at {about['id']} is not JSON: "
            f"{error}"
        )
        return broken({**about, "type": MALFORMED}, data, why)
    about["datacontenttype"] = _TYPES[form]
    return Event(about, data)
