"""The seam to whoever gets a delivery."""

from __future__ import annotations

from typing import Protocol

from ofevents.ports.values import Delivery, Reply


class Subscriber(Protocol):
    """The way out: a function over HTTP, a topic, or a wrapper around one."""

    async def deliver(self, delivery: Delivery) -> Reply:
        """Return when the delivery is settled there: a 2xx, or stored.

        Raises:
            TemporaryError: it can heal (Unavailable, Misconfigured, BusFull, ...).
            PermanentError: this delivery never will (Rejected, TooLarge).
        """
        ...
