"""Rigs for the Subscriber suite: each sink of ours and a reader at its real broker.

Servers that start slowly are shared by all checks of a module run (`close` ends them);
each rig has a topic or queue of its own.
"""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import nats
from confluent_kafka import Consumer, TopicPartition
from nats.js.errors import NotFoundError

from ofevents.api.resolved import ResolvedDelivery, SinkTarget
from ofevents.clock import SystemClock
from ofevents.conformance.check_subscriber import SUBSCRIBER, Rig
from ofevents.errors import BadEvent
from ofevents.event import BrokenEvent, Event, from_http
from ofevents.ports import Format, Subscriber
from ofevents.subscriber import open_subscriber
from ofevents_adapters.kafka_record import event_of
from tests.servers.kafka import KafkaServer
from tests.servers.nats import NatsServer


class Server(Protocol):
    """How a broker is taken away and brought back."""

    async def start(self) -> None: ...
    async def kill(self) -> None: ...


S = TypeVar("S", bound=AbstractAsyncContextManager[Any])
_servers: dict[type[Any], Any] = {}


async def shared(kind: type[S]) -> S:
    """The one server of that class, which must belong to no event loop."""
    if kind not in _servers:
        _servers[kind] = await kind().__aenter__()
    found: S = _servers[kind]
    return found


async def close() -> None:
    """End the servers after the last check."""
    while _servers:
        _, server = _servers.popitem()
        await server.__aexit__(None, None, None)


@dataclass(slots=True)
class SinkRig:
    """A SinkSubscriber of a target; `read` gives all events at its broker so far."""

    target: SinkTarget
    server: Server
    read: Callable[[], Awaitable[list[Event]]]
    format: Format = "binary"
    typed: bool = False
    largest: int = 900_000
    gone: bool = field(default=False, init=False)

    def open(self, options: ResolvedDelivery) -> AbstractAsyncContextManager[Subscriber]:
        return open_subscriber(
            self.target,
            bus=None,
            subscriber_id=SUBSCRIBER,
            clock=SystemClock(),
            options=options.model_copy(update={"format": self.format}),
        )

    async def arrived(self) -> list[Event]:
        return await self.read()

    async def break_(self) -> None:
        self.gone = True
        await self.server.kill()

    async def restart(self) -> None:
        await self.server.start()
        self.gone = False

    async def heal(self) -> None:
        """Leave a server for the next rig."""
        if self.gone:
            await self.restart()


# -- Kafka ----------------------------------------------------------------------


class KafkaReader:
    """All records of a topic's partition, read as the `kafka` source reads them."""

    def __init__(self, brokers: str, topic: str, partition: int = 0) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": brokers, "group.id": "reader", "log_level": 0}
        )
        self._consumer.assign([TopicPartition(topic, partition, 0)])
        self._events: list[Event] = []

    async def __call__(self) -> list[Event]:
        await asyncio.to_thread(self._read)
        return self._events

    def _read(self) -> None:
        while (record := self._consumer.poll(0.2)) is not None:
            if record.error() is None:
                event = event_of(record, "/read")
                if not isinstance(event, BrokenEvent):  # the suite sends one
                    self._events.append(event)

    def close(self) -> None:
        self._consumer.close()


@asynccontextmanager
async def _kafka(format: Format, typed: bool) -> AsyncIterator[Rig]:
    server = await shared(KafkaServer)
    topic = f"sink-{uuid.uuid4().hex[:8]}"
    await server.create_topic(topic)
    reader = KafkaReader(server.brokers, topic)
    target = SinkTarget(sink="kafka", spec={"brokers": server.brokers, "topic": topic})
    rig = SinkRig(target, server, reader, format, typed)
    try:
        yield rig
    finally:
        await rig.heal()
        await asyncio.to_thread(reader.close)


def kafka_binary() -> AbstractAsyncContextManager[Rig]:
    return _kafka("binary", typed=False)


def kafka_structured() -> AbstractAsyncContextManager[Rig]:
    return _kafka("structured", typed=True)


# -- NATS -----------------------------------------------------------------------


STREAM = "PAID"
SUBJECT = "paid.cards"


async def read_stream(url: str, stream: str) -> list[Event]:
    """All events of a stream, in order."""
    client = await nats.connect(url)
    found: list[Event] = []
    try:
        jetstream = client.jetstream()
        last = (await jetstream.stream_info(stream)).state.last_seq
        for sequence in range(1, last + 1):
            try:
                message = await jetstream.get_msg(stream, sequence)
                found += from_http(message.headers or {}, message.data or b"") or []
            except (NotFoundError, BadEvent):
                continue
    finally:
        await client.close()
    return found


@asynccontextmanager
async def _nats(format: Format, typed: bool) -> AsyncIterator[Rig]:
    with tempfile.TemporaryDirectory() as folder:
        async with NatsServer(Path(folder)) as server:
            client = await nats.connect(server.url)
            await client.jetstream().add_stream(name=STREAM, subjects=[SUBJECT])
            await client.close()
            target = SinkTarget(sink="nats", spec={"url": server.url, "subject": SUBJECT})
            yield SinkRig(target, server, lambda: read_stream(server.url, STREAM), format, typed)


def nats_binary() -> AbstractAsyncContextManager[Rig]:
    return _nats("binary", typed=False)


def nats_structured() -> AbstractAsyncContextManager[Rig]:
    return _nats("structured", typed=True)
