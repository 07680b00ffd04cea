"""The inbox's server: the Trigger's worker delivers what waits in a subscriber's inbox.

One per subscriber, through the same pipeline as direct deliveries, so their limits
hold together. `ordered` inboxes have one owner among all workers, by a lease, who
delivers the entries of one key one after another and different keys side by side.
Stored deliveries are only acknowledged when they are settled, so what a dead owner
had in hand comes again before what is newer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ofevents.api.resolved import ResolvedDelivery, ResolvedSubscriber
from ofevents.bus.topics import inbox_group
from ofevents.ports import Bus, Received
from ofevents.trigger.batch import Batches
from ofevents.trigger.entries import Entries, Entry
from ofevents.trigger.ownership import consume_alone
from ofevents.trigger.turns import Turns

LEAST_IN_FLIGHT: Final = 64


def most_in_hand(options: ResolvedDelivery, in_flight: int) -> int:
    """Entries of one inbox in hand at most; the Trigger's `in_flight` bounds it (promise 7)."""
    wanted = max(LEAST_IN_FLIGHT, 2 * options.concurrency, 2 * options.batch_size)
    return min(in_flight, wanted)


class InboxServer:
    """Serves the inbox of one subscriber."""

    def __init__(self, spec: ResolvedSubscriber, entries: Entries) -> None:
        options = spec.delivery
        self._topic = spec.inbox
        self._entries = entries
        self._ordered = options.ordered
        self._finish: Callable[[Entry], Awaitable[None]] = self._alone
        if options.batch_size:
            self._finish = Batches(entries, options).finish
        elif options.ordered:
            self._finish = self._in_turn
        self._turns = Turns()

    async def run(self, bus: Bus) -> None:
        """Serve until asked to stop; returns when what is in hand is settled.

        Raises:
            Disconnected: as `Bus.consume`.
        """
        topics, group, stop = (self._topic,), inbox_group(self._topic), self._entries.stop
        if self._ordered:
            await consume_alone(
                bus,
                topics,
                group,
                self.handle,
                in_flight=self._entries.most,
                started=_nothing,
                clock=self._entries.clock,
                stop=stop,
            )
        else:
            await bus.consume(
                topics,
                group,
                self.handle,
                in_flight=self._entries.most,
                started=_nothing,
                stop=stop,
            )

    async def handle(self, batch: list[Received]) -> None:
        """Settle each entry; in order, entries of one key one after another."""
        async with asyncio.TaskGroup() as group:
            for received in batch:
                # Tasks start in order, and take their turns before they first wait.
                group.create_task(self._serve(received))

    async def _serve(self, received: Received) -> None:
        with self._entries.in_hand():
            entry = await self._entries.read(received)
            if entry is not None:
                await self._finish(entry)

    async def _alone(self, entry: Entry) -> None:
        await self._entries.finish(entry)

    async def _in_turn(self, entry: Entry) -> None:
        async with self._turns.take(entry.delivery.key):
            await self._entries.finish(entry, in_place=True)


def _nothing() -> None:
    """The inputs' consumer says when the worker is live."""
