"""The `dapr` source beside real sidecars: each worker has a daprd of its own, as a Pod has.

What breaks is the sidecar: `break_` kills every one, `restart` starts them again. The
brokers behind them go on. Variants: topics of Kafka (in batches) and JetStream (one by
one, and over a stream) and Redis, and Kafka as an input binding. `dapr_process` has
one for a worker that is a process of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import nats
from redis.asyncio import Redis

from ofevents.api import dapr as components
from ofevents.api.platform import DaprSpec
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import SystemClock
from ofevents.errors import Disconnected
from ofevents.event import Event
from ofevents.ports import Emit, SourceIdentity, Store
from ofevents_adapters import dapr_hand
from ofevents_adapters.dapr import DaprSource
from tests.servers import free_port
from tests.servers.daprd import Daprd, binary
from tests.servers.kafka import KafkaServer
from tests.servers.nats import NatsServer
from tests.servers.redis import RedisServer

_PARTITIONS = 4
servers: list[KafkaServer] = []
Put = Callable[[Sequence[bytes], bool], Awaitable[None]]
"""Stores records at the broker; the flag: they claim to be CloudEvents."""


class BesideSidecar(DaprSource):
    """The source as it is, with a daprd that comes and goes with it as in a Pod."""

    def __init__(self, rig: DaprRig, spec: DaprSpec, identity: SourceIdentity, daprd: Daprd):
        super().__init__(spec, identity, clock=SystemClock())
        self.daprd = daprd
        self._rig = rig

    async def run(self, emit: Emit, *, store: Store | None, started: Callable[[str], None]) -> None:
        if self.daprd not in self._rig.daprds:
            self._rig.daprds.append(self.daprd)
            if not self._rig.broken:
                await self.daprd.start()
        try:
            await super().run(emit, store=store, started=started)
        except Disconnected:
            raise
        except BaseException:
            if self._rig.outlives:
                raise
            self._rig.daprds.remove(self.daprd)
            await self.daprd.kill()
            raise


class DaprRig:
    """See `SourceRig`; `fields` are those of the spec."""

    breakable = True

    def __init__(
        self,
        folder: Path,
        put: Put,
        component: tuple[str, dict[str, str]],
        *,
        poisonable: bool = True,
        called: bool = True,
        **fields: Any,
    ) -> None:
        self.store: Store | None = MemoryStore(
            Broker(max_bytes=1_000_000, window=60), SystemClock()
        )
        self.poisonable = poisonable
        self.in_flight = dapr_hand.IN_FLIGHT
        self.daprds: list[Daprd] = []
        self.broken = False
        self.health_check = True
        self.outlives = False
        """Whether the sidecars live on when their worker ends."""
        self.put = put
        self.called = called
        type, settings = component
        metadata = [{"name": key, "value": value} for key, value in settings.items()]
        self.fields = {"component": {"type": type, "metadata": metadata}, **fields}
        self.identity = SourceIdentity("default", f"shop{uuid.uuid4().hex[:6]}", "dapr", "orders")
        self._folder = folder
        self._count = itertools.count()
        self._sidecars = itertools.count()
        self.features = self.make().features

    def make(self) -> BesideSidecar:
        return self.beside(self.sidecar())

    def sidecar(self) -> Daprd:
        """A new one, not started."""
        port = free_port() if self.called else 0
        folder = self._folder / f"sidecar{next(self._sidecars)}"
        return Daprd(folder, app_id=folder.name, app_port=port, health_check=self.health_check)

    def beside(self, daprd: Daprd) -> BesideSidecar:
        """A worker beside that one, which is told what to read."""
        port = daprd.app_port
        where = {"sidecar": daprd.address, **({"appPort": port} if port else {})}
        spec = DaprSpec.model_validate({**self.fields, **where})
        who = self.identity
        assert spec.component is not None
        name = components.name_of(who.namespace, who.name, who.entry)
        daprd.write(components.input_component(name, spec.component, who.group))
        return BesideSidecar(self, spec, who, daprd)

    async def feed(self, count: int) -> Sequence[str]:
        numbers = [next(self._count) for _ in range(count)]
        bodies = [b'{"number":%d,"pad":"%s"}' % (n, b"x" * 200) for n in numbers]
        await self.put(bodies, False)
        return [str(n) for n in numbers]

    def key(self, event: Event) -> str:
        return str(event.value["number"]) if event.type == "ofevents.dapr" else ""

    async def poison(self) -> bool:
        await self.put([b"\xff not JSON"], True)
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the sidecars whose worker did not, as one that waits to run again."""
        for daprd in self.daprds:
            await daprd.kill()

    async def break_(self) -> None:
        self.broken = True
        for daprd in self.daprds:
            await daprd.kill()

    async def restart(self) -> None:
        self.broken = False
        for daprd in self.daprds:
            await daprd.start()


