"""Stage "dapr": the dapr bus beside a loop on the plain SDK's stubs, on one real daprd.

On Kafka (4 partitions) and on JetStream, events of about 300 bytes. The raw loops use
the same calls of Dapr without any of our code: bulk publishes of prebuilt CloudEvents,
and a gRPC callback that acknowledges whole batches (Kafka), or one stream per component
with an acknowledgement queue (JetStream). Ours encodes and decodes each event as well.

Bounds, in events per second: Kafka 15,000 published, and 8,000 consumed or 60 % of the
raw loop's rate in the same run; JetStream 6,000 and 1,500.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import nats
import orjson
from dapr.proto.runtime.v1 import (
    appcallback_pb2,
    appcallback_pb2_grpc,
    dapr_pb2_grpc,
    pubsub_pb2,
)

from bench.load import row
from ofevents.api.resolved import ResolvedBus
from ofevents.bus import topics
from ofevents.bus.dapr import DaprBus
from ofevents.bus.dapr_components import Names, consumer, manifests, subscriptions
from ofevents.bus.dapr_files import write
from ofevents.bus.dapr_options import read_options
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.ports import DONE, Consumer, Message, Received
from tests.servers import free_port, until
from tests.servers.daprd import Daprd
from tests.servers.kafka import KafkaServer
from tests.servers.nats import NatsServer

Row = dict[str, Any]
TOPIC = topics.event("bench", "orders", "created")
GROUP = topics.trigger_group("bench", "all")
RAW_GROUP = topics.trigger_group("bench", "raw")
DATA = orjson.dumps({"orderId": "o-123456", "amount": 150.5, "pad": "x" * 150})
CALL = 200
"""Events of one publish call, ours and raw; four calls at a time."""


def events(count: int, run: str) -> list[Event]:
    return [
        Event.create(id=f"{run}-{n}", source="/bench", type="t", data=DATA) for n in range(count)
    ]


async def together(calls: list[Callable[[], Awaitable[object]]], most: int = 4) -> float:
    """Await them, `most` at a time; seconds."""
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(most)))
    return time.perf_counter() - began


class Setup:
    """One daprd with the components of our group and of the raw loop's."""

    def __init__(self, folder: Path, pubsub: dict[str, Any], lanes: int) -> None:
        self.port, self.raw_port = free_port(), free_port()
        self.daprd = Daprd(folder / "ours", app_port=self.port)
        self.raw = Daprd(folder / "raw", app_id="raw", app_port=self.raw_port)
        self.options = {"pubsub": pubsub, "lanes": lanes, "ack_wait": 30.0}
        self.lanes = lanes
        read = read_options({**self.options, "app_port": self.port})
        self.names = Names(read, "default")
        for one in (self.daprd, self.raw):
            write(one.resources, "base.yaml", manifests(read, "default", ()))
        for find in (consumer, subscriptions):
            found = find(read, self.names, RAW_GROUP, [TOPIC])
            if found:
                write(self.raw.resources, f"{find.__name__}.yaml", found)

    @asynccontextmanager
    async def bus(self) -> AsyncIterator[DaprBus]:
        given = {
            **self.options,
            "sidecar": self.daprd.address,
            "app_port": self.port,
            "resources": str(self.daprd.resources),
        }
        async with DaprBus(ResolvedBus(driver="dapr", options=given), clock=SystemClock()) as bus:
            yield bus


async def ours(setup: Setup, count: int) -> tuple[float, float]:
    """Events per second, published and consumed with their bodies decoded."""
    sent = [Message(one, "bench") for one in events(count, "ours")]
    async with setup.bus() as bus:
        await bus.publish(TOPIC, *sent[:1])
        parts = [sent[at : at + CALL] for at in range(0, count, CALL)]
        calls = [lambda part=part: bus.publish(TOPIC, *part) for part in parts]
        published = count / await together(calls)
        await bus.ensure([TOPIC], [Consumer(GROUP, (TOPIC,), start="earliest")])
        seen: set[str] = set()
        times: list[float] = []

        async def handler(received: list[Received]) -> None:
            for one in received:
                if isinstance(one.body, Event):
                    seen.add(one.body.id)
                one.settle(DONE)
            times.append(time.perf_counter())

        stop = asyncio.Event()
        consuming = asyncio.create_task(
            bus.consume([TOPIC], GROUP, handler, in_flight=1000, started=lambda: None, stop=stop)
        )
        await until(
            lambda: len(seen) >= count, seconds=120, what=f"{count} events, {len(seen)} came"
        )
        stop.set()
        await consuming
    return published, count / (times[-1] - times[0])


async def raw_publish(setup: Setup, count: int) -> float:
    """Bulk publishes of the same events by the stub."""
    entries = [
        pubsub_pb2.BulkPublishRequestEntry(
            entry_id=str(n % CALL), event=one.to_json(), content_type="application/cloudevents+json"
        )
        for n, one in enumerate(events(count, "raw"))
    ]
    async with grpc.aio.insecure_channel(setup.raw.address) as channel:
        stub = dapr_pb2_grpc.DaprStub(channel)
        requests = [
            pubsub_pb2.BulkPublishRequest(
                pubsub_name=setup.names.pubsub,
                topic=setup.names.topic(TOPIC),
                entries=entries[at : at + CALL],
                metadata={"rawPayload": "true"},
            )
            for at in range(0, count, CALL)
        ]
        calls = [lambda one=one: stub.BulkPublishEventAlpha1(one) for one in requests]
        return count / await together(calls)


