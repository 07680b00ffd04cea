"""Some pass together, a suspect passes alone: whatever dies then dies of the suspect.

Used for messages that workers may have died of (`suspects.py`), and for deliveries
that a subscriber may have died of (`door.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

LONGEST_ALONE: Final = 1.0
"""Seconds: who kills does it at once, and a slow one must not stop the others."""


class _Together:
    """Counts who passes; `none` is set while nobody does. Waits while `alone` is held."""

    def __init__(self) -> None:
        self.alone = asyncio.Lock()
        self.none = asyncio.Event()
        self.none.set()
        self._passing = 0

    async def __aenter__(self) -> None:
        while self.alone.locked():
            async with self.alone:
                pass
        self._passing += 1
        if self._passing == 1:
            self.none.clear()

    async def __aexit__(self, *_: object) -> None:
        self._passing -= 1
        if not self._passing:
            self.none.set()


class Passage:
    """See the module.

    Attributes:
        together: enter it to pass with others. On the hot path: it is made once, and
            waits for nothing unless somebody is alone.
    """

    def __init__(self) -> None:
        self._together = _Together()
        self.together: AbstractAsyncContextManager[None] = self._together

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Nobody else passes; after `LONGEST_ALONE` others may come beside it."""
        lock = self._together.alone
        await lock.acquire()
        released = False

        def release() -> None:
            nonlocal released
            if not released:
                released = True
                lock.release()

        timer = None
        try:
            await self._together.none.wait()
            timer = asyncio.get_running_loop().call_later(LONGEST_ALONE, release)
            yield
        finally:
            if timer is not None:
                timer.cancel()
            release()
