"""Retry: calls again what can heal, with backoff, jitter and Retry-After (promise 6).

Around `Limit` and `Gate`. It decides nothing about a subscriber that is away: the
gate does, and its `Postponed` passes through here untouched. Whatever must not be
waited for here is handed back as `Postponed`, too.

Only `Unavailable` is retried. Another TemporaryError, such as a bus that is gone
(Disconnected, BusFull), is not the subscriber's doing: it uses up no retry and is
raised as it is.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from ofevents.clock import Clock
from ofevents.errors import PermanentError, Unavailable
from ofevents.ports import Delivery, Reply, Subscriber
from ofevents.subscriber.measure import labels
from ofevents.subscriber.outcome import Exhausted, GivenUp, Postponed
from ofevents.telemetry import RETRIED, Log


@dataclass(frozen=True, slots=True)
class Backoff:
    """When to call again.

    Attributes:
        retries: calls after the first one that count, in all workers together.
        first: seconds; the bound of the first wait, doubled for each next one.
        longest: seconds; no bound is higher.
        hold: seconds that a delivery may stay here, counted from its arrival.
    """

    retries: int
    first: float
    longest: float
    hold: float

    def wait(self, attempt: int, least: float, chance: float) -> float:
        """Seconds before the next call: `least` (Retry-After) plus full jitter.

        Args:
            attempt: failed calls so far, from 1.
            chance: from 0 up to 1.
        """
        # 2**60 seconds is beyond any bound, and a float; 2**5000 would not be.
        bound = min(self.longest, self.first * 2.0 ** min(attempt - 1, 60))
        return least + chance * bound


class Retry:
    """Calls the inner subscriber until it accepts, or there is a reason to stop."""

    def __init__(
        self,
        inner: Subscriber,
        backoff: Backoff,
        *,
        subscriber: str,
        clock: Clock,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._backoff = backoff
        self._labels = labels(subscriber)
        self._clock = clock
        self._chance = chance
        self._log = Log(subscriber=subscriber)

    async def deliver(self, delivery: Delivery) -> Reply:
        """Return the first 2xx.

        Raises:
            Postponed: the next call is due later than `hold` allows; or as the gate
                raised it.
            Exhausted: `retries` are used up.
            GivenUp: the subscriber refuses this event.
            TemporaryError: as the inner one raised it, where it is not Unavailable.
        """
        began = self._clock.monotonic()
        while True:
            try:
                return await self._inner.deliver(delivery)
            except Unavailable as error:
                delivery, wait = self._failed(delivery, error, began)
            except PermanentError as error:
                raise GivenUp(replace(delivery, attempt=delivery.attempt + 1), error) from error
            await self._clock.sleep(wait)

    def _failed(
        self, delivery: Delivery, error: Unavailable, began: float
    ) -> tuple[Delivery, float]:
        """The delivery with the failure counted, and seconds to wait; or raises."""
        counted = replace(delivery, attempt=delivery.attempt + 1)
        if counted.attempt > self._backoff.retries:
            raise Exhausted(counted, error) from error
        wait = self._backoff.wait(counted.attempt, error.delay, self._chance())
        RETRIED.labels(*self._labels, error.reason).inc()
        counted = replace(counted, due=self._clock.now() + wait)
        if self._clock.monotonic() + wait - began > self._backoff.hold:
            raise Postponed(counted, error.reason, error, wait) from error
        self._log.warning(
            "retrying",
            id=delivery.events[-1].id,
            attempt=counted.attempt,
            delay=round(wait, 3),
            reason=error.reason,
            error=str(error),
        )
        return counted, wait
