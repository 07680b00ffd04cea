"""A source and an EventBus of Dapr, in both modes that OpenFunction has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.dapr import flowing
from tests.cluster.orders import numbers, orders
from tests.cluster.shop import Shop
from tests.servers.kafka import KafkaServer

pytestmark = [pytest.mark.cluster, pytest.mark.server("kubernetes"), pytest.mark.timeout(400)]


@pytest.mark.parametrize(
    ("mode", "type"), [("sidecar", "pubsub.kafka"), ("standalone", "pubsub.jetstream")]
)
async def test_a_flow_over_dapr(
    shop: Shop, kafka: KafkaServer, tmp_path: Path, mode: str, type: str
) -> None:
    async with flowing(shop, kafka, tmp_path, mode, type) as (name, sink):
        await shop.ready("eventbus/default", "eventsource/shop", "trigger/billing")
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
