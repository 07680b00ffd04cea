"""The `nats` source on a real nats-server: one for each check, as checks kill it.

Two sources in one: core NATS, which loses what comes while nobody is there, and
JetStream, also with one message in hand at a time, which promises the order too.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats

from ofevents.api.messaging import NatsSpec
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.ports import SourceIdentity, Store
from ofevents_adapters import nats_core, nats_jetstream
from ofevents_adapters.nats import NatsSource
from tests.servers.nats import NatsServer

STREAM = "ORDERS"
IDENTITY = SourceIdentity("default", "shop", "nats", "orders")


class NatsRig:
    """See `SourceRig`; `fields` are further ones of the spec."""

    breakable = True
    poisonable = True

    def __init__(self, server: NatsServer, in_flight: int, **fields: Any) -> None:
        self.store: Store | None = MemoryStore(
            Broker(max_bytes=1_000_000, window=60), SystemClock()
        )
        self.server = server
        self.in_flight = in_flight
        self.fields = fields
        self.features = self.make().features
        self._count = itertools.count()

    def make(self) -> NatsSource:
        document = {"url": self.server.url, "subject": "orders.>", **self.fields}
        return NatsSource(NatsSpec.model_validate(document), IDENTITY, clock=SystemClock())

    async def feed(self, count: int) -> Sequence[str]:
        numbers = [next(self._count) for _ in range(count)]
        await self.publish(
            (f"orders.{n % 7}", b'{"number":%d,"pad":"%s"}' % (n, b"x" * 200), None)
            for n in numbers
        )
        return [str(n) for n in numbers]

    async def publish(self, messages: Any) -> None:
        """Send (subject, data, headers); returns when the server has them."""
        client = await nats.connect(self.server.url)
        try:
            jetstream = client.jetstream() if "jetstream" in self.fields else None
            for subject, data, headers in messages:
                if jetstream is not None:
                    await jetstream.publish(subject, data, headers=headers)
                else:
                    await client.publish(subject, data, headers=headers)
            await client.flush()
        finally:
            await client.close()

    def key(self, event: Event) -> str:
        return str(event.value["number"]) if event.type == "ofevents.nats" else ""

    async def poison(self) -> bool:
        claim = {"Content-Type": "application/cloudevents+json"}
        await self.publish([("orders.0", b"\xff not JSON", claim)])
        return True

    async def break_(self) -> None:
        await self.server.kill()

    async def restart(self) -> None:
        await self.server.start()


async def create_stream(server: NatsServer, name: str = STREAM, **config: Any) -> None:
    """A stream of `orders.>`, in files."""
    client = await nats.connect(server.url)
    try:
        config.setdefault("subjects", ["orders.>"])
        await client.jetstream().add_stream(name=name, **config)
    finally:
        await client.close()


@asynccontextmanager
async def open_core() -> AsyncIterator[NatsRig]:
    with tempfile.TemporaryDirectory() as folder:
        async with NatsServer(Path(folder)) as server:
            yield NatsRig(server, nats_core.BATCH)


@asynccontextmanager
async def open_jetstream() -> AsyncIterator[NatsRig]:
    async with _streaming(ackWait="10s") as rig:
        yield rig


@asynccontextmanager
async def open_in_order() -> AsyncIterator[NatsRig]:
    async with _streaming(ackWait="10s", maxAckPending=1) as rig:
        yield rig


@asynccontextmanager
async def _streaming(**fields: Any) -> AsyncIterator[NatsRig]:
    with tempfile.TemporaryDirectory() as folder:
        async with NatsServer(Path(folder)) as server:
            await create_stream(server)
            most = min(nats_jetstream.BATCH, fields.get("maxAckPending", 10_000))
            yield NatsRig(server, most, jetstream={"stream": STREAM, **fields})
