"""Dapr on pubsub.jetstream with a real nats-server, and state.redis with a real Redis."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats

from tests.conformance.rigs.dapr import DaprRig
from tests.servers.nats import NatsServer
from tests.servers.redis import RedisServer

LANES = 24
"""As many as a check has in flight: a lane has one message in hand."""


@asynccontextmanager
async def open_rig() -> AsyncIterator[DaprRig]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with NatsServer(folder / "nats") as server, RedisServer(folder / "redis") as redis:

            async def foreign(topic: str, headers: dict[str, str], body: bytes) -> None:
                client = await nats.connect(server.url)
                try:
                    await client.jetstream().publish(rig.prefix + topic, body, headers=headers)
                finally:
                    await client.close()

            rig = DaprRig(
                folder,
                ("pubsub.jetstream", {"natsURL": server.url}),
                ("state.redis", {"redisHost": redis.address}),
                foreign,
                lanes=LANES,
                ack_wait=8.0,  # longer than a busy machine stands still
            )
            # Dapr creates no stream; whoever runs the broker does.
            client = await nats.connect(server.url)
            await client.jetstream().add_stream(name="ofevents", subjects=[f"{rig.prefix}>"])
            await client.close()
            yield rig
