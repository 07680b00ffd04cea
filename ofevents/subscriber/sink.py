"""SinkSubscriber: a delivery becomes messages at a broker that is not the bus.

Made by `open_subscriber` and `DeadLetters` around the Sink that `ofevents.sinks` names.
What is the same for every technology is here: which events go, their key, the deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from pydantic import ValidationError

from ofevents import registry
from ofevents.api.resolved import ResolvedDelivery, SinkTarget
from ofevents.api.sink import SINKS
from ofevents.cel import ON_EVENT, STRING, Program, compile, to_text
from ofevents.clock import Clock
from ofevents.errors import ConfigError
from ofevents.event import Event
from ofevents.ports import Delivery, Format, Reply, Sink
from ofevents.subscriber.outcome import TimedOut

_CONFIRMED: Final = Reply(202)


class SinkSubscriber:
    """One Sink; made by `open_sink`."""

    def __init__(
        self, sink: Sink, *, key: Program | None, batch: bool = False, timeout: float
    ) -> None:
        """`timeout` in seconds is of each event."""
        self._sink = sink
        self._key = key
        self._batch = batch
        self._timeout = timeout

    @property
    def address(self) -> str:
        """Where it sends, for people."""
        return self._sink.address

    async def deliver(self, delivery: Delivery) -> Reply:
        """Return when the broker has confirmed it; a batch event by event, in its order.

        Raises:
            Unavailable: it can heal (TimedOut among them, Misconfigured).
            PermanentError: the broker never takes this event, or its key cannot be computed.
        """
        if self._batch:
            for event in delivery.events[:-1]:
                await self.send(event)
        await self.send(delivery.event)
        return _CONFIRMED

    async def send(self, event: Event) -> None:
        """Return when the broker has confirmed this event; raises as `deliver`."""
        key = self._key_of(event)
        try:
            async with asyncio.timeout(self._timeout):
                await self._sink.send(event, key)
        except TimeoutError as error:
            raise TimedOut(
                f"{self.address} has not confirmed it within {self._timeout:g} s"
            ) from error

    def _key_of(self, event: Event) -> str | None:
        if self._key is None:
            return event.partitionkey
        value = self._key.evaluate({"event": event.view()})
        return None if value is None else to_text(value, "the key")


def build_sink(
    target: SinkTarget, *, clock: Clock, format: Format = "binary", timeout: float = 30.0
) -> Sink:
    """The Sink of a target; it connects to nothing yet.

    Raises:
        ConfigError: no such sink, or a field is wrong; the path begins with `sink`.
    """
    driver = registry.load("ofevents.sinks", target.sink)
    model = SINKS.get(target.sink)
    try:
        spec: Any = target.spec if model is None else model.model_validate(target.spec)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise ConfigError(first["msg"], path=f"sink.{target.sink}.{field}") from None
    sink: Sink = driver(spec, format=format, timeout=timeout, clock=clock)
    return sink


@asynccontextmanager
async def open_sink(
    target: SinkTarget, *, clock: Clock, options: ResolvedDelivery
) -> AsyncIterator[SinkSubscriber]:
    """A SinkSubscriber with its connection; nothing is connected before the first call.

    Raises:
        ConfigError: the target is wrong; the path begins with `sink`.
    """
    key = None
    if target.key is not None:
        try:
            key = compile(target.key, ON_EVENT, result=STRING)
        except ConfigError as error:
            error.path = error.path or f"sink.{target.sink}.key"
            raise
    sink = build_sink(target, clock=clock, format=options.format, timeout=options.timeout)
    async with sink:
        yield SinkSubscriber(sink, key=key, batch=options.batch_size > 0, timeout=options.timeout)
