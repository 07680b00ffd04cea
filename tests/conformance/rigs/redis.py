"""The `redis` source on a real redis-server: one for each check, as checks kill it.

Two sources in one: a stream, and a channel, which loses what comes while nobody is
subscribed.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from ofevents.api.messaging import RedisSpec
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.ports import SourceIdentity, Store
from ofevents_adapters import redis_channel, redis_stream
from ofevents_adapters.redis import RedisSource
from tests.servers.redis import RedisServer

STREAM = "orders"
GROUP = "ofevents.default.shop.redis.orders"
IDENTITY = SourceIdentity("default", "shop", "redis", "orders")


class RedisRig:
    """See `SourceRig`; `fields` are further ones of the spec."""

    breakable = True
    poisonable = True

    def __init__(self, server: RedisServer, in_flight: int, **fields: Any) -> None:
        self.store: Store | None = MemoryStore(
            Broker(max_bytes=1_000_000, window=60), SystemClock()
        )
        self.server = server
        self.in_flight = in_flight
        # A busy machine's pause is no lost server: its worker would give back what it has.
        self.fields = {"redeliverInterval": "1s", "readTimeout": "15s", **fields}
        self.features = self.make().features
        self._count = itertools.count()

    def make(self) -> RedisSource:
        document = {"redisHost": self.server.address, **self.fields}
        return RedisSource(RedisSpec.model_validate(document), IDENTITY, clock=SystemClock())

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        """A client of our own, beside the source's."""
        client = Redis(host="127.0.0.1", port=self.server.port, protocol=2)
        try:
            yield client
        finally:
            await client.aclose()

    async def feed(self, count: int) -> Sequence[str]:
        numbers = [next(self._count) for _ in range(count)]
        await self.publish({"data": b'{"number":%d,"pad":"%s"}' % (n, b"x" * 200)} for n in numbers)
        return [str(n) for n in numbers]

    async def publish(self, entries: Iterable[dict[str, Any]]) -> None:
        """Send them; returns when the server has them."""
        async with self.client() as client, client.pipeline(transaction=False) as pipe:
            for fields in entries:
                if "channel" in self.fields:
                    pipe.publish(self.fields["channel"], fields["data"])
                else:
                    pipe.xadd(STREAM, fields)
            await pipe.execute()

    def key(self, event: Event) -> str:
        return str(event.value["number"]) if event.type == "ofevents.redis" else ""

    async def poison(self) -> bool:
        if "channel" in self.fields:
            # What makes no claim cannot be malformed: it is an event like any other.
            await self.publish([{"data": b'{"specversion":"1.0","number":-1}'}])
            return False
        claim = {"content-type": "application/cloudevents+json"}
        await self.publish([{"data": b"\xff not JSON", **claim}])
        return True

    async def break_(self) -> None:
        await self.server.kill()

    async def restart(self) -> None:
        await self.server.start()


@asynccontextmanager
async def open_stream() -> AsyncIterator[RedisRig]:
    async with _serving(redis_stream.BATCH) as rig:
        yield rig


@asynccontextmanager
async def open_channel() -> AsyncIterator[RedisRig]:
    async with _serving(redis_channel.BATCH, channel="orders.paid") as rig:
        yield rig


@asynccontextmanager
async def _serving(in_flight: int, **fields: Any) -> AsyncIterator[RedisRig]:
    with tempfile.TemporaryDirectory() as folder:
        async with RedisServer(Path(folder)) as server:
            yield RedisRig(server, in_flight, **fields)
