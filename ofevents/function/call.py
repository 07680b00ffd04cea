"""What a function is given besides its event, and how it is called.

Called by `http.py` and `topic.py` once per event.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import orjson

from ofevents.bus import topics
from ofevents.errors import ConfigError
from ofevents.event import Event, digest
from ofevents.ports import Bus, Message

Handler: TypeAlias = Callable[..., Any]
"""`(event)` or `(event, context)`, plain or async."""

_SIGNATURE: Final = "write it as f(event) or f(event, context)"


@dataclass(slots=True)
class Context:
    """One call of a function.

    Attributes:
        function: its name.
        attempt: how often this event was handed to it, this time included.
    """

    function: str
    namespace: str
    event: Event
    attempt: int = 1
    bus: Bus | None = None
    _sent: int = field(default=0, init=False)

    async def send(self, topic: str, data: Event | Any, *, type: str | None = None) -> None:
        """Publish on a topic; returns when the bus has stored it.

        `data` is an Event, bytes, or anything that JSON can write. What is no Event
        becomes one, with an id made from the incoming event and the order of the
        calls: handled twice, it is stored once.

        Raises:
            ConfigError: the function runs without a bus.
            TemporaryError: not stored; let it pass, and the event comes again.
        """
        if self.bus is None:
            raise ConfigError(
                f"function {self.function!r} sends to {topic!r} and has no bus: set "
                "OFEVENTS_BUS_URL, or start it with `ofevents run --with`"
            )
        self._sent += 1
        event = data if isinstance(data, Event) else self._event(data, type)
        writer = f"{self.namespace}/Function/{self.function}"
        await self.bus.publish(topics.parse(topic, self.namespace), Message(event, writer))

    def _event(self, data: Any, type: str | None) -> Event:
        raw = isinstance(data, bytes)
        return Event.create(
            id=digest(self.function, self.event.source, self.event.id, str(self._sent)),
            source=f"/functions/{self.namespace}/{self.function}",
            type=type or f"ofevents.function.{self.function}",
            data=data if raw else orjson.dumps(data),
            datacontenttype="application/octet-stream" if raw else "application/json",
        )


def check(handler: Handler) -> Handler:
    """The handler itself, once its signature is known to fit.

    Raises:
        ConfigError: it takes neither one nor two arguments.
    """
    try:
        wanted = len(inspect.signature(handler).parameters)
    except (TypeError, ValueError):
        wanted = 0
    if wanted not in (1, 2):
        name = getattr(handler, "__name__", repr(handler))
        raise ConfigError(f"function {name} takes {wanted} arguments: {_SIGNATURE}")
    return handler


async def call(handler: Handler, context: Context) -> Any:
    """Its result; a plain `def` runs in a thread."""
    arguments = (context.event, context)[: len(inspect.signature(handler).parameters)]
    if inspect.iscoroutinefunction(handler):
        return await handler(*arguments)
    result = await asyncio.to_thread(handler, *arguments)
    return await result if isinstance(result, Awaitable) else result
