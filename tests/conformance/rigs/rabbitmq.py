"""The `rabbitmq` source on a real RabbitMQ: one server for all checks, a queue each."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel

from ofevents.api.messaging import RabbitmqSpec
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.ports import SourceIdentity, Store
from ofevents_adapters.rabbitmq import RabbitmqSource
from tests.servers.rabbitmq import RabbitmqServer

_servers: list[RabbitmqServer] = []


class RabbitmqRig:
    """See `SourceRig`; `fields` are further ones of the spec."""

    features = RabbitmqSource.features
    in_flight = 100
    breakable = True
    poisonable = True

    def __init__(self, server: RabbitmqServer, **fields: Any) -> None:
        self.store: Store | None = MemoryStore(
            Broker(max_bytes=1_000_000, window=60), SystemClock()
        )
        self.server = server
        self.name = f"orders-{uuid.uuid4().hex[:8]}"
        self.identity = SourceIdentity("default", "shop", "rabbitmq", self.name)
        self.fields = fields
        self._count = itertools.count()

    def document(self) -> dict[str, Any]:
        return {"url": self.server.url, "queue": self.name, **self.fields}

    def make(self) -> RabbitmqSource:
        spec = RabbitmqSpec.model_validate(self.document())
        return RabbitmqSource(spec, self.identity, clock=SystemClock())

    async def feed(self, count: int) -> Sequence[str]:
        numbers = [next(self._count) for _ in range(count)]
        pad = b"x" * 200
        await self.publish(
            *(
                aio_pika.Message(b'{"number":%d,"pad":"%s"}' % (n, pad), message_id=f"m-{n}")
                for n in numbers
            )
        )
        return [str(n) for n in numbers]

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """A publisher's channel."""
        async with await aio_pika.connect(self.server.url) as connection:
            yield await connection.channel()

    async def publish(
        self, *messages: aio_pika.Message, exchange: str = "", key: str | None = None
    ) -> None:
        """Send persistent messages; returns when the broker has stored them in a queue."""
        async with self.channel() as channel:
            target = channel.default_exchange
            if exchange:
                target = await channel.get_exchange(exchange, ensure=False)
            elif key is None:
                await channel.declare_queue(self.name, durable=True)
            sent = []
            for message in messages:
                message.delivery_mode = aio_pika.DeliveryMode.PERSISTENT
                sent.append(target.publish(message, self.name if key is None else key))
            await asyncio.gather(*sent)

    def key(self, event: Event) -> str:
        return str(event.value["number"]) if event.type == "ofevents.rabbitmq" else ""

    async def poison(self) -> bool:
        claim = "application/cloudevents+json"
        await self.publish(aio_pika.Message(b"\xff not JSON", content_type=claim))
        return True

    async def break_(self) -> None:
        await self.server.kill()

    async def restart(self) -> None:
        await self.server.start()


async def shared_server() -> RabbitmqServer:
    """The server that the first rig starts."""
    if not _servers:
        _servers.append(await RabbitmqServer().__aenter__())
    return _servers[0]


@asynccontextmanager
async def open_rig() -> AsyncIterator[RabbitmqRig]:
    """A new queue on the shared server."""
    server = await shared_server()
    try:
        yield RabbitmqRig(server)
    finally:
        if not server.running:
            await server.start()


async def close() -> None:
    """The shared server is ended."""
    while _servers:
        await _servers.pop().__aexit__(None, None, None)
