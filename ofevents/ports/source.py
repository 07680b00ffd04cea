"""The seam between an adapter and its EventSource."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from ofevents.event import Event
from ofevents.ports.store import Store
from ofevents.ports.values import Reply


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

        A `BrokenEvent` (a record that claims to be a CloudEvent and is none) is
        dead-lettered with its raw bytes.
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
        positions and leases, in keys that begin with `<kind>/<namespace>/<name>/<entry>`;
        None without a bus. Cancelling stops reading, and leaves what is not emitted
        unacknowledged; it comes when every emit that was open has returned, if that does
        not take long.

        Raises:
            Disconnected: the connection is lost or cannot be made; run again later.
            ConfigError: what only the outside can tell, such as a port in use.
        """
        ...
