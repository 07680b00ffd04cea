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
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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


class _Trusted:
    """Counts the trusted messages in hand; `none` is set while there are none.

    They wait while `alone` is held.
    """

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


class Suspects:
    """Lets trusted messages pass together, and each suspect alone."""

    def __init__(self, store: Store, group: str) -> None:
        self._store = store
        self._prefix = prefix(group)
        self._trusted = _Trusted()
        self._alone = self._trusted.alone

    def handling(self, received: Received) -> AbstractAsyncContextManager[CrashLoop | None]:
        """Around the handling of a message: the verdict where it must not be read.

        Raises:
            TemporaryError: the store is gone; the message must come again.
        """
        # Each message passes here: what it enters is made once, and waits for nothing
        # unless a suspect is in hand.
        return self._trusted if received.attempt <= TRUSTED else self._suspected(received)

    @asynccontextmanager
    async def _suspected(self, received: Received) -> AsyncIterator[CrashLoop | None]:
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
            await self._trusted.none.wait()
            timer = asyncio.get_running_loop().call_later(LONGEST_ALONE, release)
            yield
        finally:
            if timer is not None:
                timer.cancel()
            release()
