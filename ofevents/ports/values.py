"""What crosses the seams: payloads, deliveries, messages, replies, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ofevents.event import Event


@dataclass(frozen=True, slots=True)
class Payload:
    """Data that a subscriber gets in place of the event's own."""

    data: bytes
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one subscriber is owed; kept in its inbox while it cannot be delivered.

    Attributes:
        subscriber: `namespace/trigger/name`.
        events: what matched, in order of arrival; the last completed the match.
            With `batch`, all events of the batch.
        payload: replaces the data of the last event; None sends it unchanged.
        key: ordering key (`partitionkey`), None where order does not matter.
        attempt: calls made so far that count against `retries`.
        due: not before this time (Unix seconds); 0 is now.
        generation: raised by one at each move on purpose (inbox, reply).
        operation: id of the redrive or replay that made it, "" for none.
        outages: times that it was being called when the subscriber went away: perhaps
            it was the cause.
    """

    subscriber: str
    events: tuple[Event, ...]
    payload: Payload | None = None
    key: str | None = None
    attempt: int = 0
    due: float = 0.0
    generation: int = 0
    operation: str = ""
    outages: int = 0

    @property
    def event(self) -> Event:
        """The event as it is sent: the last one, its data replaced by the payload."""
        event = self.events[-1]
        if self.payload is None:
            return event
        return event.replace(data=self.payload.data, datacontenttype=self.payload.content_type)


@dataclass(frozen=True, slots=True)
class Message:
    """What is published on a topic.

    Attributes:
        body: an Event on event topics, a Delivery in inboxes and dead letters.
        writer: who publishes: `namespace/kind/name/entry`, or a subscriber.
            Deduplication is by digest(topic, writer, source, id, generation).
        generation: of the event; a Delivery carries its own.
        headers: the hop's own, such as `traceparent` or why it is a dead letter.
        due: keep it back until then (Unix seconds; needs Features.delayed); 0 is now.
    """

    body: Event | Delivery
    writer: str
    generation: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    due: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A subscriber's answer: status as in HTTP, headers lower-case, body bounded."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a received message is settled: DONE, or again after a delay in seconds."""

    done: bool
    after: float = 0.0


DONE = Verdict(done=True)


def retry(after: float = 0.0) -> Verdict:
    """Hand the message out again, to any consumer of the group, after `after` seconds."""
    return Verdict(done=False, after=after)
