"""KEDA takes sources from nothing to workers and back, by what their origins hold, or the clock."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aio_pika
import nats as nats_py
import pytest
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelNotFoundEntity
from nats.js import JetStreamContext
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tests.cluster.manifests import EVENTS, SCALE, webhook
from tests.cluster.shop import Nats, Shop
from tests.servers import until
from tests.servers.kafka import KafkaServer
from tests.servers.rabbitmq import RabbitmqServer
from tests.servers.redis import RedisServer
from tests.servers.sink import Sink

pytestmark = [pytest.mark.cluster, pytest.mark.server("keda"), pytest.mark.timeout(600)]
COUNT = 20
KINDS = ("kafka", "nats", "rabbitmq", "redis")


def bodies(kind: str) -> list[bytes]:
    return [json.dumps({"kind": kind, "number": number}).encode() for number in range(COUNT)]


class Made:
    """What the first worker of a source makes, each by the name of the test's topic."""

    def __init__(
        self, name: str, rabbit: AbstractConnection, stream: JetStreamContext, store: Redis
    ) -> None:
        self._name = name
        self._rabbit = rabbit
        self._stream = stream
        self._store = store

    async def take_away(self) -> None:
        """As where it was put to sleep before it had made them."""
        async with self._rabbit.channel() as channel:
            await channel.queue_delete(self._name)
        for consumer in await self._stream.consumers_info(self._name):
            await self._stream.delete_consumer(self._name, consumer.name)
        for group in await self._groups():
            await self._store.xgroup_destroy(self._name, group["name"])

    async def missing(self) -> set[str]:
        """The sources whose own is not there."""
        there = {
            "rabbitmq": await self._has_queue(),
            "nats": bool(await self._stream.consumers_info(self._name)),
            "redis": bool(await self._groups()),
        }
        return {kind for kind, found in there.items() if not found}

    async def _has_queue(self) -> bool:
        channel = await self._rabbit.channel()
        try:
            await channel.get_queue(self._name, ensure=True)
        except ChannelNotFoundEntity:
            return False
        await channel.close()
        return True

    async def _groups(self) -> list[Any]:
        try:
            found: list[Any] = await self._store.xinfo_groups(self._name)
        except ResponseError:  # not even the stream is there
            return []
        return found


def by_the_clock(sink: Sink) -> str:
    """A source that works from the minute before now to one that is soon."""
    now = datetime.now(UTC)
    start, end = now - timedelta(minutes=1), now + timedelta(minutes=3)
    window = f'start: "{start:%M %H} * * *", end: "{end:%M %H} * * *"'
    clock = f'{window}, timezone: UTC, desiredReplicas: "2"'
    return webhook("clock", sink.url, f"scaleOption: {{{SCALE}, metadata: {{{clock}}}}}")


@pytest.mark.usefixtures("scaler")
async def test_sources_follow_their_lag(
    shop: Shop, kafka: KafkaServer, nats: Nats, tmp_path: Path
) -> None:
    name = f"orders-{uuid.uuid4().hex[:8]}"
    await kafka.create_topic(name, 1)
    async with (
        await nats_py.connect(nats.url) as client,
        # A Pod is not on their loopback, as which they trust anybody.
        RabbitmqServer(extra="loopback_users.guest = false") as rabbit,
        RedisServer(tmp_path / "redis", extra=["protected-mode no"]) as store,
        Redis.from_url(f"redis://{store.address}") as entries,
        Sink() as sink,
    ):
        stream = client.jetstream()
        await stream.add_stream(name=name, subjects=[name], max_bytes=1 << 20)
        await shop.apply(
            f"""
apiVersion: {EVENTS}
kind: EventSource
metadata: {{name: shop}}
spec:
  sink: {{uri: "{sink.url}"}}
  kafka:
    kafka: {{brokers: "{kafka.brokers}", topic: {name}, scaleOption: {{{SCALE}}}}}
  nats:
    nats:
      url: {nats.url}
      jetstream: {{stream: {name}}}
      scaleOption: {{{SCALE}, metadata: {{natsServerMonitoringEndpoint: "{nats.monitoring}"}}}}
  rabbitmq:
    rabbitmq: {{url: "{rabbit.url}", queue: {name}, scaleOption: {{{SCALE}}}}}
  redis:
    redis: {{redisHost: "{store.address}", stream: {name}, scaleOption: {{{SCALE}}}}}
---{by_the_clock(sink)}"""
        )
        await shop.has("clock", 2)
        await shop.becomes("eventsource", "shop", reason="ScaledToZero")
        await shop.without_pods("shop")

        async with await aio_pika.connect(rabbit.url) as connection:
            made = Made(name, connection, stream, entries)
            await made.take_away()
            left = {*KINDS}

            async def again() -> bool:
                await asyncio.sleep(0.2)
                left.clear()
                left.update(await made.missing())
                return not left

            try:
                await until(again, seconds=120, what="all again that a worker makes")
            except TimeoutError as error:
                raise AssertionError(f"{error}; nothing of {sorted(left)}") from None
            await shop.becomes("eventsource", "shop", reason="ScaledToZero")
            # One that is ending would take what comes, and give it back in the middle of a call.
            await shop.without_pods("shop")
            channel = await connection.channel()
            for body in bodies("rabbitmq"):
                await channel.default_exchange.publish(aio_pika.Message(body), routing_key=name)
        await kafka.produce(name, [{"value": body} for body in bodies("kafka")])
        for body in bodies("nats"):
            await stream.publish(name, body)
        for body in bodies("redis"):
            await entries.xadd(name, {"data": body})

        def arrived() -> Counter[str]:
            seen = {(each.value["kind"], each.value["number"]) for each in sink.events}
            return Counter(kind for kind, _ in seen)

        everything = Counter(dict.fromkeys(KINDS, COUNT))
        try:
            await until(lambda: arrived() == everything, seconds=120, what="all at the function")
        except TimeoutError as error:
            raise AssertionError(f"{error}: {arrived()}") from None
        await shop.becomes("eventsource", "shop", reason="ScaledToZero")
        await shop.has("shop", 0)
        await shop.becomes("eventsource", "clock", reason="ScaledToZero", seconds=180)
        # What a worker that leaves has in hand may come twice; a lost position brings all again.
        calls = Counter((each.value["kind"], each.value["number"]) for each in sink.events)
        twice = Counter(kind for (kind, _), count in calls.items() if count > 1)
        sys.stdout.write(f"twice: {dict(twice)} of {COUNT} each (at most {COUNT // 4})\n")
        assert max(twice.values(), default=0) <= COUNT // 4
        assert max(calls.values()) <= 2
