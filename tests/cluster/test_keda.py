"""KEDA scales a Deployment from nothing to several and back, by what a consumer is behind."""

from __future__ import annotations

from pathlib import Path

import nats
import pytest
from nats.js.api import ConsumerConfig

from tests.cluster.pods import ready, web
from tests.servers import free_port, keda
from tests.servers.kube_node import KubeNode
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.cluster, pytest.mark.server("keda"), pytest.mark.timeout(300)]


async def test_lag_scales_from_nothing_to_several_and_back(
    node: KubeNode, namespace: str, tmp_path: Path
) -> None:
    await keda.install(node)
    monitoring = f"127.0.0.1:{free_port()}"
    async with NatsServer(tmp_path / "nats", extra=f'http: "{monitoring}"') as server:
        client = await nats.connect(server.url)
        stream = client.jetstream()
        await stream.add_stream(name="orders", subjects=["orders"])
        config = ConsumerConfig(durable_name="charge")
        reader = await stream.pull_subscribe("orders", "charge", config=config)
        metadata = {
            "natsServerMonitoringEndpoint": monitoring,
            "account": "$G",
            "stream": "orders",
            "consumer": "charge",
            "lagThreshold": "10",
        }
        await node.apply(
            *web(namespace, replicas=0),
            {
                "apiVersion": "keda.sh/v1alpha1",
                "kind": "ScaledObject",
                "metadata": {"name": "web", "namespace": namespace},
                "spec": {
                    "scaleTargetRef": {"name": "web"},
                    "pollingInterval": 1,
                    "cooldownPeriod": 5,
                    "minReplicaCount": 0,
                    "maxReplicaCount": 3,
                    "triggers": [{"type": "nats-jetstream", "metadata": metadata}],
                },
            },
        )
        await ready(node, namespace, 0)
        for number in range(30):
            await stream.publish("orders", str(number).encode())
        await ready(node, namespace, 3)  # 30 behind, 10 for each
        for message in await reader.fetch(30, timeout=10):
            await message.ack_sync()
        await ready(node, namespace, 0)
        await client.close()
