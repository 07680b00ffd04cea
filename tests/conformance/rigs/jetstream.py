"""JetStream on a real nats-server: one for each check, as checks kill it."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats

from ofevents.api.resolved import ResolvedBus
from ofevents.bus.jetstream import JetStreamBus
from ofevents.clock import SystemClock
from tests.servers.nats import NatsServer


class JetStreamRig:
    """See `BusRig`."""

    features = JetStreamBus.features
    breakable = True
    ack_wait = 8.0
    """What is open is extended each third of it: a pause of the other two lets it come again, and
    a busy machine stands still for up to five seconds."""

    def __init__(self, server: NatsServer) -> None:
        self.server = server

    def make(self, **options: Any) -> JetStreamBus:
        given = {"url": self.server.url, "ack_wait": self.ack_wait, **options}
        return JetStreamBus(ResolvedBus(driver="jetstream", options=given), clock=SystemClock())

    async def foreign(self, topic: str, headers: dict[str, str], body: bytes) -> None:
        client = await nats.connect(self.server.url)
        try:
            await client.jetstream().publish(f"ofevents.{topic}", body, headers=headers)
        finally:
            await client.close()

    async def break_(self) -> None:
        await self.server.kill()

    async def restart(self) -> None:
        await self.server.start()


@asynccontextmanager
async def open_rig() -> AsyncIterator[JetStreamRig]:
    with tempfile.TemporaryDirectory() as folder:
        async with NatsServer(Path(folder)) as server:
            yield JetStreamRig(server)
