"""Dapr on pubsub.redis and state.in-memory: streams with several messages in hand."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import redis.asyncio

from tests.conformance.rigs.dapr import DaprRig
from tests.servers.redis import RedisServer


@asynccontextmanager
async def open_rig() -> AsyncIterator[DaprRig]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with RedisServer(folder / "redis") as server:

            async def foreign(topic: str, headers: dict[str, str], body: bytes) -> None:
                async with redis.asyncio.Redis(port=server.port) as client:
                    await client.xadd(rig.prefix + topic, {"data": body})

            rig = DaprRig(
                folder,
                ("pubsub.redis", {"redisHost": server.address}),
                ("state.redis", {"redisHost": server.address}),
                foreign,
                ack_wait=8.0,  # longer than a busy machine stands still
            )
            yield rig
