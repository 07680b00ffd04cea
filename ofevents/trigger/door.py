"""Whether a subscriber may be called now, or its deliveries go to its inbox.

One per subscriber and worker. The handover asks it before each delivery, and the
subscriber's `Retry` tells it how each call ended. What it knows is this worker's
own: the in-flight share and a misconfigured subscriber. Evidence that a subscriber
is away, shared by all workers, enters here, by `failed` and `closed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ofevents.api.resolved import ResolvedDelivery
from ofevents.clock import Clock
from ofevents.errors import Misconfigured, Unavailable
from ofevents.ports import Delivery
from ofevents.process import unless


@dataclass(frozen=True, slots=True)
class Diversion:
    """To the inbox: why (CamelCase, as in `ofevents_inboxed`), and when it is due."""

    reason: str
    due: float = 0.0


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
        report: Callable[[Misconfigured | None], None],
        retrying: Callable[[Delivery, Unavailable], None],
    ) -> None:
        """
        Args:
            share: direct deliveries in hand at most, None where nobody else waits.
            report: told when the subscriber turns out misconfigured, None when it heals.
            retrying: told of every failed call.
        """
        self.inside = 0
        self._options = options
        self._share = share
        self._clock = clock
        self._report = report
        self._retrying = retrying
        self._always = _always(options)
        self._until = 0.0
        self._rounds = 0

    def divert(self, stored: float) -> Diversion | None:
        """Why a new delivery goes to the inbox; None when it is called directly.

        `stored` is when the bus stored its last event (Unix seconds).
        """
        if self._always is not None:
            after = self._options.deliver_after
            return Diversion(self._always, stored + after if after else 0.0)
        if self.closed:
            return Diversion(Misconfigured.reason, self._until)
        if self._share is not None and self.inside >= self._share:
            return Diversion("Busy")
        return None

    @property
    def closed(self) -> bool:
        """No call should be made now."""
        return self._until > self._clock.now()

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Counts a direct delivery while it lasts."""
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def opened(self, stop: asyncio.Event) -> bool:
        """Return True once calls may be made, False when asked to stop before."""
        while (wait := self._until - self._clock.now()) > 0:
            if not await unless(stop, self._clock.sleep(wait)):
                return False
        return not stop.is_set()

    def misconfigured(self, error: Misconfigured) -> float:
        """Close it for a backoff that grows with each round; the time it opens."""
        now = self._clock.now()
        if now >= self._until:
            options = self._options
            wait = min(options.max_backoff, options.backoff * 2.0 ** min(self._rounds, 60))
            self._rounds += 1
            self._until = now + max(wait, error.delay)
            self._report(error)
        return self._until

    # -- Observer -----------------------------------------------------------

    def succeeded(self, delivery: Delivery) -> None:
        """A call was accepted: whatever was wrong is over."""
        if self._rounds:
            self._until, self._rounds = 0.0, 0
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
