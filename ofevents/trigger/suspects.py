"""The crash-loop guard: an event that ends the worker must not end it for ever.

A message that was handed out several times is a suspect: perhaps those who had it
died of it. It is handled alone, after writing down in the store that it was begun;
a worker that survives strikes that out. So only deaths are counted, not the ordinary
redeliveries of a bus in trouble, and they are counted against the right message.
After `DEATHS` of them it becomes a dead letter, unread (promise 5).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ofevents.errors import PermanentError
from ofevents.ports import Received, Store

TRUSTED: Final = 3
"""Times that a message is handed out before it is a suspect."""
DEATHS: Final = 2
"""Deaths while it was handled alone."""
LONGEST_ALONE: Final = 1.0
"""Seconds: who kills does it at once, and a slow subscriber must not stop the others."""
KEPT: Final = 86400.0


class CrashLoop(PermanentError):
    """Workers died while they handled it."""

    reason = "CrashLoop"


def prefix(group: str) -> str:
    """Where the deaths of a consumer group's messages are counted in the store."""
    return f"suspect/{group}/"


class Suspects:
    """Lets trusted messages pass together, and each suspect alone."""

    def __init__(self, store: Store, group: str) -> None:
        self._store = store
        self._prefix = prefix(group)
        self._passing = 0
        self._free = asyncio.Event()
        self._free.set()
        self._alone = asyncio.Lock()

    @asynccontextmanager
    async def handling(self, received: Received) -> AsyncIterator[CrashLoop | None]:
        """Around the handling of a message: the verdict where it must not be read.

        Raises:
            TemporaryError: the store is gone; the message must come again.
        """
        if received.attempt <= TRUSTED:
            # The usual way waits for nothing unless a suspect is in hand.
            while self._alone.locked():
                async with self._alone:
                    pass
            self._passing += 1
            self._free.clear()
            try:
                yield None
            finally:
                self._passing -= 1
                if not self._passing:
                    self._free.set()
            return
        key = f"{self._prefix}{received.topic}/{received.position}"
        async with self._exclusive():
            entry = await self._store.get(key)
            deaths = int(entry.value) if entry else 0
            try:
                if deaths >= DEATHS:
                    yield CrashLoop(
                        f"not read: {received.attempt - 1} deliveries were not settled, and "
                        f"{deaths} workers died while they handled this message alone"
                    )
                else:
                    await self._store.put(key, str(deaths + 1).encode(), ttl=KEPT)
                    yield None
            finally:
                await self._store.delete(key)

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        """Nobody else is in hand; after `LONGEST_ALONE` others may come beside it."""
        await self._alone.acquire()
        released = False

        def release() -> None:
            nonlocal released
            if not released:
                released = True
                self._alone.release()

        timer = None
        try:
            await self._free.wait()
            timer = asyncio.get_running_loop().call_later(LONGEST_ALONE, release)
            yield
        finally:
            if timer is not None:
                timer.cancel()
            release()
