"""What Dapr hands over as Events; called once per message by the callbacks and the stream.

- **A CloudEvent stays what it is** (promise 3), byte for byte: subscriptions are raw,
  so Dapr hands on what is stored at the broker, and puts no envelope of its own around
  it. Structured (content-type `application/cloudevents+json`, or a JSON body that is
  one, as Dapr's own publishers write it) or, over Kafka, binary (`ce_` headers).
- **Anything else** becomes type `ofevents.dapr` with its bytes unchanged and the topic
  or the component as `subject`. The metadata that Dapr tells of it become extensions
  `dapr<name>` (lower-case letters and digits).
- **What claims to be a CloudEvent and is none** becomes a `BrokenEvent` of type
  `ofevents.dapr.malformed`, which the EventSource dead-letters.

Kafka components tell topic, partition, offset and timestamp, which make the id, the
time and the partitionkey. The others tell no position: Dapr gives a raw message a new
id whenever it comes, and so do we.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ofevents.errors import BadEvent
from ofevents.event import Event, Scalar, check_attributes, format_time, from_http
from ofevents.event.record import CONTROL, broken, embedded, extension, plain

TYPE: Final = "ofevents.dapr"
MALFORMED: Final = "ofevents.dapr.malformed"
_POSITION: Final = ("__topic", "__partition", "__offset")
_HOP: Final = frozenset(
    {
        *("user-agent", "content-type", "content-length", "traceparent", "tracestate"),
        *("grpc-trace-bin", "grpc-accept-encoding", "baggage", "te", "pubsubname"),
    }
)
"""Metadata of the call, not of the message."""


@dataclass(frozen=True, slots=True)
class Message:
    """What came.

    Attributes:
        metadata: names in lower case.
        subject: the topic, or the name of the input binding.
    """

    data: bytes
    metadata: Mapping[str, str]
    subject: str


def lower(metadata: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in metadata.items()}


def events_of(message: Message, source: str, now: float) -> list[Event]:
    """The events of a message, one but for a batch; never fails.

    Args:
        source: the CloudEvents source of what is no CloudEvent.
        now: its time, in Unix seconds, where Dapr tells none.
    """
    try:
        found = _cloud_events(message)
    except BadEvent as error:
        attributes = _attributes(message, source, MALFORMED, now)
        return [broken(attributes, message.data, error)]
    if found is None:
        attributes = _attributes(message, source, TYPE, now)
        return [plain(attributes, message.data, message.metadata.get("content-type"))]
    key = _text(message.metadata.get("__key", ""))
    if key:
        return [
            each if each.partitionkey is not None else each.replace(partitionkey=key)
            for each in found
        ]
    return found


def _cloud_events(message: Message) -> list[Event] | None:
    content_type = message.metadata.get("content-type", "")
    if content_type.lower().startswith("application/cloudevents"):
        return from_http({"content-type": content_type}, message.data)
    if "ce_specversion" in message.metadata:
        return [_binary(message, content_type)]
    whole = embedded(message.data)
    return None if whole is None else [whole]


def _binary(message: Message, content_type: str) -> Event:
    attributes: dict[str, Scalar] = {
        name[3:]: value for name, value in message.metadata.items() if name.startswith("ce_")
    }
    if content_type:
        attributes["datacontenttype"] = content_type
    check_attributes(attributes)
    return Event(attributes, message.data)


def _attributes(message: Message, source: str, kind: str, now: float) -> dict[str, Scalar]:
    metadata = message.metadata
    stamp = metadata.get("__timestamp", "")
    stamped = stamp.isdecimal() and int(stamp) > 0
    attributes: dict[str, Scalar] = {
        "specversion": "1.0",
        "id": _id(metadata, stamp if stamped else ""),
        "source": source,
        "type": kind,
        "subject": metadata.get("__topic") or message.subject,
        "time": format_time(int(stamp) / 1000 if stamped else now),
    }
    if key := _text(metadata.get("__key", "")):
        attributes["partitionkey"] = key
    for name, value in metadata.items():
        if name in _HOP or name.startswith(("__", "dapr-", "grpc-", ":")):
            continue
        extended = extension("dapr", name)
        if extended and (text := _text(value)):
            attributes[extended] = text
    return attributes


def _id(metadata: Mapping[str, str], stamp: str) -> str:
    position = [metadata.get(name, "") for name in _POSITION]
    if not all(position):
        return str(uuid.uuid4())
    # As the kafka source has it: a topic that is made again counts from 0.
    return "/".join(position) + (f"@{stamp}" if stamp else "")


def _text(value: str) -> str:
    return CONTROL.sub(" ", value)
