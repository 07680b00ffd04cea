"""Limit: how many calls to a subscriber run at once, and how many begin per second.

Inside `Retry`, so that a delivery that waits for its next attempt holds no place.
First come, first served; a caller that is cancelled while it waits takes nothing.
"""

from __future__ import annotations

import asyncio

from ofevents.clock import Clock
from ofevents.ports import Delivery, Reply, Subscriber

_BURST = 0.1
"""Seconds' worth of calls that may follow each other at once; at least one call.

Without it the rate could never be reached, as every timer fires a little late.
"""
_SHORTEST_WAIT = 0.001


class Limit:
    """At most `concurrency` calls at once and `rate` calls per second.

    In any T seconds at most `rate * T + max(1, rate / 10)` calls begin.
    """

    def __init__(
        self, inner: Subscriber, *, concurrency: int, rate: float | None, clock: Clock
    ) -> None:
        self._inner = inner
        self._places = asyncio.Semaphore(concurrency)
        self._tokens = None if rate is None else TokenBucket(rate, clock)

    async def deliver(self, delivery: Delivery) -> Reply:
        """As the inner one, after waiting for a place and a token."""
        async with self._places:
            if self._tokens is not None:
                await self._tokens.take()
            return await self._inner.deliver(delivery)


class TokenBucket:
    """Hands out `rate` tokens per second in the order they were asked for."""

    def __init__(self, rate: float, clock: Clock) -> None:
        self._rate = rate
        self._capacity = max(1.0, rate * _BURST)
        self._clock = clock
        self._tokens = self._capacity
        self._filled_at = clock.monotonic()
        self._turn = asyncio.Lock()

    async def take(self) -> None:
        """Return when a token is there, and take it."""
        async with self._turn:
            while (missing := 1.0 - self._fill()) > 0.0:
                # A wait that rounding makes too short would be repeated without end.
                await self._clock.sleep(max(missing / self._rate, _SHORTEST_WAIT))
            self._tokens -= 1.0

    def _fill(self) -> float:
        now = self._clock.monotonic()
        self._tokens = min(self._capacity, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return self._tokens
