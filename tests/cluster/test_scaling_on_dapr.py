"""KEDA takes a Trigger on Dapr's Kafka to several workers, each with its daprd, and never to none:
what waits for its function is in the state store, where KEDA does not see it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.dapr import flowing, holds, inbox
from tests.cluster.manifests import SCALE
from tests.cluster.orders import numbers, orders
from tests.cluster.shop import Shop
from tests.servers import until
from tests.servers.kafka import KafkaServer
from tests.servers.sink import Answer

pytestmark = [pytest.mark.cluster, pytest.mark.server("keda"), pytest.mark.timeout(600)]


@pytest.mark.usefixtures("scaler")
async def test_a_trigger_on_dapr_follows_the_lag_of_its_groups(
    shop: Shop, kafka: KafkaServer, tmp_path: Path
) -> None:
    scale = f"scaleOption: {{{SCALE}}}"
    async with flowing(shop, kafka, tmp_path, "sidecar", "pubsub.kafka", scale) as (name, sink):
        await shop.ready("eventbus/default", "eventsource/shop", "trigger/billing")
        told = await shop.becomes("trigger", "billing", "Warning", reason="KeptAwake")
        assert "state store" in told["message"]

        sink.answer = lambda _: Answer(delay=2.0)
        await kafka.produce(name, orders(200))

        async def several() -> bool:
            await asyncio.sleep(0.2)
            return await shop.workers("billing") >= 2

        await until(several, seconds=120, what="a second worker")
        sink.answer = lambda _: Answer()
        assert await numbers(sink, 150) == list(range(50, 200))

        # Between its tries it is no lag: without a worker it would wait for the next event.
        await sink.stop()
        await kafka.produce(name, orders(100, start=200))
        owed = partial(holds, kafka, inbox(shop.namespace, "billing", "charge"))
        await until(owed, seconds=120, what="something is in the inbox")
        await sink.start()
        assert await numbers(sink, 250) == list(range(50, 300))
        assert await shop.pods("events.openfunction.io/owner-name=billing")
