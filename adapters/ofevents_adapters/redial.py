"""One connection for all sends of a sink, made anew after it is lost.

For the sinks whose client does not reconnect by itself, or not for ever (`nats_sink`,
`mqtt_sink`, `rabbitmq_sink`). A send asks for the connection and gets the one that lasts,
or waits for the one attempt that is under way: many sends make one attempt, and a send
that is cancelled ends none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from ofevents.clock import Clock

_PAUSE: Final = 0.2
"""Least seconds between two attempts."""


class Dialled(Protocol):
    """A connection: entering makes it, and raises where that fails; leaving closes it."""

    @property
    def alive(self) -> bool:
        """Whether it can be used."""
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None: ...


C = TypeVar("C", bound=Dialled)


class Redial(Generic[C]):
    """Keeps one connection of those that `dial` makes."""

    def __init__(self, dial: Callable[[], C], clock: Clock) -> None:
        self._dial = dial
        self._clock = clock
        self._connection: C | None = None
        self._attempt: asyncio.Task[C] | None = None
        self._tried = float("-inf")

    async def get(self) -> C:
        """The connection; raises what entering it raises."""
        if self._connection is not None and self._connection.alive:
            return self._connection
        if self._attempt is None or self._attempt.done():
            self._attempt = asyncio.create_task(self._again(), name="sink: connects")
            self._attempt.add_done_callback(_seen)
        return await asyncio.shield(self._attempt)

    async def _again(self) -> C:
        await self._leave()
        await self._clock.sleep(self._tried + _PAUSE - self._clock.monotonic())
        self._tried = self._clock.monotonic()
        self._connection = await self._dial().__aenter__()
        return self._connection

    async def close(self) -> None:
        """End the attempt and the connection."""
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.gather(self._attempt, return_exceptions=True)
        await self._leave()

    async def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.__aexit__(None, None, None)


def _seen(attempt: asyncio.Task[Any]) -> None:
    """Its error is whoever waits's; when nobody does any more, it is no one's."""
    if not attempt.cancelled():
        attempt.exception()
