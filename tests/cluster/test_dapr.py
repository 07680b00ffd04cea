"""A source and an EventBus of Dapr: a real daprd beside each worker, or in a Pod of its own.

Dapr's own control plane is not here; what it does to a Pod is done by the tests, see
tests/servers/kube_dapr.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest

from ofevents.bus import topics
from ofevents.bus.dapr_components import Names
from ofevents.bus.dapr_options import read_options
from tests.cluster.manifests import EVENTS
from tests.cluster.orders import numbers, orders, topic
from tests.cluster.shop import Shop
from tests.servers.kafka import KafkaServer
from tests.servers.kube_dapr import Injector
from tests.servers.nats import NatsServer
from tests.servers.redis import RedisServer
from tests.servers.sink import Sink

pytestmark = [pytest.mark.cluster, pytest.mark.server("kubernetes"), pytest.mark.timeout(400)]


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
    settings = {"brokers": kafka.brokers, "authType": "none"}
    metadata = [{"name": name, "value": value} for name, value in settings.items()]
    names = Names(read_options({"pubsub": {"type": type, "metadata": metadata}}), "default")
    for each in (
        topics.event(namespace, "shop", "orders"),
        topics.inbox(namespace, "billing", "charge"),
        topics.dead(namespace, "billing"),
        topics.dead(namespace, "source/shop"),
    ):
        await kafka.create_topic(names.topic(each), 2)
    yield settings


@pytest.mark.parametrize(
    ("mode", "type"), [("sidecar", "pubsub.kafka"), ("standalone", "pubsub.jetstream")]
)
async def test_a_flow_over_dapr(
    shop: Shop, kafka: KafkaServer, tmp_path: Path, mode: str, type: str
) -> None:
    name = await topic(kafka)
    async with (
        Injector(shop.node, shop.namespace),
        pubsub(type, kafka, shop.namespace, tmp_path) as settings,
        RedisServer(tmp_path / "redis", extra=["protected-mode no"]) as redis,
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
"""
        )
        await shop.ready("eventbus/default", "eventsource/shop", "trigger/billing", seconds=90)
        beside = {
            (
                len(pod["spec"]["containers"]),
                "dapr" in pod["metadata"]["labels"]["app.kubernetes.io/name"],
            )
            for pod in await shop.pods("app.kubernetes.io/managed-by=ofevents")
        }
        assert beside == ({(2, False)} if mode == "sidecar" else {(1, False), (2, True)})
        await kafka.produce(name, orders(100))
        assert await numbers(sink, 50) == list(range(50, 100))
        # A worker that goes, with its daprd, loses nothing and what comes later arrives.
        await shop.kubectl("delete", "pods", "-l", "events.openfunction.io/owner-name=billing")
        await kafka.produce(name, orders(100, start=100))
        assert await numbers(sink, 150, seconds=120) == list(range(50, 200))
