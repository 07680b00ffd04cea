"""KEDA takes a Trigger on Dapr's Kafka from nothing to workers and back, each with its daprd."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.cluster.dapr import flowing, holds, inbox
from tests.cluster.manifests import SCALE
from tests.cluster.orders import numbers, orders
from tests.cluster.shop import Shop
from tests.servers import until
from tests.servers.kafka import KafkaServer

pytestmark = [pytest.mark.cluster, pytest.mark.server("keda"), pytest.mark.timeout(600)]


@pytest.mark.parametrize("mode", ["sidecar", "standalone"])
@pytest.mark.usefixtures("scaler")
async def test_a_trigger_on_dapr_follows_the_lag_of_its_groups(
    shop: Shop, kafka: KafkaServer, tmp_path: Path, mode: str
) -> None:
    # Its first worker is ended before it can tell the store where it begins.
    at_once = SCALE.replace("cooldownPeriod: 5", "cooldownPeriod: 1")
    scale = f"scaleOption: {{{at_once}}}"
    async with flowing(shop, kafka, tmp_path, mode, "pubsub.kafka", scale) as (name, sink):
        await shop.ready("eventbus/default", "eventsource/shop")
        wanted: set[int] = set()
        for start in (0, 100):  # the first time without a group, then by what it has committed
            await shop.becomes("trigger", "billing", reason="ScaledToZero")
            await shop.without_pods("billing")
            await kafka.produce(name, orders(100, start=start))
            wanted |= {each for each in range(start, start + 100) if each >= 50}
            assert await numbers(sink, len(wanted)) == sorted(wanted)
        await shop.becomes("trigger", "billing", reason="ScaledToZero")
        await shop.without_pods("billing")

        # What waits for its function has been read: its inbox alone needs a worker then.
        await sink.stop()
        await kafka.produce(name, orders(100, start=200))
        owed = partial(holds, kafka, inbox(shop.namespace, "billing", "charge"))
        await until(owed, seconds=120, what="something is in the inbox")
        await sink.start()
        wanted |= set(range(200, 300))
        assert await numbers(sink, len(wanted)) == sorted(wanted)
        await shop.becomes("trigger", "billing", reason="ScaledToZero")
        await shop.without_pods("billing")
