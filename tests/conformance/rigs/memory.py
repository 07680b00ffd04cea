"""The memory bus: its server is the process, so breaking it is a switch."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ofevents.api.resolved import ResolvedBus
from ofevents.bus.broker import shared
from ofevents.bus.memory import MemoryBus
from ofevents.clock import SystemClock


class MemoryRig:
    """See `BusRig`."""

    features = MemoryBus.features
    breakable = True
    ack_wait = 2.0

    def __init__(self) -> None:
        self.name = uuid.uuid4().hex

    def make(self, **options: Any) -> MemoryBus:
        given = {"name": self.name, "ack_wait": self.ack_wait, **options}
        return MemoryBus(ResolvedBus(driver="memory", options=given), clock=SystemClock())

    async def foreign(self, topic: str, headers: dict[str, str], body: bytes) -> None:
        broker = shared(self.name, max_bytes=1, window=1)
        broker.publish(topic, headers, body, uuid.uuid4().hex, 0, SystemClock().now())

    async def break_(self) -> None:
        shared(self.name, max_bytes=1, window=1).fail("the check took the bus away")

    async def restart(self) -> None:
        shared(self.name, max_bytes=1, window=1).heal()


@asynccontextmanager
async def open_rig() -> AsyncIterator[MemoryRig]:
    yield MemoryRig()
