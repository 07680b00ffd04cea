"""What is done with an inbox entry: read it, wait until it may be called, call it.

The inbox's server and its two special orders (`ordered`, `batch`) share it. What
waits for the subscriber as a whole (it is away or misconfigured, or the bus has no room
for what it writes) stays in hand, bounded by the consumer's in-flight count; what waits
for its own next attempt goes back to the end of the inbox, kept by the bus until it
is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ofevents.clock import Clock
from ofevents.errors import BadEvent, BusFull, TemporaryError
from ofevents.health import WorkerHealth
from ofevents.ports import DONE, Delivery, Received, Verdict, retry
from ofevents.process import unless
from ofevents.telemetry import Log
from ofevents.trigger.handover import Handover, Later
from ofevents.trigger.inbox import stored_at
from ofevents.trigger.stalls import Stalls
from ofevents.trigger.suspects import Suspects
from ofevents.trigger.unread import unread

RETRY_AFTER = 1.0
"""Seconds before the bus hands out again what could not be settled."""

LEAVE_WITHIN = 2.0
"""Seconds within which a consumer that was asked to stop takes no more messages."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A delivery in hand, read from the inbox."""

    received: Received
    delivery: Delivery
    stored: float


class Entries:
    """Handles the entries of one inbox; nothing it does raises but cancelling."""

    def __init__(
        self,
        handover: Handover,
        *,
        trigger: str,
        suspects: Suspects,
        most: int,
        wide: bool,
        worker: WorkerHealth,
        clock: Clock,
        stop: asyncio.Event,
    ) -> None:
        """`trigger` is `namespace/name`; `most` are in hand at once, or fewer where the bus
        is not `wide` (`BusFeatures`); `stop` ends every wait."""
        self.most = most
        self._wide = wide
        self.handover = handover
        self.clock = clock
        self.stop = stop
        self._trigger = trigger
        self._suspects = suspects
        self._worker = worker
        self._stalls = Stalls(Log(trigger=trigger, subscriber=handover.name), clock)

    async def read(self, received: Received) -> Entry | None:
        """The entry; None when it was settled here, as it is no delivery."""
        try:
            body = received.body
            if not isinstance(body, Delivery):
                raise BadEvent("an inbox holds deliveries, not bare events")
        except BadEvent as error:
            letter = unread(received, self._trigger, self.handover.name)
            await self.settle(received, self._bury(letter, error))
            return None
        return Entry(received, body, stored_at(received))

    async def _bury(self, letter: Delivery, error: BadEvent) -> Verdict:
        await self.handover.bury(letter, error, 0, "inbox")
        return DONE

    def early(self, entry: Entry) -> float:
        """Seconds until it is due; 0 where the bus has kept it back for long enough."""
        return max(0.0, entry.delivery.due - self.clock.now())

    async def finish(self, entry: Entry, *, in_place: bool = False) -> None:
        """Return when the entry is settled, or given back to the bus.

        `in_place` keeps it in hand until it is delivered, whatever it waits for.
        """
        await self.settle(entry.received, self._finish(entry, in_place))

    async def _finish(self, entry: Entry, in_place: bool) -> Verdict:
        door, delivery = self.handover.door, entry.delivery
        if (early := self.early(entry)) > 0 and not (
            in_place and await unless(self.stop, self.clock.sleep(early))
        ):
            return retry(early)
        while await door.opened(delivery, self.stop):
            async with self._suspects.handling(entry.received) as crashed:
                if crashed is not None:
                    letter = unread(entry.received, self._trigger, self.handover.name)
                    await self.handover.bury(letter, crashed, delivery.attempt, "inbox")
                    return DONE
                probed = door.probing(delivery) and not in_place
                later = await self._call(delivery, entry.stored, in_place)
            if later is None:
                return DONE
            if not (in_place or self.stays(later)) or (probed and self._crowded):
                await self.handover.put(later.delivery, later.reason, later.due, entry.stored)
                return DONE
            delivery = later.delivery
            if not await self.wait(later):
                break
        if in_place:
            return retry()
        # Asked to stop. Written anew it is there for whoever comes next: what is only given
        # back a server that restarts meanwhile hands out after the ack wait. Not at once,
        # or it came to us while we leave.
        due = max(delivery.due, self.clock.now() + LEAVE_WITHIN)
        await self.handover.put(delivery, "Stopped", due, entry.stored)
        return DONE

    async def _call(self, delivery: Delivery, stored: float, in_place: bool) -> Later | None:
        try:
            return await self.handover.call(delivery, stored)
        except TemporaryError as error:
            if not in_place:
                raise
            self._stalls.tell(error.reason, str(error))
            due = self.clock.now() + max(error.delay, RETRY_AFTER)
            return Later(delivery, error.reason, due)

    @property
    def _crowded(self) -> bool:
        """Nothing else comes to hand: a failed probe makes room for another event's.

        A bus that is not wide may hand out nothing else for as long as it is held.
        """
        return not self._wide or self.handover.door.waiting >= self.most - 1

    def stays(self, later: Later) -> bool:
        """Whether it waits for the subscriber as a whole: then it is not written anew."""
        return self.handover.door.closed or later.reason == BusFull.reason

    async def wait(self, later: Later) -> bool:
        """Wait until it is due; False when asked to stop before."""
        return await unless(self.stop, self.clock.sleep(later.due - self.clock.now()))

    async def settle(self, received: Received, work: Coroutine[Any, Any, Verdict]) -> None:
        """Settle the message as the work says, or to come again where it fails."""
        try:
            received.settle(await work)
        except Exception as error:
            received.settle(self.verdict(error))

    def verdict(self, error: Exception) -> Verdict:
        """When to hand out again what could not be settled."""
        if isinstance(error, TemporaryError):
            self._stalls.tell(error.reason, str(error))
            return retry(max(error.delay, RETRY_AFTER))
        # A defect of ours must not take the other messages with it.
        self._stalls.defect(error)
        return retry(RETRY_AFTER)

    @contextmanager
    def in_hand(self) -> Iterator[None]:
        """Count a message as in hand; the end is a step of progress."""
        self._worker.in_flight += 1
        try:
            with self.handover.wait:
                yield
        finally:
            self._worker.in_flight -= 1
            self._worker.step()
