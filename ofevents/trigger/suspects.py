"""The crash-loop guard: an event that ends the worker must not end it for ever.

A message that was handed out several times is a suspect: perhaps those who had it
died of it. It is handled alone, after writing down in the store that it was begun;
a worker that survives strikes that out. So only deaths are counted, not the ordinary
redeliveries of a bus in trouble, and they are counted against the right message.
After `DEATHS` of them it becomes a dead letter, unread (promise 5).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from ofevents.errors import PermanentError
from ofevents.ports import Received, Store
from ofevents.trigger.alone import Passage

TRUSTED: Final = 3
"""Times that a message is handed out before it is a suspect."""
DEATHS: Final = 2
"""Deaths while it was handled alone."""
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
        self._passage = Passage()

    def handling(self, received: Received) -> AbstractAsyncContextManager[CrashLoop | None]:
        """Around the handling of a message: the verdict where it must not be read.

        Raises:
            TemporaryError: the store is gone; the message must come again.
        """
        if received.attempt <= TRUSTED:
            return self._passage.together
        return self._suspected(received)

    @asynccontextmanager
    async def _suspected(self, received: Received) -> AsyncIterator[CrashLoop | None]:
        key = f"{self._prefix}{received.topic}/{received.position}"
        async with self._passage.alone():
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