class RawCallback(
    appcallback_pb2_grpc.AppCallbackServicer,
    appcallback_pb2_grpc.AppCallbackAlphaServicer,
    appcallback_pb2_grpc.AppCallbackHealthCheckServicer,
):
    """Acknowledges whole batches."""

    def __init__(self) -> None:
        self.count = 0
        self.times: list[float] = []

    async def ListTopicSubscriptions(self, request: Any, context: Any) -> Any:
        return appcallback_pb2.ListTopicSubscriptionsResponse()

    async def HealthCheck(self, request: Any, context: Any) -> Any:
        return appcallback_pb2.HealthCheckResponse()

    async def ListInputBindings(self, request: Any, context: Any) -> Any:
        return appcallback_pb2.ListInputBindingsResponse()

    async def OnBulkTopicEventAlpha1(self, request: Any, context: Any) -> Any:
        self.count += len(request.entries)
        self.times.append(time.perf_counter())
        entry = appcallback_pb2.TopicEventBulkResponseEntry
        return appcallback_pb2.TopicEventBulkResponse(
            statuses=[entry(entry_id=one.entry_id) for one in request.entries]
        )


async def raw_consume_bulk(setup: Setup, total: int) -> float:
    """By the callback that the SDK's stubs give."""
    app = RawCallback()
    server = grpc.aio.server()
    appcallback_pb2_grpc.add_AppCallbackServicer_to_server(app, server)
    appcallback_pb2_grpc.add_AppCallbackAlphaServicer_to_server(app, server)
    appcallback_pb2_grpc.add_AppCallbackHealthCheckServicer_to_server(app, server)
    server.add_insecure_port(f"127.0.0.1:{setup.raw_port}")
    await server.start()
    try:
        await until(
            lambda: app.count >= total, seconds=120, what=f"{total} events, {app.count} came"
        )
    finally:
        await server.stop(None)
    return total / (app.times[-1] - app.times[0])


async def raw_consume_streams(setup: Setup, total: int) -> float:
    """By one stream per component, acknowledged at once."""
    count, times = 0, [time.perf_counter()]
    request = pubsub_pb2.SubscribeTopicEventsRequestAlpha1

    async def stream(stub: Any, lane: str) -> None:
        nonlocal count
        call = stub.SubscribeTopicEventsAlpha1()
        first = pubsub_pb2.SubscribeTopicEventsRequestInitialAlpha1(
            pubsub_name=lane, topic=setup.names.topic(TOPIC), metadata={"rawPayload": "true"}
        )
        await call.write(request(initial_request=first))
        while True:
            response = await call.read()
            if response.HasField("event_message"):
                count += 1
                times.append(time.perf_counter())
                done = pubsub_pb2.SubscribeTopicEventsRequestProcessedAlpha1(
                    id=response.event_message.id, status=appcallback_pb2.TopicEventResponse()
                )
                await call.write(request(event_processed=done))

    async with grpc.aio.insecure_channel(setup.raw.address) as channel:
        stub = dapr_pb2_grpc.DaprStub(channel)
        lanes = setup.names.lanes(RAW_GROUP, TOPIC)
        tasks = [asyncio.create_task(stream(stub, lane)) for lane in lanes]
        try:
            await until(lambda: count >= total, seconds=120, what=f"{total} events, {count} came")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return total / (times[-1] - times[1])


async def kafka(folder: Path, count: int, quick: bool) -> list[Row]:
    async with KafkaServer() as server:
        settings = {"brokers": server.brokers, "authType": "none"}
        setup = Setup(folder, _component("pubsub.kafka", settings), lanes=2)
        await server.create_topic(setup.names.topic(TOPIC), 4)
        async with setup.daprd, setup.raw:
            raw_published = await raw_publish(setup, count)
            published, consumed = await ours(setup, count)
            # The raw group reads all that both have published, and the first one.
            raw_consumed = await raw_consume_bulk(setup, 2 * count + 1)
    least = min(8_000.0, 0.6 * raw_consumed)
    return [
        row("kafka: raw bulk publish", raw_published, "events/s"),
        row("kafka: dapr bus publish", published, "events/s", least=None if quick else 15_000),
        row("kafka: raw bulk callback", raw_consumed, "events/s"),
        row("kafka: dapr bus consume", consumed, "events/s", least=None if quick else least),
    ]


async def jetstream(folder: Path, count: int, quick: bool) -> list[Row]:
    async with NatsServer(folder / "nats") as server:
        setup = Setup(folder, _component("pubsub.jetstream", {"natsURL": server.url}), lanes=8)
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="ofevents", subjects=["ofevents.>"])
        await client.close()
        async with setup.daprd, setup.raw:
            raw_published = await raw_publish(setup, count)
            published, consumed = await ours(setup, count)
            raw_consumed = await raw_consume_streams(setup, 2 * count)
    return [
        row("jetstream: raw bulk publish", raw_published, "events/s"),
        row("jetstream: dapr bus publish", published, "events/s", least=None if quick else 6_000),
        row("jetstream: raw streams", raw_consumed, "events/s"),
        row("jetstream: dapr bus consume", consumed, "events/s", least=None if quick else 1_500),
    ]


def _component(type: str, settings: dict[str, str]) -> dict[str, Any]:
    return {"type": type, "metadata": [{"name": k, "value": v} for k, v in settings.items()]}


def run(*, quick: bool) -> list[Row]:
    """The figures, ours beside the raw loops'."""
    rows: list[Row] = []
    for stage, count in ((kafka, 40_000), (jetstream, 10_000)):
        with tempfile.TemporaryDirectory() as folder:
            rows += asyncio.run(stage(Path(folder), 2_000 if quick else count, quick))
    return rows
