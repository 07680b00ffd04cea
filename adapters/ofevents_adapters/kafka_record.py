"""A Kafka record as an Event; called by the lanes of `kafka`, once per record.

- **A CloudEvent stays what it is** (promise 3): structured (content-type
  `application/cloudevents+json`, or a JSON body that is one) or binary (`ce_`
  headers). The record's key becomes `partitionkey` where the event has none.
- **Any other record** becomes type `ofevents.kafka` with the value's bytes unchanged:
  id `topic/partition/offset@timestamp`, time the record's. A tombstone is an event
  without data. Headers become extensions `kafkaheader<name>` (lower-case letters and
  digits). datacontenttype and the rest are the rules of `ofevents.event.record`.
- **A record that claims to be a CloudEvent and is not** must neither be lost nor hold
  up its partition: a `BrokenEvent` of type `ofevents.kafka.malformed` with the raw
  bytes as `application/octet-stream`, which the EventSource dead-letters with what
  is wrong.

Why the timestamp is in the id: a topic that is deleted and made again counts from 0,
and the bus would take its first records for duplicates of the old ones. Why the source
names the EventSource and not the brokers: two clusters may have a topic of the same
name, and two ids of one source must never mean two events.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final, Protocol

from ofevents.errors import BadEvent
from ofevents.event import BrokenEvent, Event, Scalar, check_attributes, format_time
from ofevents.event.record import CONTROL, broken, embedded, extension, plain

TYPE: Final = "ofevents.kafka"
MALFORMED: Final = "ofevents.kafka.malformed"

_STRUCTURED: Final = "application/cloudevents+json"


class Record(Protocol):
    """What we read of confluent_kafka's Message."""

    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Any: ...
    def timestamp(self) -> tuple[int, int]: ...


class Decoded:
    """A record whose value was decoded into JSON by the schema that it names."""

    def __init__(self, record: Record, value: bytes) -> None:
        self._value = value
        self.topic, self.partition, self.offset = record.topic, record.partition, record.offset
        self.key, self.timestamp = record.key, record.timestamp
        self._record = record

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Any:
        """The record's, but for its media type: that was of the encoded value."""
        kept = [
            (name, value)
            for name, value in self._record.headers() or ()
            if name.lower() != "content-type"
        ]
        return [*kept, ("content-type", b"application/json")]


def is_structured(record: Record) -> bool:
    """Whether it says of itself that its value is a whole CloudEvent in JSON."""
    content_type = _text(_headers(record), "content-type")
    return content_type is not None and content_type.lower().startswith(_STRUCTURED)


def event_of(record: Record, source: str) -> Event:
    """The event of a record; never fails (see above for what becomes of which record).

    `source` is the CloudEvents source of records that are no CloudEvents.
    """
    headers = _headers(record)
    value = record.value()
    try:
        event = _cloud_event(headers, value)
    except BadEvent as error:
        return _malformed(record, source, value, headers, error)
    if event is None:
        return _plain(record, source, value, headers)
    key = partition_key(record.key())
    return event.replace(partitionkey=key) if key and event.partitionkey is None else event


def partition_key(key: bytes | None) -> str | None:
    """A record's key as text: UTF-8 where it is printable, else base64; None for none."""
    if not key:
        return None
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return base64.b64encode(key).decode()
    return text if not CONTROL.search(text) else base64.b64encode(key).decode()


# -- CloudEvents --------------------------------------------------------------


def _cloud_event(headers: Mapping[str, bytes], value: bytes | None) -> Event | None:
    """The CloudEvent that the record is, None if it claims nothing of the kind."""
    if headers:
        content_type = _text(headers, "content-type")
        if content_type is not None and content_type.lower().startswith(_STRUCTURED):
            return Event.from_json(value or b"")
        if "ce_specversion" in headers:
            return _binary(headers, value, content_type)
    return embedded(value)


def _binary(headers: Mapping[str, bytes], value: bytes | None, content_type: str | None) -> Event:
    attributes: dict[str, Scalar] = {}
    for name in headers:
        if name.startswith("ce_"):
            text = _text(headers, name)
            if text is None:
                raise BadEvent(f"not a CloudEvent: header {name[:60]} is not UTF-8")
            attributes[name[3:]] = text
    if content_type:
        attributes["datacontenttype"] = content_type
    check_attributes(attributes)
    return Event(attributes, value)


def _text(headers: Mapping[str, bytes], name: str) -> str | None:
    """A header's value; None if it is absent or not UTF-8."""
    try:
        return headers[name].decode() if name in headers else None
    except UnicodeDecodeError:
        return None


# -- other records ------------------------------------------------------------


def _plain(record: Record, source: str, value: bytes | None, headers: Mapping[str, bytes]) -> Event:
    attributes = _attributes(record, source, TYPE, headers)
    if value is None:
        return Event(attributes, None)
    content_type = _text(headers, "content-type") if headers else None
    return plain(attributes, value, content_type)


def undecodable(record: Record, source: str, error: BadEvent) -> BrokenEvent:
    """What is emitted for a record whose value the schema registry gives no sense to."""
    return _malformed(record, source, record.value(), _headers(record), error)


def _malformed(
    record: Record, source: str, value: bytes | None, headers: Mapping[str, bytes], error: BadEvent
) -> BrokenEvent:
    return broken(_attributes(record, source, MALFORMED, headers), value or b"", error)


def _attributes(
    record: Record, source: str, kind: str, headers: Mapping[str, bytes]
) -> dict[str, Scalar]:
    stamped, milliseconds = record.timestamp()
    id = f"{record.topic()}/{record.partition()}/{record.offset()}"
    attributes: dict[str, Scalar] = {
        "specversion": "1.0",
        "id": f"{id}@{milliseconds}" if stamped else id,
        "source": source,
        "type": kind,
    }
    time = _time(milliseconds) if stamped else None
    if time is not None:
        attributes["time"] = time
    key = partition_key(record.key())
    if key is not None:
        attributes["partitionkey"] = key
    for name, raw in headers.items():
        extended = extension("kafkaheader", name)
        if extended and name != "content-type":
            attributes[extended] = CONTROL.sub(" ", raw.decode("utf-8", "backslashreplace"))
    return attributes


def _time(milliseconds: int) -> str | None:
    try:
        return format_time(milliseconds / 1000)
    except (ValueError, OverflowError, OSError):
        return None  # a producer may stamp what it likes


def _headers(record: Record) -> dict[str, bytes]:
    """Headers by lower-case name, the last of equal ones; a null value is empty."""
    try:
        pairs = record.headers()
    except UnicodeDecodeError:
        return {}  # a name that is not UTF-8: the client cannot read any of them
    if not pairs:
        return {}
    return {name.lower(): value or b"" for name, value in pairs}
