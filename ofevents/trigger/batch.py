"""`delivery.batch`: several inbox entries in one call.

The first entry of a batch waits until it is full, its time is over, or the worker
stops; then it delivers for all. A batch that is refused is delivered again one by
one, so that one poison event does not bury the healthy ones that came with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ofevents.api.resolved import ResolvedDelivery
from ofevents.errors import PermanentError
from ofevents.ports import DONE, Delivery, Verdict, retry
from ofevents.process import unless
from ofevents.trigger.entries import Entries, Entry
from ofevents.trigger.suspects import TRUSTED


@dataclass(slots=True)
class _Batch:
    """A batch that fills: `full` once nothing more fits, `done` once all are settled."""

    entries: list[Entry] = field(default_factory=list)
    full: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)


def combine(deliveries: Sequence[Delivery]) -> Delivery:
    """One delivery of all their events in order, each with its own payload in place."""
    events = tuple(event for one in deliveries for event in (*one.events[:-1], one.event))
    return replace(
        deliveries[-1],
        events=events,
        payload=None,
        attempt=max(one.attempt for one in deliveries),
        generation=max(one.generation for one in deliveries),
    )


class Batches:
    """Collects entries and settles each when its batch is delivered."""

    def __init__(self, entries: Entries, options: ResolvedDelivery) -> None:
        self._entries = entries
        self._size = options.batch_size
        self._wait = options.batch_wait
        self._filling: _Batch | None = None
        # One batch after another where order matters, whatever their keys.
        self._turn = asyncio.Semaphore(1 if options.ordered else options.concurrency)
        self._ordered = options.ordered

    async def finish(self, entry: Entry) -> None:
        """Return when the entry is settled, or given back to the bus."""
        if entry.received.attempt > TRUSTED or self._entries.early(entry):
            await self._entries.finish(entry, in_place=self._ordered)
            return
        batch, leads = self._filling, False
        if batch is None:
            batch, leads = _Batch(), True
            self._filling = batch
        batch.entries.append(entry)
        if len(batch.entries) >= self._size:
            self._filling = None
            batch.full.set()
        if not leads:
            await batch.done.wait()
            return
        try:
            await unless(self._entries.stop, self._until_full(batch))
            if self._filling is batch:
                self._filling = None
            async with self._turn:
                await self._deliver(batch.entries)
        finally:
            batch.done.set()

    async def _until_full(self, batch: _Batch) -> None:
        await unless(batch.full, self._entries.clock.sleep(self._wait))

    async def _deliver(self, entries: list[Entry]) -> None:
        """Settle them all: together, or one by one when the batch is refused."""
        if len(entries) > 1:
            verdict = await self._together(entries)
            if verdict is not None:
                for entry in entries:
                    entry.received.settle(verdict)
                return
        for entry in entries:
            await self._entries.finish(entry, in_place=self._ordered)

    async def _together(self, entries: list[Entry]) -> Verdict | None:
        """How the whole batch is settled; None when the subscriber refuses it."""
        handover, stop = self._entries.handover, self._entries.stop
        combined = combine([entry.delivery for entry in entries])
        stored = min(entry.stored for entry in entries)
        try:
            while await handover.door.opened(combined, stop):
                later = await handover.offer(combined, stored)
                if later is None:
                    return DONE
                if not (self._ordered or self._entries.stays(later)):
                    for entry in entries:
                        part = replace(entry.delivery, attempt=later.delivery.attempt)
                        await handover.put(part, later.reason, later.due, entry.stored)
                    return DONE
                combined = later.delivery
                if not await self._entries.wait(later):
                    break
        except PermanentError:
            return None
        except Exception as error:
            # Where order matters, one by one: that way waits in place.
            return None if self._ordered else self._entries.verdict(error)
        return retry()
