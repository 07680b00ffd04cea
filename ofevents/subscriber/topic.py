"""TopicSubscriber: a delivery becomes an event on a topic of the bus.

For async functions, which consume the topic. The event keeps the attributes of
the event that completed the match; a payload replaces only its data and
datacontenttype (`Delivery.event`). A batch is published event by event.
"""

from __future__ import annotations

from ofevents.event import Event
from ofevents.ports import Bus, Delivery, Message, Reply

_STORED = Reply(202)


def writer(delivery: Delivery) -> str:
    """Who publishes, for deduplication (promise 3).

    A redrive or replay writes under its operation's id, so that what it moves on
    purpose is not taken for a duplicate, while its own repetition after a crash is.
    """
    if delivery.operation:
        return f"{delivery.subscriber}@{delivery.operation}"
    return delivery.subscriber


class TopicSubscriber:
    """A topic, by its full name (`ofevents.bus.topics`)."""

    def __init__(self, bus: Bus, topic: str, *, batch: bool = False) -> None:
        self._bus = bus
        self._topic = topic
        self._batch = batch

    @property
    def address(self) -> str:
        """The topic, for people."""
        return self._topic

    async def deliver(self, delivery: Delivery) -> Reply:
        """Publish it; returns when the bus has stored it.

        Raises:
            Disconnected, BusFull: not known to be stored; not the subscriber's fault.
            TooLarge: over the bus's size limit.
        """
        events: tuple[Event, ...] = (delivery.event,)
        if self._batch:
            events = (*delivery.events[:-1], delivery.event)
        name = writer(delivery)
        await self._bus.publish(
            self._topic,
            *(Message(event, name, generation=delivery.generation) for event in events),
        )
        return _STORED
