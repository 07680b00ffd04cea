"""The inbox's server: the Trigger's worker delivers what waits in a subscriber's inbox.

One per subscriber, through the same pipeline as direct deliveries, so their limits
hold together. `ordered` inboxes have one owner among all workers, by a lease, who
delivers the entries of one key one after another and different keys side by side.
Stored deliveries are only acknowledged when they are settled, so what a dead owner
had in hand comes again before what is newer.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

from ofevents.api.resolved import ResolvedSubscriber
from ofevents.bus.lease import Lease
from ofevents.bus.topics import inbox_group
from ofevents.ports import Bus, Received
from ofevents.trigger.batch import Batches
from ofevents.trigger.entries import Entries, Entry
from ofevents.trigger.stopping import unless

LEAST_IN_FLIGHT: Final = 64
OWNER: Final = "inbox-owner"
"""Where the leases of ordered inboxes lie in the store."""


class InboxServer:
    """Serves the inbox of one subscriber."""

    def __init__(self, spec: ResolvedSubscriber, entries: Entries, *, in_flight: int) -> None:
        """`in_flight` bounds the entries in hand (promise 7)."""
        options = spec.delivery
        self._topic = spec.inbox
        self._owner = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self._entries = entries
        self._ordered = options.ordered
        wanted = max(LEAST_IN_FLIGHT, 2 * options.concurrency, 2 * options.batch_size)
        self._in_flight = min(in_flight, wanted)
        self._finish: Callable[[Entry], Awaitable[None]] = self._alone
        if options.batch_size:
            self._finish = Batches(entries, options).finish
        elif options.ordered:
            self._finish = self._in_turn
        self._last: dict[str | None, asyncio.Event] = {}

    async def run(self, bus: Bus) -> None:
        """Serve until asked to stop; returns when what is in hand is settled.

        Raises:
            Disconnected: as `Bus.consume`.
        """
        if not self._ordered:
            await self._consume(bus)
            return
        stop = self._entries.stop
        while not stop.is_set():
            async with AsyncExitStack() as stack:
                lease = self._lease(bus)
                if await unless(stop, stack.enter_async_context(lease)):
                    await unless(lease.lost, self._consume(bus))

    def _lease(self, bus: Bus) -> Lease:
        """Who holds it delivers in order.

        A dead owner's lease outlives what it had in hand (an ack wait, three times
        `hold`) although its last renewal was up to a third of its time ago: the next
        owner gets those messages again before newer ones.
        """
        ttl = 1.5 * 3 * bus.hold + 1
        key = f"{OWNER}/{self._topic}"
        return Lease(bus.store, key, self._owner, ttl=ttl, clock=self._entries.clock)

    async def _consume(self, bus: Bus) -> None:
        await bus.consume(
            (self._topic,),
            inbox_group(self._topic),
            self.handle,
            in_flight=self._in_flight,
            started=lambda: None,
            stop=self._entries.stop,
        )

    async def handle(self, batch: list[Received]) -> None:
        """Settle each entry; entries of one key in the order in which they come."""
        async with asyncio.TaskGroup() as group:
            for received in batch:
                # Tasks start in order, and each takes its turn before it first waits.
                group.create_task(self._serve(received))

    async def _serve(self, received: Received) -> None:
        entry = await self._entries.read(received)
        if entry is not None:
            await self._finish(entry)

    async def _alone(self, entry: Entry) -> None:
        await self._entries.finish(entry)

    async def _in_turn(self, entry: Entry) -> None:
        """Behind the entry of the same key that came before it."""
        key = entry.delivery.key
        before, mine = self._last.get(key), asyncio.Event()
        self._last[key] = mine
        try:
            if before is not None:
                await before.wait()
            await self._entries.finish(entry, in_place=True)
        finally:
            mine.set()
            if self._last.get(key) is mine:
                del self._last[key]
