"""The seam to the EventBus: publish, consume, and what a message in hand is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, Self

from ofevents.event import Event
from ofevents.ports.store import Store
from ofevents.ports.values import Delivery, Message, Verdict


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
    def raw(self) -> bytes:
        """The body as the bus holds it: for what cannot, or must not, be decoded."""
        ...

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


@dataclass(frozen=True, slots=True)
class BusFeatures:
    """What a bus promises; conformance, `validate` and the README read it.

    Attributes:
        durable: what was published survives a restart of the bus.
        groups: consumers of one group share the messages.
        ordered: one consumer alone gets a topic's messages in order; where the broker has
            partitions, those of one `partitionkey`.
        delayed: `Message.due` is kept back by the bus.
        deduplicates: a message of the same digest is stored once.
        store: it has a Store.
        browse: `browse` works.
        keeps: what is published waits for groups that nobody consumes for now.
        holds: an open message is kept from other consumers for as long as it is open;
            else for the ack wait (three times `hold`), and until the group's consumers
            change.
        wide: as many messages are in hand at once as `in_flight` allows; else the bus may
            hand out fewer, one at least, before some are settled, so that nothing should
            wait in hand that can wait in an inbox.
        attempts: `Received.attempt` counts deliveries to consumers that died too.
        counts: `inspect` counts messages; else it tells what this process has in hand.
        removes: `remove` deletes messages, and a group under its consumers.
        bounded: full of unsettled events it refuses; settled ones make room.
        hop_headers: headers of a message that a stranger published reach us.
    """

    durable: bool
    groups: bool
    ordered: bool
    delayed: bool
    deduplicates: bool
    store: bool
    browse: bool
    keeps: bool = True
    holds: bool = True
    wide: bool = True
    attempts: bool = True
    counts: bool = True
    removes: bool = True
    bounded: bool = True
    hop_headers: bool = True


@dataclass(frozen=True, slots=True)
class Consumer:
    """A durable position on topics, shared by the consumers of a group.

    Attributes:
        since: topic -> seconds since the epoch: what `start: now` means there, for a group
            that was declared before a bus could be asked to keep its position.
    """

    group: str
    topics: tuple[str, ...]
    start: Literal["now", "earliest"] = "now"
    since: Mapping[str, float] = field(default_factory=dict, hash=False)


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
