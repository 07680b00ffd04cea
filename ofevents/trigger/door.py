"""Whether a subscriber may be called now, or its deliveries go to its inbox.

One per subscriber and worker. The handover asks it before each delivery, and the
subscriber's `Retry` tells it how each call ended. What it knows is this worker's
own: the in-flight share, a misconfigured subscriber, and a bus that has no room for
what the subscriber writes (its topic, or its reply). Evidence that a subscriber is
away, shared by all workers, enters here, by `failed` and `closed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ofevents.api.resolved import ResolvedDelivery
from ofevents.clock import Clock
from ofevents.errors import BusFull, Misconfigured, Unavailable
from ofevents.ports import Delivery
from ofevents.process import unless

FIRST_FULL: Final = 0.25
LONGEST_FULL: Final = 5.0
"""Seconds between two tries to write to a full bus: from, to."""


@dataclass(frozen=True, slots=True)
class Diversion:
    """To the inbox: why (CamelCase, as in `ofevents_inboxed`), and when it is due."""

    reason: str
    due: float = 0.0


@dataclass(slots=True)
class _Bolt:
    """One reason to stay closed, for a backoff that grows with each round in a row."""

    until: float = 0.0
    rounds: int = 0

    def shut(self, now: float, first: float, longest: float, least: float) -> bool:
        """Whether a new round begins: who finds it shut already changes nothing."""
        if now < self.until:
            return False
        wait = min(longest, first * 2.0 ** min(self.rounds, 60))
        self.rounds += 1
        self.until = now + max(wait, least)
        return True

    def open(self) -> bool:
        """Whether there was anything to open."""
        used, self.until, self.rounds = self.rounds > 0, 0.0, 0
        return used


class Door:
    """See the module. It implements `ofevents.subscriber.Observer`.

    Attributes:
        inside: direct deliveries that are in hand now.
    """

    def __init__(
        self,
        options: ResolvedDelivery,
        *,
        share: int | None,
        clock: Clock,
        report: Callable[[Misconfigured | BusFull | None], None],
        retrying: Callable[[Delivery, Unavailable], None],
    ) -> None:
        """
        Args:
            share: direct deliveries in hand at most, None where nobody else waits.
            report: told when the subscriber turns out misconfigured or the bus full for
                it, None when that is over.
            retrying: told of every failed call.
        """
        self.inside = 0
        self._options = options
        self._share = share
        self._clock = clock
        self._report = report
        self._retrying = retrying
        self._always = _always(options)
        self._wrong = _Bolt()
        self._full = _Bolt()

    def divert(self, stored: float) -> Diversion | None:
        """Why a new delivery goes to the inbox; None when it is called directly.

        `stored` is when the bus stored its last event (Unix seconds).
        """
        if self._always is not None:
            after = self._options.deliver_after
            return Diversion(self._always, stored + after if after else 0.0)
        now = self._clock.now()
        if self._wrong.until > now:
            return Diversion(Misconfigured.reason, self._wrong.until)
        if self._full.until > now:
            return Diversion(BusFull.reason)
        if self._share is not None and self.inside >= self._share:
            return Diversion("Busy")
        return None

    @property
    def closed(self) -> bool:
        """No call should be made now."""
        return self._until > self._clock.now()

    @property
    def _until(self) -> float:
        return max(self._wrong.until, self._full.until)

    async def opened(self, stop: asyncio.Event) -> bool:
        """Return True once calls may be made, False when asked to stop before."""
        while (wait := self._until - self._clock.now()) > 0:
            if not await unless(stop, self._clock.sleep(wait)):
                return False
        return not stop.is_set()

    def misconfigured(self, error: Misconfigured) -> float:
        """Close it for a backoff that grows with each round; the time it opens."""
        options = self._options
        if self._wrong.shut(self._clock.now(), options.backoff, options.max_backoff, error.delay):
            self._report(error)
        return self._wrong.until

    def full(self, error: BusFull) -> None:
        """As `misconfigured`, for a bus that has no room for what the subscriber writes."""
        if self._full.shut(self._clock.now(), FIRST_FULL, LONGEST_FULL, error.delay):
            self._report(error)

    def settled(self) -> None:
        """A delivery went all the way, so the bus had room for what it wrote."""
        if self._full.open():
            self._report(None)

    # -- Observer -----------------------------------------------------------

    def succeeded(self, delivery: Delivery) -> None:
        """A call was accepted: whatever was wrong is over."""
        if self._wrong.open():
            self._report(None)

    async def failed(self, delivery: Delivery, error: Unavailable) -> bool:
        """One failed call is no evidence that the subscriber is away."""
        self._retrying(delivery, error)
        return False


def _always(options: ResolvedDelivery) -> str | None:
    """Why every delivery goes through the inbox, None where it need not."""
    if options.ordered:
        return "Ordered"
    if options.batch_size:
        return "Batch"
    if options.deliver_after:
        return "DeliverAfter"
    return None
