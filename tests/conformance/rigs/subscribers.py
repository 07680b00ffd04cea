"""Rigs for the Subscriber suite: a real HTTP server, and a topic of a real bus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from ofevents.api.resolved import HttpTarget, ResolvedBus, ResolvedDelivery, TopicTarget
from ofevents.bus import topics
from ofevents.bus.memory import MemoryBus
from ofevents.clock import SystemClock
from ofevents.conformance.check_subscriber import SUBSCRIBER, Rig
from ofevents.errors import BadEvent
from ofevents.event import Event
from ofevents.ports import Bus, Subscriber
from ofevents.subscriber import open_subscriber
from tests.conformance.rigs.jetstream import open_rig
from tests.servers.sink import Sink

TOPIC = topics.user("check", "subscriber")


@dataclass(slots=True)
class HttpRig:
    """An HttpSubscriber and a sink in this loop."""

    sink: Sink
    format: Literal["binary", "structured"]
    typed: bool
    largest: int = 10_000_000

    def open(self, options: ResolvedDelivery) -> AbstractAsyncContextManager[Subscriber]:
        return open_subscriber(
            HttpTarget(uri=f"{self.sink.url}/function"),
            bus=None,
            subscriber_id=SUBSCRIBER,
            clock=SystemClock(),
            options=options.model_copy(update={"format": self.format}),
        )

    async def arrived(self) -> list[Event]:
        return self.sink.events

    async def break_(self) -> None:
        await self.sink.stop()

    async def restart(self) -> None:
        await self.sink.start()


@asynccontextmanager
async def http_binary() -> AsyncIterator[Rig]:
    async with Sink() as sink:
        yield HttpRig(sink, "binary", typed=False)


@asynccontextmanager
async def http_structured() -> AsyncIterator[Rig]:
    async with Sink() as sink:
        yield HttpRig(sink, "structured", typed=True)


class Breaker(Protocol):
    """How a bus's server is taken away and brought back."""

    async def break_(self) -> None: ...
    async def restart(self) -> None: ...


@dataclass(slots=True)
class TopicRig:
    """A TopicSubscriber, and the topic as a reader of it sees it."""

    bus: Bus
    breaker: Breaker
    typed: bool = True
    largest: int = 500_000

    def open(self, options: ResolvedDelivery) -> AbstractAsyncContextManager[Subscriber]:
        return open_subscriber(
            TopicTarget(topic=TOPIC),
            bus=self.bus,
            subscriber_id=SUBSCRIBER,
            clock=SystemClock(),
            options=options,
        )

    async def arrived(self) -> list[Event]:
        found = []
        async for received in self.bus.browse([TOPIC]):
            try:
                body = received.body
            except BadEvent:
                continue  # the suite sends one that no reader takes
            assert isinstance(body, Event)
            found.append(body)
        return found

    async def break_(self) -> None:
        await self.breaker.break_()

    async def restart(self) -> None:
        await self.breaker.restart()


@dataclass(slots=True)
class _MemoryBreaker:
    bus: MemoryBus

    async def break_(self) -> None:
        self.bus.broker.fail("the rig broke it")

    async def restart(self) -> None:
        self.bus.broker.heal()


@asynccontextmanager
async def topic_memory() -> AsyncIterator[Rig]:
    resolved = ResolvedBus(driver="memory", options={"name": "check-subscriber"})
    async with MemoryBus(resolved, clock=SystemClock()) as bus:
        await bus.ensure([TOPIC], [])
        yield TopicRig(bus, _MemoryBreaker(bus))


@asynccontextmanager
async def topic_jetstream() -> AsyncIterator[Rig]:
    async with open_rig() as server, server.make() as bus:
        await bus.ensure([TOPIC], [])
        yield TopicRig(bus, server)
