"""A subscriber's inbox, the writing side: its durable queue of deliveries.

Called by the handover for what cannot be delivered now, and by the inbox's server
for what is put off again. A move raises the delivery's generation by one, so the
bus stores it although it has seen the events before, and stores the same move only
once when a crash repeats it (promise 3).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ofevents.api.resolved import ResolvedSubscriber
from ofevents.ports import Bus, Delivery, Message, Received
from ofevents.subscriber.measure import labels
from ofevents.telemetry import INBOXED, Log

STORED: Final = "ofe-stored"
"""Header of the hop: when the bus stored the event, for the event's age."""


class Inbox:
    """Where one subscriber's deliveries wait."""

    def __init__(self, spec: ResolvedSubscriber, bus: Bus, subscriber_id: str) -> None:
        self.topic = spec.inbox
        self._bus = bus
        self._labels = labels(subscriber_id)
        self._log = Log(subscriber=subscriber_id)

    async def put(
        self, delivery: Delivery, *, reason: str, due: float = 0.0, stored: float
    ) -> None:
        """Return when the bus has stored it, to be handed out from `due` on.

        Args:
            stored: when the bus stored the event that completed the match.

        Raises:
            TemporaryError: the bus is gone or full; nothing is settled.
            TooLarge: the delivery is over the bus's size limit.
        """
        moved = replace(delivery, generation=delivery.generation + 1, due=due)
        message = Message(
            moved,
            writer=delivery.subscriber,
            headers={STORED: repr(stored)},
            due=due if self._bus.features.delayed else 0.0,
        )
        await self._bus.publish(self.topic, message)
        INBOXED.labels(*self._labels, reason).inc()
        self._log.debug("inboxed", id=delivery.events[-1].id, reason=reason, due=due)


def stored_at(received: Received) -> float:
    """When the bus stored the event of an inbox entry; else when it stored the entry."""
    try:
        return float(received.headers[STORED])
    except (KeyError, ValueError):
        return received.stored
