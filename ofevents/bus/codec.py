"""Messages as headers and a body, as every driver puts them on its wire.

Called by the drivers at publish and when a Received's body is first read.

An Event is its own wire form (`Event.encode`): the CloudEvents JSON format
with the data last and verbatim, its offset in the hop's `ofevents-data` header.
Any CloudEvents reader understands it without that header. A Delivery is

    {"subscriber": ..., "events":[<event>,<event>],"at":[[start,end,data_at],...]}

with the events in the same wire form and a table of where each one lies, so
that their bytes come back exactly; the `ofevents-delivery` header gives the
offset of the table. It is valid JSON, so a person can read a dead letter.

Why no base64 and no nested encoding: a delivery of an event is at most a few
hundred bytes larger than the event, so every event that the bus took can also
go to an inbox or to the dead letters (`DELIVERY_ROOM`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from ofevents.errors import BadEvent
from ofevents.event import Event, digest, from_http
from ofevents.ports import Delivery, Message, Payload

DATA_AT: Final = "ofevents-data"
TABLE_AT: Final = "ofevents-delivery"
CONTENT_TYPE: Final = "content-type"
STRUCTURED: Final = "application/cloudevents+json"
OWN_HEADERS: Final = frozenset({DATA_AT, TABLE_AT, CONTENT_TYPE})
DELIVERY_ROOM: Final = 16 * 1024
"""Bytes kept free above an event, for what a Delivery adds to it."""

_EVENTS: Final = b',"events":['


def encode(message: Message) -> tuple[dict[str, str], bytes]:
    """The hop's headers and the body; the message's own headers are kept.

    Raises:
        BadEvent: an attribute or a payload's type holds what is no text (a lone surrogate).
    """
    try:
        return _encode(message)
    except TypeError as error:
        raise BadEvent(f"an attribute cannot be written as UTF-8: {error}") from error


def _encode(message: Message) -> tuple[dict[str, str], bytes]:
    body = message.body
    if isinstance(body, Event):
        raw, data_at = body.encode()
        headers = {CONTENT_TYPE: STRUCTURED, DATA_AT: str(data_at)}
    else:
        raw, table_at = _encode_delivery(body)
        headers = {CONTENT_TYPE: "application/json", TABLE_AT: str(table_at)}
    if message.headers:
        headers = {**{k.lower(): _text(v) for k, v in message.headers.items()}, **headers}
    return headers, raw


def _text(value: str) -> str:
    """A header's value as UTF-8 can carry it: what came as bad bytes becomes "?"."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def decode(headers: Mapping[str, str], body: bytes) -> Event | Delivery:
    """Read what `encode` wrote, or a stranger's CloudEvent.

    `headers` have names in lower case. A stranger's message is a structured
    CloudEvent, or one in binary mode (`ce-` headers, the data as body).

    Raises:
        BadEvent: it is neither.
    """
    try:
        if (data_at := headers.get(DATA_AT)) is not None:
            return Event.decode(body, int(data_at))
        if (table_at := headers.get(TABLE_AT)) is not None:
            return _decode_delivery(body, int(table_at))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BadEvent(
            f"not a message of ofevents: its headers do not fit its body ({error})"
        ) from error
    if headers.get(CONTENT_TYPE, "").startswith("application/cloudevents-batch"):
        raise BadEvent("not one CloudEvent but a batch: publish its events one by one")
    if "ce-specversion" in headers:
        return _binary(headers, body)
    return Event.from_json(body)


def message_id(topic: str, message: Message) -> str:
    """The deduplication id of promise 3.

    Over topic, writer, and the identity of each event in order; what tells a move
    on purpose from the same move repeated is the generation, and the operation of a
    redrive or replay, whose deliveries are moved on purpose as any other.
    """
    body = message.body
    if isinstance(body, Event):
        return digest(topic, message.writer, body.source, body.id, str(message.generation))
    events = [part for event in body.events for part in (event.source, event.id)]
    move = (body.operation, str(body.generation))
    return digest(topic, message.writer, body.subscriber, *events, *move)


def _encode_delivery(delivery: Delivery) -> tuple[bytes, int]:
    fields: dict[str, Any] = {
        "subscriber": delivery.subscriber,
        "key": delivery.key,
        "attempt": delivery.attempt,
        "due": delivery.due,
        "generation": delivery.generation,
        "operation": delivery.operation,
        "outages": delivery.outages,
    }
    if delivery.payload is not None:
        # Text where it is text, so that a person can read it; the name says which.
        try:
            fields["payload"] = delivery.payload.data.decode()
        except UnicodeDecodeError:
            fields["payload_hex"] = delivery.payload.data.hex()
        fields["payload_type"] = delivery.payload.content_type
    head = orjson.dumps(fields)[:-1] + _EVENTS
    parts, table, at = [head], [], len(head)
    for event in delivery.events:
        raw, data_at = event.encode()
        table.append((at, at + len(raw), data_at))
        parts += (raw, b",")
        at += len(raw) + 1
    if delivery.events:
        parts.pop()
        at -= 1
    tail = b'],"at":'
    parts += (tail, orjson.dumps(table), b"}")
    return b"".join(parts), at + len(tail)


def _decode_delivery(body: bytes, table_at: int) -> Delivery:
    table = orjson.loads(body[table_at:-1])
    fields = orjson.loads(body[: table[0][0] - len(_EVENTS)] + b"}")
    payload = None
    if "payload_type" in fields:
        raw = fields.get("payload")
        data = bytes.fromhex(fields["payload_hex"]) if raw is None else raw.encode()
        payload = Payload(data, fields["payload_type"])
    return Delivery(
        subscriber=fields["subscriber"],
        events=tuple(Event.decode(body[start:end], data_at) for start, end, data_at in table),
        payload=payload,
        key=fields["key"],
        attempt=fields["attempt"],
        due=fields["due"],
        generation=fields["generation"],
        operation=fields["operation"],
        outages=fields["outages"],
    )


def _binary(headers: Mapping[str, str], body: bytes) -> Event:
    """A stranger's event, read by the rules of HTTP; CloudEvents has NATS use the same."""
    # Bytes again, as bad UTF-8 in a header came here as lone surrogates.
    pairs = [
        (name.encode("utf-8", "replace"), value.encode("utf-8", "surrogateescape"))
        for name, value in headers.items()
    ]
    found = from_http(pairs, body)
    if not found or len(found) > 1:
        raise BadEvent("not one CloudEvent but a batch: publish its events one by one")
    return found[0]