async def _built() -> None:
    """Before a check counts threads: the loop's one for files, and gRPC's one for all channels."""
    await asyncio.to_thread(binary)
    grpc.aio.init_grpc_aio()


# -- Kafka ----------------------------------------------------------------------


@asynccontextmanager
async def open_kafka() -> AsyncIterator[DaprRig]:
    async with kafka("pubsub.kafka") as rig:
        yield rig


@asynccontextmanager
async def open_kafka_binding() -> AsyncIterator[DaprRig]:
    async with kafka("bindings.kafka") as rig:
        yield rig


@asynccontextmanager
async def kafka(component: str, kind: type[DaprRig] = DaprRig) -> AsyncIterator[DaprRig]:
    await _built()
    if not servers:
        servers.append(await KafkaServer().__aenter__())
    server, topic = servers[0], f"orders-{uuid.uuid4().hex[:8]}"
    await server.create_topic(topic, _PARTITIONS)
    numbers = itertools.count()

    async def put(bodies: Sequence[bytes], claim: bool) -> None:
        headers = [("content-type", b"application/cloudevents+json")] if claim else []
        await server.produce(
            topic,
            [
                {"key": b"key-%d" % (next(numbers) % 7), "value": body, "headers": headers}
                for body in bodies
            ],
        )

    settings = {
        "brokers": server.brokers,
        "authType": "none",
        # What a dead sidecar had comes sooner than by default; a live one's heartbeats, three
        # seconds apart by default, would leave a busy machine the half of it to stand still.
        "sessionTimeout": "6s",
        "heartbeatInterval": "300ms",
    }
    fields: dict[str, Any] = {"topic": topic}
    if component == "bindings.kafka":
        settings["topics"], fields = topic, {}
    with tempfile.TemporaryDirectory() as folder:
        async with kind(Path(folder), put, (component, settings), **fields) as rig:
            yield rig


# -- JetStream ------------------------------------------------------------------


@asynccontextmanager
async def open_jetstream() -> AsyncIterator[DaprRig]:
    async with _jetstream(called=True) as rig:
        yield rig


@asynccontextmanager
async def open_stream() -> AsyncIterator[DaprRig]:
    async with _jetstream(called=False) as rig:
        yield rig


@asynccontextmanager
async def _jetstream(called: bool) -> AsyncIterator[DaprRig]:
    await _built()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(NatsServer(folder / "nats"))
        client = await nats.connect(server.url)
        stack.push_async_callback(client.close)
        stream = client.jetstream()
        await stream.add_stream(name="ORDERS", subjects=["orders"])

        async def put(bodies: Sequence[bytes], claim: bool) -> None:
            for body in bodies:
                await stream.publish("orders", body)

        settings = {"natsURL": server.url, "ackWait": "8s"}
        # A JetStream message's headers do not come through Dapr: nothing can claim.
        component = ("pubsub.jetstream", settings)
        rig = DaprRig(folder, put, component, poisonable=False, called=called, topic="orders")
        async with rig:
            yield rig


# -- Redis ----------------------------------------------------------------------


@asynccontextmanager
async def open_redis() -> AsyncIterator[DaprRig]:
    await _built()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(RedisServer(folder / "redis"))
        client = await stack.enter_async_context(Redis.from_url(f"redis://{server.address}"))

        async def put(bodies: Sequence[bytes], claim: bool) -> None:
            for body in bodies:
                await client.xadd("orders", {"data": body})

        settings = {
            "redisHost": server.address,
            "processingTimeout": "8s",
            "redeliverInterval": "1s",
        }
        component = ("pubsub.redis", settings)
        async with DaprRig(folder, put, component, poisonable=False, topic="orders") as rig:
            yield rig


async def close() -> None:
    """End the Kafka server after the last check."""
    while servers:
        await servers.pop().__aexit__(None, None, None)
