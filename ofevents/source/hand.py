"""What a source has in hand when it is told to stop: settled first, then it is cancelled.

An adapter ends by being cancelled. An emit that is cut short may have been stored, or
have reached its function, without the outside being told: then the event comes again.
So, from `stop` on, no emit begins; those that are open end, and the adapter has a
moment to acknowledge them. One that cannot be settled now, as its bus or its function
is away, fails at once (`Standing.wait_out`).

Not for a source that somebody waits on: its adapter answers what is in hand itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from ofevents.event import Event
from ofevents.ports import Emit

LONGEST: Final = 10.0
"""Seconds for what is in hand: a pod has thirty in all."""
MOMENT: Final = 0.2
"""Seconds to acknowledge what was settled last."""


class Hand:
    """The Emit of an entry, as its adapter has it."""

    def __init__(self, emit: Emit, stop: asyncio.Event) -> None:
        self._emit = emit
        self._stop = stop
        self._open = 0
        self._empty = asyncio.Event()
        self._empty.set()

    async def __call__(self, *events: Event) -> None:
        """See `Emit`; once told to stop it never returns, and is cancelled with the adapter."""
        if self._stop.is_set():
            await asyncio.get_running_loop().create_future()
        self._open += 1
        self._empty.clear()
        try:
            await self._emit(*events)
        finally:
            self._open -= 1
            if not self._open:
                self._empty.set()

    @asynccontextmanager
    async def emptied(self) -> AsyncIterator[asyncio.Event]:
        """An event that is set once it is told to stop and nothing is in hand."""
        over = asyncio.Event()
        task = asyncio.create_task(self._wait(over))
        try:
            yield over
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _wait(self, over: asyncio.Event) -> None:
        await self._stop.wait()
        if self._open:
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST):
                    await self._empty.wait()
                    await asyncio.sleep(MOMENT)
        over.set()
