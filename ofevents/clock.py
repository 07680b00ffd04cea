"""Time as a port: everything that waits or stamps takes a Clock.

Production uses `SystemClock`; tests use `ManualClock`, which only moves when
told to, so windows, backoffs and schedules are tested without waiting.
Callers never use `time.time` or `asyncio.sleep` for a product's delay.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> float:
        """Wall-clock time: seconds since the Unix epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump, for measuring and deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds; at once (but yielding) for 0 or less."""
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class ManualClock:
    """A clock that stands still until `advance` is awaited.

    `advance` wakes sleepers in order of their due time and lets each run until
    it sleeps again, so a test sees every step of a backoff.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._start = start
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._ids = itertools.count()

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now - self._start

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._ids), future))
        await future

    @property
    def sleeping(self) -> int:
        """How many callers wait now."""
        return sum(1 for _, _, future in self._sleepers if not future.done())

    async def advance(self, seconds: float) -> None:
        """Move forward by that many seconds, waking who is due on the way."""
        target = self._now + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, future = heapq.heappop(self._sleepers)
            self._now = max(self._now, due)
            if not future.done():
                future.set_result(None)
            await self._settle()
        self._now = target
        await self._settle()

    @staticmethod
    async def _settle() -> None:
        # Enough turns of the loop for a woken task to reach its next wait.
        for _ in range(20):
            await asyncio.sleep(0)
