"""KEDA takes a Trigger from nothing to several workers and back, and nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.cluster.manifests import SCALE, bus
from tests.cluster.orders import orders, seen, topic
from tests.cluster.shop import Nats, Shop, part_of
from tests.servers import HOST, free_port, until
from tests.servers.kafka import KafkaServer
from tests.servers.sink import Answer, Seen, Sink

pytestmark = [pytest.mark.cluster, pytest.mark.server("keda"), pytest.mark.timeout(600)]


def manifests(kafka: KafkaServer, nats: Nats, topics: Sequence[str], triggers: str) -> str:
    """A bus that KEDA can look into, and a source with an event for each topic."""
    events = "".join(
        f'    {topic.partition("-")[0]}: {{brokers: "{kafka.brokers}", topic: {topic}}}\n'
        for topic in topics
    )
    return f"""{bus(nats.url, monitoring=nats.monitoring)}
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {{name: shop}}
spec:
  eventBus: default
  kafka:
{events}---
{triggers}"""


@pytest.mark.usefixtures("scaler")
async def test_a_trigger_follows_its_lag(shop: Shop, kafka: KafkaServer, nats: Nats) -> None:
    name = await topic(kafka)
    most = 0

    def answer(_: Seen) -> Answer:
        """Too slow for one worker: it alone would need longer than a second takes to come."""
        return Answer(delay=2.0 if most < 2 else 0.4)

    async with Sink(answer=answer) as charge:
        trigger = f"""
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {{name: charge}}
spec:
  eventBus: default
  inputs:
    orders: {{eventSource: shop, event: orders}}
  subscribers:
  - name: charge
    sink: {{uri: "{charge.url}"}}
    delivery: {{concurrency: 4}}
  scaleOption: {{{SCALE}}}
"""
        await shop.apply(manifests(kafka, nats, [name], trigger))
        await shop.ready("eventsource/shop")
        await shop.becomes("trigger", "charge", reason="ScaledToZero")
        await shop.without_pods("charge")

        await kafka.produce(name, orders(200))
        for each in range(200, 300):  # the stream goes on while workers come
            await kafka.produce(name, orders(1, start=each))
            most = max(most, await shop.workers("charge"))
            await asyncio.sleep(0.05)  # the stream's pace

        async def several() -> bool:
            nonlocal most
            most = max(most, await shop.workers("charge"))
            return seen(charge) == set(range(300))

        await until(several, seconds=150, what="all 300 at the function")
        assert most >= 2
        await shop.becomes("trigger", "charge", reason="ScaledToZero")
        await shop.has("charge", 0)
        # What a worker that leaves has in hand is given back: at most that comes twice.
        assert len(charge.events) <= 300 + most * 4


@pytest.mark.usefixtures("scaler")
async def test_neither_an_inbox_nor_an_open_join_is_left_alone(
    shop: Shop, kafka: KafkaServer, nats: Nats
) -> None:
    placed, paid = await topic(kafka), await topic(kafka, event="payments")
    async with Sink() as charge, Sink() as both:
        triggers = f"""
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {{name: charge}}
spec:
  eventBus: default
  inputs:
    orders: {{eventSource: shop, event: orders}}
  subscribers:
  - name: charge
    sink: {{uri: "{charge.url}"}}
    delivery: {{retries: 3, backoff: 500ms, maxBackoff: 2s}}
  scaleOption: {{{SCALE}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {{name: pair}}
spec:
  eventBus: default
  window: 10m
  inputs:
    orders: {{eventSource: shop, event: orders, joinBy: event.data.number}}
    payments: {{eventSource: shop, event: payments, joinBy: event.data.number}}
  subscribers:
  - name: both
    condition: orders && payments
    sink: {{uri: "{both.url}"}}
  scaleOption: {{{SCALE}}}
"""
        await shop.apply(manifests(kafka, nats, [placed, paid], triggers))
        await shop.ready("eventsource/shop")
        for name in ("charge", "pair"):
            await shop.becomes("trigger", name, reason="ScaledToZero")
            # The first one, which KEDA ended at once, would take the orders from it unseen.
            await shop.without_pods(name)

        await charge.stop()
        await kafka.produce(placed, orders(20))

        awake: set[str] = set()

        async def woken() -> bool:
            # The one may sleep again before the other is up, and before it is told Ready:
            # its work is done in a second, and its readiness is asked for every five.
            for name in ("charge", "pair"):
                if await shop.pods(part_of(name)):
                    awake.add(name)
            return awake == {"charge", "pair"}

        await until(woken, seconds=120, what="both have had a worker")
        # The half-met conditions are in the store, and keep nobody awake.
        await shop.without_pods("pair")
        await shop.becomes("trigger", "pair", reason="ScaledToZero")
        # What waits in the inbox does: KEDA's cooldown is long over.
        assert await shop.pods(part_of("charge"))
        await charge.start()
        await until(lambda: seen(charge) == set(range(20)), seconds=120, what="all at charge")
        await shop.becomes("trigger", "charge", reason="ScaledToZero")

        await kafka.produce(paid, orders(20))
        await until(lambda: seen(both) == set(range(20)), seconds=120, what="all joins fire")
        await shop.becomes("trigger", "pair", reason="ScaledToZero")


@pytest.mark.usefixtures("scaler")
async def test_where_keda_sees_no_lag_a_worker_runs(
    shop: Shop, kafka: KafkaServer, nats: Nats
) -> None:
    name, nobody = await topic(kafka), f"{HOST}:{free_port()}"
    async with Sink() as charge:
        trigger = f"""
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {{name: charge}}
spec:
  eventBus: default
  inputs:
    orders: {{eventSource: shop, event: orders}}
  subscribers:
  - sink: {{uri: "{charge.url}"}}
  scaleOption: {{{SCALE}}}
"""
        await shop.apply(manifests(kafka, nats._replace(monitoring=nobody), [name], trigger))
        await shop.ready("eventsource/shop")
        await shop.has("charge", 1)
        await shop.becomes("trigger", "charge", "Warning", reason="LagUnknown")
        before = {pod["metadata"]["uid"] for pod in await shop.pods(part_of("charge"))}
        # As KEDA does by mistake when a look fails in the wrong moment.
        await shop.kubectl("scale", "deployment", "--replicas=0", "-l", part_of("charge"))

        async def another() -> bool:
            await asyncio.sleep(0.2)
            now = {pod["metadata"]["uid"] for pod in await shop.pods(part_of("charge"))}
            return bool(now) and not now & before

        await until(another, seconds=120, what="KEDA runs another one")
        await kafka.produce(name, orders(10))
        await until(lambda: seen(charge) == set(range(10)), seconds=120, what="all at the function")
