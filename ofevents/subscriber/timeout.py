"""Timeout: bounds a call as a whole, for a caller who waits for the answer (promise 11).

A delivery in the background needs none: the HTTP client's own timeout bounds each
request and costs nothing, a publish has the bus's deadline. Here a token that must
be fetched first counts, too.
"""

from __future__ import annotations

import asyncio

from ofevents.ports import Delivery, Reply, Subscriber
from ofevents.subscriber.outcome import TimedOut


class Timeout:
    """Ends a call after `seconds` of the loop's own time."""

    def __init__(self, inner: Subscriber, seconds: float) -> None:
        self._inner = inner
        self._seconds = seconds

    async def deliver(self, delivery: Delivery) -> Reply:
        """As the inner one.

        Raises:
            TimedOut: the call took longer; whether it had an effect is not known.
        """
        try:
            async with asyncio.timeout(self._seconds):
                return await self._inner.deliver(delivery)
        except TimeoutError as error:
            raise TimedOut(f"no answer within {self._seconds:g} s") from error
