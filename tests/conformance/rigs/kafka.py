"""The `kafka` source against a real Apache Kafka: one server for all checks, a topic each."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ofevents.api.kafka import KafkaSpec
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.ports import SourceIdentity, Store
from ofevents_adapters import kafka
from tests.servers.kafka import KafkaServer

_PARTITIONS = 4
_servers: list[KafkaServer] = []


class KafkaRig:
    """See `SourceRig`. Records have seven keys, so that order within a key can be judged."""

    features = kafka.KafkaSource.features
    in_flight = kafka.IN_FLIGHT
    breakable = True
    poisonable = True

    def __init__(self, server: KafkaServer) -> None:
        self.store: Store | None = MemoryStore(
            Broker(max_bytes=1_000_000, window=60), SystemClock()
        )
        self.server = server
        self.topic = f"orders-{uuid.uuid4().hex[:8]}"
        self._count = itertools.count()

    def make(self) -> kafka.KafkaSource:
        spec = KafkaSpec(
            brokers=[self.server.brokers],
            topic=self.topic,
            # A rebalance after a crash is quicker than by default, and a busy machine's pause
            # is no crash.
            config={"session.timeout.ms": "6000", "heartbeat.interval.ms": "300"},
        )
        identity = SourceIdentity("default", self.topic, "kafka", "orders")
        return kafka.KafkaSource(spec, identity, clock=SystemClock())

    async def feed(self, count: int) -> Sequence[str]:
        numbers = [next(self._count) for _ in range(count)]
        records = [
            {"key": b"key-%d" % (n % 7), "value": b'{"number":%d,"pad":"%s"}' % (n, b"x" * 200)}
            for n in numbers
        ]
        await self.server.produce(self.topic, records)
        return [str(n) for n in numbers]

    def key(self, event: Event) -> str:
        return str(event.value["number"]) if event.type == "ofevents.kafka" else ""

    async def poison(self) -> bool:
        claim = [("content-type", b"application/cloudevents+json")]
        await self.server.produce(self.topic, [{"value": b"\xff not JSON", "headers": claim}])
        return True

    async def break_(self) -> None:
        await self.server.kill()

    async def restart(self) -> None:
        await self.server.start()


@asynccontextmanager
async def open_rig() -> AsyncIterator[KafkaRig]:
    """A new topic on the server, which the first rig starts."""
    if not _servers:
        _servers.append(await KafkaServer().__aenter__())
    rig = KafkaRig(_servers[0])
    await rig.server.create_topic(rig.topic, _PARTITIONS)
    try:
        yield rig
    finally:
        if not rig.server.running:
            await rig.server.start()


async def close() -> None:
    """End the server after the last check."""
    while _servers:
        await _servers.pop().__aexit__(None, None, None)
