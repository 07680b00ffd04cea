"""Every seam of ofevents on one page: what crosses it, and what returning means.

**Returning is the acknowledgement.** Each seam is an awaited call, and nothing
upstream is acknowledged before everything downstream is settled:

    Source --emit--> Bus.publish ... Bus.consume --Received--> Subscriber.deliver

Over a port only errors of `ofevents.errors` are raised; a cancelled call is not
acknowledged. Retry, reconnecting, limits and shutdown belong to the engine
(`source`, `trigger`), never to an adapter: an adapter that loses its connection
raises `Disconnected` and is run again after a backoff.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, Self

from ofevents.event import Event

# -- values -----------------------------------------------------------------


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
    """

    subscriber: str
    events: tuple[Event, ...]
    payload: Payload | None = None
    key: str | None = None
    attempt: int = 0
    due: float = 0.0
    generation: int = 0
    operation: str = ""

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


class Received(Protocol):
    """One message handed to a consumer; settled once, in any order.

    Attributes:
        topic: where it was published.
        attempt: how often it has been handed out, this time included; from 1.
        stored: when the bus stored it (Unix seconds).
        position: the bus's own, such as the stream sequence; ordered within a topic.
        headers: of the hop, names in lower case.
        size: bytes of the body.
    """

    @property
    def topic(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def stored(self) -> float: ...
    @property
    def position(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def size(self) -> int: ...

    @property
    def body(self) -> Event | Delivery:
        """Decoded when first read.

        Raises:
            BadEvent: a stranger published bytes that are neither.
        """
        ...

    def settle(self, verdict: Verdict) -> None:
        """Settle it. Never blocks and never raises; a second call does nothing.

        The acknowledgement is on its way when this returns; if it is lost, the
        message comes again (at least once).
        """
        ...


# -- sources ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceFeatures:
    """What a source promises; conformance, `validate` and the README read it.

    Attributes:
        guarantee: `at-least-once` where an event not emitted comes again.
        stable_ids: a redelivery carries the same CloudEvent id.
        ordered: events come in the origin's order per partition key.
        scales: several workers of one entry share the work.
        replies: somebody outside waits for the answer: without a bus, emit is one
            attempt and its Reply is passed through (promise 11).
    """

    guarantee: Literal["at-least-once", "at-most-once"]
    stable_ids: bool
    ordered: bool
    scales: bool
    replies: bool = False


class Emit(Protocol):
    """Hands events to the engine; see `Source.run`."""

    async def __call__(self, *events: Event) -> Reply | None:
        """Return when all are settled: stored by the bus, filtered, or dead-lettered.

        Without a bus it returns the function's Reply (one event at a time).

        Raises:
            TemporaryError: not acknowledged; the adapter keeps the record and tries
                again, or tells its caller to (503). The engine has waited already.
            PermanentError: only without a bus, or for events no dead letter can take.
        """
        ...


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """Who a source is: names ids, consumer groups and default attributes."""

    namespace: str
    name: str
    kind: str
    entry: str

    @property
    def writer(self) -> str:
        return f"{self.namespace}/{self.kind}/{self.name}/{self.entry}"

    @property
    def group(self) -> str:
        """Consumer group in outside systems; unique per entry."""
        return f"ofevents.{self.namespace}.{self.name}.{self.kind}.{self.entry}"


class Source(Protocol):
    """An adapter for one technology. Built as `cls(spec, identity, clock=clock)`,

    where `spec` is the kind's pydantic model from `ofevents.api`, with secrets in
    place. Building checks the spec (ConfigError) and connects to nothing.
    """

    features: SourceFeatures

    async def run(self, emit: Emit, *, store: Store | None, started: Callable[[str], None]) -> None:
        """Read from the outside and emit until cancelled.

        A record is acknowledged outside only after `emit` has returned for it, and
        never past the oldest unfinished record. `started(address)` is called each
        time the source is live, with what to show: a URL or a topic. `store` keeps
        positions and leases; None without a bus. Cancelling stops reading, and
        leaves what is not emitted unacknowledged.

        Raises:
            Disconnected: the connection is lost or cannot be made; run again later.
            ConfigError: what only the outside can tell, such as a port in use.
        """
        ...


# -- the bus ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BusFeatures:
    """What a bus promises; conformance, `validate` and the README read it.

    Attributes:
        durable: what was published survives a restart of the bus.
        groups: consumers of one group share the messages.
        ordered: one consumer alone gets a topic's messages in order.
        delayed: `Message.due` is kept back by the bus.
        deduplicates: a message of the same digest is stored once.
        store: it has a Store.
        browse: `browse` works.
    """

    durable: bool
    groups: bool
    ordered: bool
    delayed: bool
    deduplicates: bool
    store: bool
    browse: bool


@dataclass(frozen=True, slots=True)
class Consumer:
    """A durable position on topics, shared by the consumers of a group."""

    group: str
    topics: tuple[str, ...]
    start: Literal["now", "earliest"] = "now"


@dataclass(frozen=True, slots=True)
class TopicReport:
    """`messages` and `size` (bytes) are what the bus holds of it now."""

    topic: str
    messages: int
    size: int


@dataclass(frozen=True, slots=True)
class ConsumerReport:
    """`pending` is the lag: not yet handed out; `in_flight` is handed out, unsettled."""

    group: str
    topics: tuple[str, ...]
    pending: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class BusReport:
    """What `inspect` saw."""

    topics: tuple[TopicReport, ...]
    consumers: tuple[ConsumerReport, ...]


Handler = Callable[[list[Received]], Awaitable[None]]
"""Gets messages, settles each on its own. It may run long: the next call does not
wait for it. What is unsettled when it returns or raises is handed out again."""


class Bus(Protocol):
    """An EventBus driver. Used as `async with driver(spec, clock=clock) as bus`.

    Entering connects, waiting for the server as long as it takes (it says so in the
    log and in `connection`); leaving settles what is settled and closes.
    Reconnecting never gives up. Topics are names made by `ofevents.bus.topics`.
    """

    features: BusFeatures

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    @property
    def store(self) -> Store: ...

    @property
    def connection(self) -> str:
        """ "" while connected, otherwise why not, as a sentence."""
        ...

    @property
    def max_size(self) -> int:
        """Largest body in bytes that it takes."""
        ...

    @property
    def hold(self) -> float:
        """Seconds a message may stay unsettled in hand before a retry belongs in

        the inbox: a third of the ack wait.
        """
        ...

    async def publish(self, topic: str, *messages: Message) -> None:
        """Return when the bus has stored every message (a duplicate counts as stored).

        Raises:
            Disconnected: not known to be stored, within the driver's deadline.
            BusFull: only unsettled events are left and the limit is reached.
            TooLarge: over `max_size`; nothing of this call was published.
        """
        ...

    async def ensure(self, topics: Sequence[str], consumers: Sequence[Consumer]) -> None:
        """Create what is missing and update what differs; idempotent.

        A consumer's `start` counts at its creation only; later it goes on where it was.
        """
        ...

    async def consume(
        self,
        topics: Sequence[str],
        group: str,
        handler: Handler,
        *,
        in_flight: int,
        started: Callable[[], None],
        stop: asyncio.Event | None = None,
    ) -> None:
        """Hand messages to `handler` until cancelled; survives reconnects.

        Once `stop` is set it hands out no more, and returns when everything in hand
        is settled; cancelled, it cancels the handlers and gives back what is not.
        At most `in_flight` messages are unsettled at once. While one is open, the
        driver keeps the bus from handing it to another consumer. The consumer must
        exist (`ensure`).
        """
        ...

    def browse(
        self, topics: Sequence[str], *, since: float | None = 0.0, follow: bool = False
    ) -> AsyncIterator[Received]:
        """Read without a group: settles nothing, changes no position.

        `since` is Unix seconds, 0 for all, None for what comes from now on (then
        `follow`). Ends at the last message unless `follow`.
        """
        ...

    async def inspect(self) -> BusReport:
        """Topics and consumers with their counts."""
        ...

    async def remove(self, *, topics: Sequence[str] = (), groups: Sequence[str] = ()) -> None:
        """Delete topics' messages and consumers; what is not there is no error."""
        ...


# -- the store --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """A value in the store, and the revision that a compare-and-set names."""

    value: bytes
    revision: int


class Store(Protocol):
    """Small keyed state kept by the bus: joins, leases, positions, away.

    Keys are any text; segments are joined with "/", so that a prefix lists.
    """

    async def get(self, key: str) -> Entry | None: ...

    async def put(
        self, key: str, value: bytes, *, revision: int | None = None, ttl: float | None = None
    ) -> int:
        """Write and return the new revision.

        `revision` None overwrites; 0 only creates; another only replaces that one.
        After `ttl` seconds without a write the entry is gone.

        Raises:
            Conflict: the entry is not at that revision.
        """
        ...

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Remove it; no error when it is not there.

        Raises:
            Conflict: as `put`.
        """
        ...

    def list(self, prefix: str) -> AsyncIterator[tuple[str, Entry]]:
        """Entries whose key begins with `prefix`, which ends with "/"."""
        ...


# -- subscribers ------------------------------------------------------------


class Subscriber(Protocol):
    """The way out: a function over HTTP, a topic, or a wrapper around one."""

    async def deliver(self, delivery: Delivery) -> Reply:
        """Return when the delivery is settled there: a 2xx, or stored.

        Raises:
            TemporaryError: it can heal (Unavailable, Misconfigured, BusFull, ...).
            PermanentError: this delivery never will (Rejected, TooLarge).
        """
        ...
