"""The raw loops on Dapr: the stubs that the SDK brings, and the SDK as its manual shows it.

Called by `bench.dapr` (the bus) and `bench.raw_sources` (the source). The loops on the
stubs are the fastest use of a sidecar that a careful person would write by hand: bulk
calls of prebuilt events, or a stream per component. The loops on the plain SDK are what
most programs have: one `publish_event` per event, and `subscribe`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from dapr.aio.clients import DaprClient
from dapr.conf import settings
from dapr.proto.runtime.v1 import (
    appcallback_pb2,
    appcallback_pb2_grpc,
    dapr_pb2_grpc,
    pubsub_pb2,
)

from tests.servers import until
from tests.servers.daprd import Daprd

CLOUDEVENT = "application/cloudevents+json"
SINGLE = 100
"""Calls of the plain SDK at a time."""


async def together(calls: Sequence[Callable[[], Awaitable[object]]], most: int) -> float:
    """Await them, `most` at a time; seconds."""
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(most)))
    return time.perf_counter() - began


async def publish_bulk(
    address: str, pubsub: str, topic: str, bodies: list[bytes], *, size: int, most: int
) -> float:
    """Events per second, by bulk publishes of `size` events, `most` at a time."""
    entries = [
        pubsub_pb2.BulkPublishRequestEntry(
            entry_id=str(n % size), event=body, content_type=CLOUDEVENT
        )
        for n, body in enumerate(bodies)
    ]
    async with grpc.aio.insecure_channel(address) as channel:
        stub = dapr_pb2_grpc.DaprStub(channel)
        requests = [
            pubsub_pb2.BulkPublishRequest(
                pubsub_name=pubsub,
                topic=topic,
                entries=entries[at : at + size],
                metadata={"rawPayload": "true"},
            )
            for at in range(0, len(entries), size)
        ]
        calls = [lambda one=one: stub.BulkPublishEventAlpha1(one) for one in requests]
        return len(bodies) / await together(calls, most)


class Callback(
    appcallback_pb2_grpc.AppCallbackServicer,
    appcallback_pb2_grpc.AppCallbackAlphaServicer,
    appcallback_pb2_grpc.AppCallbackHealthCheckServicer,
):
    """Acknowledges whole batches, once `take` has returned.

    Args:
        subscriptions: to read, beside those that the sidecar has in its files.
    """

    def __init__(self, take: Callable[[list[bytes]], Awaitable[None]], *subscriptions: Any) -> None:
        self._take = take
        self._subscriptions = subscriptions

    async def ListTopicSubscriptions(self, request: Any, context: Any) -> Any:
        return appcallback_pb2.ListTopicSubscriptionsResponse(subscriptions=self._subscriptions)

    async def HealthCheck(self, request: Any, context: Any) -> Any:
        return appcallback_pb2.HealthCheckResponse()

    async def ListInputBindings(self, request: Any, context: Any) -> Any:
        return appcallback_pb2.ListInputBindingsResponse()

    async def OnBulkTopicEventAlpha1(self, request: Any, context: Any) -> Any:
        await self._take([one.bytes for one in request.entries])
        entry = appcallback_pb2.TopicEventBulkResponseEntry
        return appcallback_pb2.TopicEventBulkResponse(
            statuses=[entry(entry_id=one.entry_id) for one in request.entries]
        )

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[None]:
        server = grpc.aio.server()
        appcallback_pb2_grpc.add_AppCallbackServicer_to_server(self, server)
        appcallback_pb2_grpc.add_AppCallbackAlphaServicer_to_server(self, server)
        appcallback_pb2_grpc.add_AppCallbackHealthCheckServicer_to_server(self, server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        try:
            yield
        finally:
            await server.stop(None)


def bulk(pubsub: str, topic: str, *, most: int, wait_ms: int) -> Any:
    """A subscription in batches of the bytes as they are at the broker."""
    return appcallback_pb2.TopicSubscription(
        pubsub_name=pubsub,
        topic=topic,
        metadata={"rawPayload": "true"},
        bulk_subscribe=appcallback_pb2.BulkSubscribeConfig(
            enabled=True, max_messages_count=most, max_await_duration_ms=wait_ms
        ),
    )


async def consume_bulk(port: int, total: int) -> float:
    """Events per second, by the callback, of what the sidecar has in its files."""
    count, times = 0, []

    async def take(bodies: list[bytes]) -> None:
        nonlocal count
        count += len(bodies)
        times.append(time.perf_counter())

    async with Callback(take).listening(port):
        await until(lambda: count >= total, seconds=120, what=f"{total} events by bulk callback")
    return total / (times[-1] - times[0])


async def consume_streams(address: str, pubsubs: Sequence[str], topic: str, total: int) -> float:
    """Events per second, by one stream per component, acknowledged at once."""
    count, times = 0, []
    request = pubsub_pb2.SubscribeTopicEventsRequestAlpha1

    async def stream(stub: Any, pubsub: str) -> None:
        nonlocal count
        call = stub.SubscribeTopicEventsAlpha1()
        first = pubsub_pb2.SubscribeTopicEventsRequestInitialAlpha1(
            pubsub_name=pubsub, topic=topic, metadata={"rawPayload": "true"}
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

    async with grpc.aio.insecure_channel(address) as channel:
        stub = dapr_pb2_grpc.DaprStub(channel)
        tasks = [asyncio.create_task(stream(stub, pubsub)) for pubsub in pubsubs]
        try:
            await until(lambda: count >= total, seconds=120, what=f"{total} events by streams")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return total / (times[-1] - times[0])


async def sdk(daprd: Daprd, pubsub: str, topic: str, bodies: list[bytes]) -> tuple[float, float]:
    """Events per second of the plain SDK: published one per call, and consumed by `subscribe`."""
    settings.DAPR_HTTP_PORT = daprd.http  # where the client waits for the sidecar
    async with DaprClient(daprd.address) as client:
        calls = [
            lambda body=body: client.publish_event(
                pubsub, topic, body, data_content_type=CLOUDEVENT
            )
            for body in bodies
        ]
        published = len(bodies) / await together(calls, SINGLE)
        times = []
        subscription = await client.subscribe(pubsub, topic)
        try:
            async with asyncio.timeout(120):
                while len(times) < len(bodies):
                    message = await subscription.next_message()
                    assert isinstance(message.data(), dict), f"not decoded: {message.raw_data()!r}"
                    times.append(time.perf_counter())
                    await subscription.respond_success(message)
        finally:
            await subscription.close()
    return published, len(bodies) / (times[-1] - times[0])
