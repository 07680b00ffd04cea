"""First come, first served per key: what keeps the order of `ordered` subscribers.

A turn is taken synchronously, when a message is handed out, and waited for later,
when its task gets to the step that must not be overtaken. So the order is that of
the bus, whatever the tasks do in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from types import TracebackType


class Turns:
    """The queues of all keys; a key without a turn costs nothing."""

    def __init__(self) -> None:
        self._last: dict[Hashable, Turn] = {}

    def take(self, key: Hashable) -> Turn:
        """The next turn of that key; it must be released, used or not."""
        turn = self._last[key] = Turn(self, key, self._last.get(key))
        return turn

    def released(self, turn: Turn) -> None:
        """Called by a turn whose time is over."""
        if self._last.get(turn.key) is turn:
            del self._last[turn.key]


class Turn:
    """A place in a queue: `async with turn` waits for it and releases it."""

    def __init__(self, turns: Turns, key: Hashable, before: Turn | None) -> None:
        self.key = key
        self._turns = turns
        self._before = before
        self._over = asyncio.Event()

    async def __aenter__(self) -> None:
        if self._before is not None:
            await self._before._over.wait()
            self._before = None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Let the next one pass; a second call does nothing."""
        if not self._over.is_set():
            self._over.set()
            self._turns.released(self)
