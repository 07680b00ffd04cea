"""Dapr on pubsub.kafka with a real Kafka, in batches, and state.redis with a real Redis."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ofevents.bus.dapr_components import Names
from ofevents.bus.dapr_options import read_options
from ofevents.conformance.bus_rig import DEAD, INBOX, OTHER, TOPIC, USER
from tests.conformance.rigs.dapr import DaprRig
from tests.servers.kafka import KafkaServer
from tests.servers.redis import RedisServer

PARTITIONS = 2
"""So that two consumers of a group share the work; a key keeps to one of them."""


@asynccontextmanager
async def open_rig() -> AsyncIterator[DaprRig]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with KafkaServer() as server, RedisServer(folder / "redis") as redis:

            async def foreign(topic: str, headers: dict[str, str], body: bytes) -> None:
                record = {"value": body, "headers": list(headers.items())}
                await server.produce(names.topic(topic), [record])

            settings = {
                "brokers": server.brokers,
                "authType": "none",
                # What a dead sidecar had comes sooner than by default, and a live one that a
                # busy machine holds up is no dead one: what it has settled would come again.
                "sessionTimeout": "6s",
                "heartbeatInterval": "300ms",
            }
            rig = DaprRig(
                folder,
                ("pubsub.kafka", settings),
                ("state.redis", {"redisHost": redis.address}),
                foreign,
                app=True,
            )
            rig.broker = server
            names = Names(read_options(rig.options), "default")
            for topic in (TOPIC, OTHER, USER, INBOX, DEAD):
                await server.create_topic(names.topic(topic), PARTITIONS)
            yield rig
