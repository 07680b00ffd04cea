"""A flow over an EventBus of Dapr: a real daprd beside each worker, or in a Pod of its own.

Dapr's own control plane is not here; what it does to a Pod is done by the tests, see
tests/servers/kube_dapr.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
from confluent_kafka import Consumer, TopicPartition

from ofevents.bus import topics
from ofevents.bus.dapr_components import Names
from ofevents.bus.dapr_options import read_options
from tests.cluster.manifests import EVENTS
from tests.cluster.orders import topic
from tests.cluster.shop import Shop
from tests.servers.kafka import KafkaServer
from tests.servers.kube_dapr import Injector
from tests.servers.nats import NatsServer
from tests.servers.redis import RedisServer
from tests.servers.sink import Sink

PARTITIONS = 2


@asynccontextmanager
async def pubsub(
    type: str, kafka: KafkaServer, namespace: str, folder: Path
) -> AsyncIterator[dict[str, str]]:
    """The settings of a component, whose broker has what somebody has to create there."""
    if type == "pubsub.jetstream":
        async with NatsServer(folder / "nats") as server:
            client = await nats.connect(server.url)
            await client.jetstream().add_stream(name="ofevents", subjects=["ofevents.>"])
            await client.close()
            yield {"natsURL": server.url}
        return
    for each in (
        topics.event(namespace, "shop", "orders"),
        topics.inbox(namespace, "billing", "charge"),
        topics.dead(namespace, "billing"),
        topics.dead(namespace, "source/shop"),
    ):
        await kafka.create_topic(_at_broker(each), PARTITIONS)
    yield {"brokers": kafka.brokers, "authType": "none"}


def inbox(namespace: str, trigger: str, subscriber: str) -> str:
    """Its topic at Kafka."""
    return _at_broker(topics.inbox(namespace, trigger, subscriber))


def _at_broker(topic: str) -> str:
    options = read_options({"pubsub": {"type": "pubsub.kafka", "metadata": []}})
    return Names(options, "default").topic(topic)


async def holds(kafka: KafkaServer, topic: str) -> bool:
    """Whether something has been published there."""

    def looked() -> bool:
        consumer = Consumer({"bootstrap.servers": kafka.brokers, "group.id": "looks"})
        try:
            ends = [
                consumer.get_watermark_offsets(TopicPartition(topic, each), timeout=10)[1]
                for each in range(PARTITIONS)
            ]
        finally:
            consumer.close()
        return any(ends)

    await asyncio.sleep(0.2)
    return await asyncio.to_thread(looked)


@asynccontextmanager
async def flowing(
    shop: Shop, kafka: KafkaServer, folder: Path, mode: str, type: str, scale: str = ""
) -> AsyncIterator[tuple[str, Sink]]:
    """A source and a Trigger of a bus of that type: the topic to feed, and the function."""
    name = await topic(kafka)
    async with (
        Injector(shop.node, shop.namespace),
        pubsub(type, kafka, shop.namespace, folder) as settings,
        RedisServer(folder / "redis", extra=["protected-mode no"]) as redis,
        Sink() as sink,
    ):
        lines = "".join(f"\n      - {{name: {k}, value: '{v}'}}" for k, v in settings.items())
        await shop.apply(
            f"""
apiVersion: v1
kind: Secret
metadata: {{name: redis}}
stringData: {{host: "{redis.address}"}}
---
apiVersion: {EVENTS}
kind: EventBus
metadata: {{name: default}}
spec:
  dapr:
    pubsub:
      type: {type}
      version: v1
      metadata: {lines}
    state:
      type: state.redis
      version: v1
      metadata:
      - name: redisHost
        secretKeyRef: {{name: redis, key: host}}
---
apiVersion: {EVENTS}
kind: EventSource
metadata:
  name: shop
  annotations: {{openfunction.io/dapr-service-mode: {mode}}}
spec:
  eventBus: default
  dapr:
    orders:
      topic: {name}
      component:
        type: pubsub.kafka
        version: v1
        metadata:
        - {{name: brokers, value: "{kafka.brokers}"}}
        - {{name: authType, value: none}}
---
apiVersion: {EVENTS}
kind: Trigger
metadata:
  name: billing
  annotations: {{openfunction.io/dapr-service-mode: {mode}}}
spec:
  eventBus: default
  inputs:
    orders: {{eventSource: shop, event: orders}}
  subscribers:
  - name: charge
    condition: orders && event.data.amount >= 50
    sink: {{uri: "{sink.url}"}}
  {scale}
"""
        )
        yield name, sink
