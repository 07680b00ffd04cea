"""A RabbitMQ message as Events; called once per message by `rabbitmq_session`.

- **A CloudEvent stays what it is** (promise 3), as the AMQP binding of CloudEvents has
  it: structured (content type `application/cloudevents+json`, or a JSON body that is
  one), or binary (headers `cloudEvents:<attribute>` or `cloudEvents_<attribute>`). A
  batch (`application/cloudevents-batch+json`) becomes all its events.
- **Any other message** becomes type `ofevents.rabbitmq` with its bytes unchanged and
  the routing key as `subject`. Its message id is the event's id and its timestamp the
  event's time; the other properties become extensions `rabbitmq<name>`, headers
  `rabbitmqheader<name>` (lower-case letters and digits) where their value is a scalar;
  the rest are the rules of `ofevents.event.record`.
- **A message that claims to be a CloudEvent and is none** becomes a `BrokenEvent` of
  type `ofevents.rabbitmq.malformed`, which the EventSource dead-letters.

A message id is the publisher's to set; two messages with the same one are one event.
Without it a message has no identity, for RabbitMQ numbers deliveries only: the id is
random, and another one when the message is delivered again.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ofevents.errors import BadEvent
from ofevents.event import Event, Scalar, check_attributes, format_time, from_http, is_json
from ofevents.event.record import CONTROL, broken, embedded, extension, plain

TYPE: Final = "ofevents.rabbitmq"
MALFORMED: Final = "ofevents.rabbitmq.malformed"
_PREFIXES: Final = ("cloudEvents:", "cloudEvents_")
_REQUIRED: Final = frozenset({"specversion", "id", "source", "type"})
_PROPERTIES: Final = ("app_id", "correlation_id", "content_encoding", "message_type", "user_id")


@dataclass(frozen=True, slots=True)
class Record:
    """A message as it was delivered; `properties` are pamqp's `Basic.Properties`."""

    body: bytes
    properties: Any
    routing_key: str = ""
    exchange: str = ""
    redelivered: bool = False

    @property
    def content_type(self) -> str:
        return self.properties.content_type or ""

    @property
    def headers(self) -> dict[str, Any]:
        """Values of AMQP's types, tables and lists included."""
        return self.properties.headers or {}


def events_of(record: Record, source: str, id: str, time: float) -> list[Event]:
    """The events of a message, one but for a batch; never fails.

    Args:
        source: the CloudEvents attribute of a message that is no CloudEvent.
        id, time: those of one that has no message id, no timestamp; Unix seconds.
    """
    try:
        found = _claimed(record)
    except BadEvent as error:
        return [broken(_attributes(record, source, id, time, MALFORMED), record.body, error)]
    if found is not None:
        return found
    whole = embedded(record.body)
    if whole is not None:
        return [whole]
    attributes = _attributes(record, source, id, time, TYPE)
    return [plain(attributes, record.body, record.content_type or None)]


# -- CloudEvents --------------------------------------------------------------------


def _claimed(record: Record) -> list[Event] | None:
    """The events of a message that says it holds some; None for one that does not."""
    if record.content_type:
        found = from_http({"content-type": record.content_type}, record.body)
        if found is not None:
            return found
    attributes: dict[str, Scalar] = {}
    for header, value in record.headers.items():
        if header.startswith(_PREFIXES):
            name = header[len(_PREFIXES[0]) :]
            if name in attributes:
                raise BadEvent(f"not a CloudEvent: attribute {name[:80]} is given twice")
            attributes[name] = _value(header, value)
    if _REQUIRED.isdisjoint(attributes):
        return None
    if record.content_type:
        attributes["datacontenttype"] = record.content_type
    check_attributes(attributes)
    # No bytes are no JSON value.
    empty = not record.body and is_json(record.content_type or None)
    return [Event(attributes, None if empty else record.body)]


def _value(header: str, value: object) -> Scalar:
    """An attribute of AMQP's types as CloudEvents has it in JSON."""
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, (str, int)):
        return value
    raise BadEvent(
        f"not a CloudEvent: header {header[:80]} must be a string, an integer, a boolean or a "
        f"timestamp, not {type(value).__name__}"
    )


# -- any other message -----------------------------------------------------------------


def _attributes(
    record: Record, source: str, id: str, time: float, kind: str
) -> dict[str, Scalar]:  # fmt: skip
    attributes: dict[str, Scalar] = {
        "specversion": "1.0",
        "id": _text(record.properties.message_id) or id,
        "source": source,
        "type": kind,
        "time": format_time(time),
    }
    if record.properties.timestamp is not None:
        attributes["time"] = _time(record.properties.timestamp)
    if record.routing_key:
        attributes["subject"] = _text(record.routing_key)
    if record.exchange:
        attributes["rabbitmqexchange"] = _text(record.exchange)
    for name in _PROPERTIES:
        value = getattr(record.properties, name)
        if value:
            attributes["rabbitmq" + name.replace("_", "")] = _text(value)
    if record.redelivered:
        attributes["rabbitmqredelivered"] = True
    for header, value in record.headers.items():
        extended = extension("rabbitmqheader", header.lower())
        if extended and isinstance(value, (str, int, float, bytes, bytearray, datetime)):
            attributes[extended] = _text(value)
    return attributes


def _text(value: object) -> str:
    """As text that an attribute can hold."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, (bytes, bytearray)):
        value = value.decode(errors="replace")
    text = "" if value is None else str(value)
    # What no UTF-8 can carry becomes a question mark.
    return CONTROL.sub(" ", text.encode(errors="replace").decode())


def _time(moment: datetime) -> str:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return format_time(aware.timestamp())
