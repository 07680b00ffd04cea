"""The seam to a message broker that a subscriber writes to without the bus."""

from __future__ import annotations

from types import TracebackType
from typing import Literal, Protocol, Self

from ofevents.event import Event

Format = Literal["binary", "structured", "raw"]
"""The CloudEvents binding of the technology, or data alone. One that has no place for
attributes beside the data (MQTT 3.1.1) is structured where binary is asked for."""


class Sink(Protocol):
    """The way out to one technology, found under its name in `ofevents.sinks`.

    Built as `cls(spec, format=..., timeout=..., clock=...)`, where `spec` is its pydantic
    model of `ofevents.api.sink`, with secrets in place. Building checks the spec
    (ConfigError, its path begins with `sink`) and connects to nothing. Used as
    `async with sink`; entering does not wait for the broker, leaving closes.

    `timeout` is the number of seconds that each `send` has. The caller ends what takes
    longer by cancelling; a client that queues must have thrown the event away by then, so
    that what is sent again later does not overtake itself.

    A lost connection fails what is in flight at once where the client learns of it. Making
    the next one is the sink's own: the next `send` does so, and it never gives up. A sink
    need not retry a `send`: that is the engine's.
    """

    @property
    def address(self) -> str:
        """Where it sends, for people, such as `Kafka topic paid at kafka:9092`; no secrets."""
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def send(self, event: Event, key: str | None) -> None:
        """Return when the broker has confirmed that it has the event.

        Many calls may be open at once. Of two events with the same key, the one whose
        call begins when the other has returned is stored behind it; a technology that has
        partitions puts both into the same one. A cancelled call may have had its effect.

        Args:
            key: for ordering and partitions; None where it does not matter.

        Raises:
            Unavailable: it can heal: no connection, no answer in time, too few replicas,
                no room.
            Misconfigured: a person must see to it: a refused login, a missing permission,
                topic, stream, exchange or queue.
            TooLarge, Rejected, BadEvent: what this event can never do there.
        """
        ...
