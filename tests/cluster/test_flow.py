"""The main jobs on a real cluster, written as users write them and applied with kubectl."""

from __future__ import annotations

import json
import uuid

import pytest

from tests.cluster.shop import Nats, Shop
from tests.servers import until
from tests.servers.kafka import KafkaServer
from tests.servers.sink import Sink

pytestmark = [pytest.mark.cluster, pytest.mark.server("kubernetes"), pytest.mark.timeout(180)]


def orders(count: int, start: int = 0) -> list[dict[str, bytes]]:
    return [
        {"value": json.dumps({"number": number, "amount": number}).encode()}
        for number in range(start, start + count)
    ]


def bus(url: str, kind: str = "EventBus", name: str = "default", stream: str = "") -> str:
    return f"""
apiVersion: events.openfunction.io/v1alpha1
kind: {kind}
metadata: {{name: {name}}}
spec:
  jetstream: {{url: "{url}", stream: "{stream or uuid.uuid4().hex[:8]}"}}
"""


async def test_kafka_to_bus_to_function_and_topic(
    shop: Shop, kafka: KafkaServer, nats: Nats
) -> None:
    topic = f"orders-{uuid.uuid4().hex[:8]}"
    await kafka.create_topic(topic, 3)
    async with Sink() as charge, Sink() as audit:
        await shop.serve("audit", audit.url)
        await shop.apply(
            f"""
{bus(nats.url)}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {{name: shop}}
spec:
  eventBus: default
  kafka:
    orders: {{brokers: "{kafka.brokers}", topic: {topic}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {{name: big}}
spec:
  eventBus: default
  inputs:
    orders: {{eventSource: shop, event: orders}}
  subscribers:
  - name: charge
    condition: orders && event.data.amount >= 50
    sink: {{uri: "{charge.url}"}}
  - name: copy
    condition: orders
    topic: copies
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {{name: copies}}
spec:
  eventBus: default
  inputs:
    copies: {{topic: copies}}
  subscribers:
  - name: audit
    sink:
      ref: {{apiVersion: v1, kind: Service, name: audit}}
"""
        )
        await shop.ready("eventbus/default", "eventsource/shop", "trigger/big", "trigger/copies")
        await kafka.produce(topic, orders(100))
        await until(lambda: len(audit.seen) >= 100, seconds=30, what="all copies at audit")
        await until(lambda: len(charge.seen) >= 50, seconds=30, what="the big ones at charge")
        assert sorted(event.value["number"] for event in charge.events) == list(range(50, 100))
        assert sorted(event.value["number"] for event in audit.events) == list(range(100))
