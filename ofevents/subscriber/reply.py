"""ReplyTo: a function's answer that is a CloudEvent goes to a topic.

Only CloudEvents are replies, in binary, structured or batch mode; any other 2xx
answer says that the event was accepted, and no more (a debug line tells). The
function has acted by then, so an answer that claims to be a CloudEvent and is none
is not asked for again: it is a PermanentError, and the delivery becomes a dead
letter that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from ofevents.errors import BadEvent
from ofevents.event import Event, digest, from_http
from ofevents.event.http import BATCH, STRUCTURED
from ofevents.event.verbatim import elements
from ofevents.ports import Bus, Delivery, Message, Reply, Subscriber
from ofevents.subscriber.topic import writer
from ofevents.telemetry import Log


class ReplyTo:
    """Publishes the events of an answer, then returns it."""

    def __init__(self, inner: Subscriber, bus: Bus, topic: str) -> None:
        self._inner = inner
        self._bus = bus
        self._topic = topic
        self._log = Log(topic=topic)

    async def deliver(self, delivery: Delivery) -> Reply:
        """As the inner one; returns when the bus has stored the reply.

        The reply's writer is the subscriber and its generation is raised by one. An
        event without an id gets digest(event id, subscriber), so that the same call
        repeated after a crash gives the same reply.

        Raises:
            BadEvent: the answer claims to be a CloudEvent and breaks the rules.
            Disconnected, BusFull: not stored; the function will be called again.
            TooLarge: the reply is over the bus's size limit.
        """
        reply = await self._inner.deliver(delivery)
        if not reply.headers:
            self._ignored(delivery)
            return reply
        spare = digest(delivery.events[-1].id, delivery.subscriber)
        try:
            events = read(reply, spare)
        except BadEvent as error:
            raise BadEvent(f"the answer of {delivery.subscriber} cannot be sent on: {error}") from (
                error
            )
        if not events:
            self._ignored(delivery)
        else:
            name, generation = writer(delivery), delivery.generation + 1
            await self._bus.publish(
                self._topic, *(Message(event, name, generation=generation) for event in events)
            )
        return reply

    def _ignored(self, delivery: Delivery) -> None:
        event_id = delivery.events[-1].id
        self._log.debug("filtered", id=event_id, reason="the answer is no CloudEvent, so no reply")


def read(reply: Reply, spare: str) -> list[Event]:
    """The events of an answer; those without an id get `spare` (in a batch, numbered).

    Raises:
        BadEvent: it claims to be a CloudEvent and is none.
    """
    headers, body = reply.headers, reply.body
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == STRUCTURED:
        body = _with_id(body, spare)
    elif media == BATCH:
        body = _batch_with_ids(body, spare)
    elif "ce-id" not in headers and "ce-specversion" in headers:
        headers = {**headers, "ce-id": spare}
    return from_http(headers, body) or []


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None  # from_http says what is wrong with it


def _with_id(body: bytes, spare: str) -> bytes:
    parsed = _parse(body)
    if not _lacks_id(parsed):
        return body
    # Written into the text, as the bytes of its data are to stay what they are.
    return b'{"id":"%b",%b' % (spare.encode(), body.lstrip()[1:])


def _batch_with_ids(body: bytes, spare: str) -> bytes:
    parsed = _parse(body)
    if not isinstance(parsed, list) or not any(map(_lacks_id, parsed)):
        return body
    texts = enumerate(elements(body))
    return b"[%b]" % b",".join(_with_id(text, f"{spare}-{index}") for index, text in texts)


def _lacks_id(parsed: Mapping[str, Any] | Any) -> bool:
    """Only an object with other members: `{}` is no event with any id."""
    return isinstance(parsed, dict) and bool(parsed) and "id" not in parsed
