"""What is to be reconciled: each resource once, however often it was asked for.

The watches put keys in, the reconciler's workers take them out. A key that is asked for
again while it is worked on comes once more afterwards; one that failed comes later and
later. Buses come before Triggers and Triggers before EventSources, so that a consumer is
there before what it shall not miss.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Final

from ofevents.clock import Clock
from ofevents.cluster import kinds
from ofevents.cluster.kinds import Kind
from ofevents.telemetry import QUEUED, RECONCILED

Key = tuple[Kind, str, str]
"""Kind, namespace ("" for cluster-wide ones) and name."""
_ORDER: Final = {kinds.EVENT_BUS: 0, kinds.CLUSTER_EVENT_BUS: 0, kinds.TRIGGER: 1}
_FIRST: Final = 0.5
_LONGEST: Final = 60.0


class WorkQueue:
    """Keys in, keys out."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ready: list[tuple[int, int, Key]] = []
        self._queued: set[Key] = set()
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._later: dict[Key, asyncio.Task[None]] = {}
        self._numbers = itertools.count()
        self._wake = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Nothing is ready and nothing is worked on; what waits for its time does not count."""
        return not self._queued and not self._working

    def add(self, key: Key) -> None:
        """As soon as a worker is free."""
        if key in self._working:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            entry = (_ORDER.get(key[0], 2), next(self._numbers), key)
            heapq.heappush(self._ready, entry)
            QUEUED.inc()
            self._wake.set()

    def add_later(self, key: Key, seconds: float) -> None:
        """Not before that time, unless somebody asks for it earlier; replaces an earlier wish."""
        if (task := self._later.pop(key, None)) is not None:
            task.cancel()
        self._later[key] = asyncio.create_task(self._after(key, seconds))

    async def _after(self, key: Key, seconds: float) -> None:
        await self._clock.sleep(seconds)
        del self._later[key]
        self.add(key)

    async def take(self) -> Key:
        """The next key; give it back with `done` or `failed`."""
        while not self._ready:
            self._wake.clear()
            await self._wake.wait()
        _, _, key = heapq.heappop(self._ready)
        self._queued.discard(key)
        self._working.add(key)
        if (task := self._later.pop(key, None)) is not None:
            task.cancel()
        return key

    def done(self, key: Key) -> None:
        """It was reconciled."""
        self._failures.pop(key, None)
        self._given_back(key)

    def failed(self, key: Key, *, delay: float = 0.0) -> float:
        """It was not: again, after `delay` and after longer each time. Returns the seconds."""
        count = self._failures[key] = self._failures.get(key, 0) + 1
        wait = max(delay, min(_LONGEST, _FIRST * float(1 << min(count - 1, 10))))
        self._given_back(key)
        self.add_later(key, wait)
        return wait

    def _given_back(self, key: Key) -> None:
        self._working.discard(key)
        RECONCILED.labels(key[0].kind).inc()
        QUEUED.dec()
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def close(self) -> None:
        """End what waits for its time."""
        for task in self._later.values():
            task.cancel()
        self._later.clear()
