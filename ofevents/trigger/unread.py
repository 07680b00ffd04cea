"""A message that is dead-lettered without being understood: its raw bytes as an event."""

from __future__ import annotations

from typing import Final

from ofevents.event import Event
from ofevents.ports import Delivery, Received

TYPE: Final = "ofevents.unread"


def unread(received: Received, trigger: str, subscriber: str = "") -> Delivery:
    """What goes to the dead letters in its place; `trigger` is `namespace/name`.

    Its identity is where it lies on the bus, so that storing it twice is storing once.
    """
    event = Event.create(
        id=f"{received.topic}/{received.position}",
        source=f"/ofevents/{received.topic}",
        type=TYPE,
        data=received.raw,
        datacontenttype=received.headers.get("content-type") or "application/octet-stream",
    )
    return Delivery(f"{trigger}/{subscriber}", (event,))
