"""ofevents goes from a cluster, and comes back; last, as all others need it."""

from __future__ import annotations

import uuid

import nats as nats_client
import pytest

from tests.cluster.manifests import EVENTS, bus, webhook
from tests.cluster.orders import numbers, orders, topic
from tests.cluster.shop import Nats, Shop
from tests.servers import until
from tests.servers.kafka import KafkaServer
from tests.servers.kube_ofevents import install, ofevents
from tests.servers.sink import Sink

pytestmark = [pytest.mark.cluster, pytest.mark.server("kubernetes"), pytest.mark.timeout(400)]
REPLICAS = ("--replicas", "1", "--timeout", "90s")


async def gone(shop: Shop) -> None:
    """Wait until the controller's namespace is."""

    async def looked() -> bool:
        found = await shop.node.call("GET", "/api/v1/namespaces")
        return all(each["metadata"]["name"] != "ofevents-system" for each in found["items"])

    await until(looked, seconds=60, what="the controller's namespace is gone")


async def childless(shop: Shop) -> bool:
    mine = ("-l", "app.kubernetes.io/managed-by=ofevents", "--ignore-not-found")
    return not (await shop.kubectl("get", "deployments,pods,configmaps,services", *mine)).strip()


async def test_workers_go_on_without_a_controller_and_go_with_the_crds(
    shop: Shop, kafka: KafkaServer, nats: Nats
) -> None:
    name, stream = await topic(kafka), uuid.uuid4().hex[:8]
    async with Sink() as sink:
        await shop.apply(
            f"""{bus(nats.url, stream=stream)}
apiVersion: {EVENTS}
kind: EventSource
metadata: {{name: shop}}
spec:
  eventBus: default
  kafka:
    orders: {{brokers: "{kafka.brokers}", topic: {name}}}
---
apiVersion: {EVENTS}
kind: Trigger
metadata: {{name: billing}}
spec:
  eventBus: default
  inputs:
    orders: {{eventSource: shop, event: orders}}
  subscribers:
  - name: charge
    sink: {{uri: "{sink.url}"}}
"""
        )
        await shop.ready("eventsource/shop", "trigger/billing")
        before = {pod["metadata"]["uid"] for pod in await shop.pods()}
        try:
            await ofevents(shop.node, "uninstall")
            await gone(shop)
            await kafka.produce(name, orders(50))
            assert await numbers(sink, 50) == list(range(50))
            await install(shop.node, *REPLICAS)
            # What was there is Ready all the time: the new controller has looked at it when
            # it has made something else.
            await shop.apply(webhook("later", sink.url))
            await shop.ready("eventsource/shop", "trigger/billing", "eventsource/later")
            own = "events.openfunction.io/owner-name!=later"
            assert before == {pod["metadata"]["uid"] for pod in await shop.pods(own)}

            await ofevents(shop.node, "uninstall", "--crds", "--yes", "--timeout", "60s")
            await gone(shop)
            await until(lambda: childless(shop), seconds=90, what="nothing is left of them")
            crds = await shop.kubectl("get", "customresourcedefinitions", "-o", "name")
            assert "events.openfunction.io" not in crds
            client = await nats_client.connect(nats.url)
            streams = await client.jetstream().streams_info()
            await client.close()
            counts = {
                each.config.name: each.state.consumer_count
                for each in streams
                if str(each.config.name).startswith(stream)
            }
            assert counts and not any(counts.values()), counts
        finally:
            await install(shop.node, *REPLICAS)
