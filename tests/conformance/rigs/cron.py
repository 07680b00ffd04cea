"""The `cron` source, whose outside world is time: `feed` lets as many seconds pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ofevents.api.cron import CronSpec
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.event import Event, format_time
from ofevents.ports import SourceIdentity
from ofevents_adapters.cron import CronSource

_FASTER = 100


class RigClock:
    """The wall clock moves only when it is fed; what sleeps wakes a hundred times sooner."""

    def __init__(self) -> None:
        self.wall = 1_770_000_000.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() * _FASTER

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / _FASTER)


class CronRig:
    """See `SourceRig`. A time is one event, and the next waits for it."""

    features = CronSource.features
    in_flight = 1
    breakable = False
    poisonable = False

    def __init__(self) -> None:
        self.clock = RigClock()
        self.store = MemoryStore(Broker(max_bytes=1_000_000, window=60), self.clock)

    def make(self) -> CronSource:
        spec = CronSpec(schedule="@every 1s", missed_runs="all")
        return CronSource(spec, SourceIdentity("default", "c", "cron", "tick"), clock=self.clock)

    async def feed(self, count: int) -> Sequence[str]:
        begin = self.clock.wall
        self.clock.wall += count
        return [format_time(begin + number) for number in range(1, count + 1)]

    def key(self, event: Event) -> str:
        return event.id

    async def poison(self) -> bool:
        raise NotImplementedError("no time is malformed")

    async def break_(self) -> None:
        raise NotImplementedError("time cannot be taken away")

    async def restart(self) -> None:
        raise NotImplementedError("time cannot be taken away")


@asynccontextmanager
async def open_rig() -> AsyncIterator[CronRig]:
    """A clock of its own for each check."""
    yield CronRig()
