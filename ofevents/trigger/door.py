"""Whether a subscriber may be called now, or its deliveries go to its inbox.

One per subscriber and worker. The handover asks it before each delivery, the inbox's
server waits at it with what it has in hand, and the subscriber's `Gate` asks it before
each call and tells it how the call ended. What it knows: the in-flight share, a bus
that has no room for what the subscriber writes (its topic, or its reply), and the
evidence that the subscriber is away or misconfigured (`away.py`), which all workers
share. While that is so, one delivery at a time is let through as a probe.

The failures that told of an outage count against no event, as those after them do not:
who was one of the first is found in `victims` when its next call is due. A delivery that
was being called in `SUSPECT_AFTER` outages is called alone, so that the next outage is
its doing or not: then its failure counts, whatever comes after.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

from ofevents.api.resolved import ResolvedDelivery
from ofevents.clock import Clock
from ofevents.errors import BusFull, Misconfigured, PermanentError, Unavailable
from ofevents.event import digest
from ofevents.ports import Delivery
from ofevents.process import unless
from ofevents.subscriber import Postponed
from ofevents.trigger.alone import Passage
from ofevents.trigger.away import Away
from ofevents.trigger.evidence import AWAY, Evidence, Failure

FIRST_FULL: Final = 0.25
LONGEST_FULL: Final = 5.0
"""Seconds between two tries to write to a full bus: from, to."""
SUSPECT_AFTER: Final = 2
"""Outages in which a delivery was being called before it is called alone."""


@dataclass(frozen=True, slots=True)
class Diversion:
    """To the inbox: why (CamelCase, as in `ofevents_inboxed`), and when it is due."""

    reason: str
    due: float = 0.0


@dataclass(slots=True)
class _Bolt:
    """One reason to stay closed, for a backoff that grows with each round in a row."""

    until: float = 0.0
    rounds: int = 0

    def shut(self, now: float, first: float, longest: float, least: float) -> bool:
        """Whether a new round begins: who finds it shut already changes nothing."""
        if now < self.until:
            return False
        wait = min(longest, first * 2.0 ** min(self.rounds, 60))
        self.rounds += 1
        self.until = now + max(wait, least)
        return True

    def open(self) -> bool:
        """Whether there was anything to open."""
        used, self.until, self.rounds = self.rounds > 0, 0.0, 0
        return used


class Door:
    """See the module. It implements `ofevents.subscriber.Observer`.

    Attributes:
        inside: direct deliveries that are in hand now.
        victims: digests of the events whose failures told of the last outage.
    """

    def __init__(
        self,
        options: ResolvedDelivery,
        *,
        share: int | None,
        away: Away,
        clock: Clock,
        report: Callable[[BusFull | None], None],
        retrying: Callable[[Delivery, Unavailable], None],
    ) -> None:
        """
        Args:
            share: direct deliveries in hand at most, None where nobody else waits.
            report: told when the bus turns out full for the subscriber, None when that
                is over.
            retrying: told of every failed call.
        """
        self.inside = 0
        self.victims: set[str] = set()
        self.away = away
        self.passage = Passage()
        self.retrying = retrying
        self.clock = clock
        self._options = options
        self._share = share
        self._report = report
        self._always = _always(options)
        self._full = _Bolt()
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._probes: set[int] = set()

    def divert(self, stored: float) -> Diversion | None:
        """Why a new delivery goes to the inbox; None when it is called directly.

        `stored` is when the bus stored its last event (Unix seconds).
        """
        if self._always is not None:
            after = self._options.deliver_after
            return Diversion(self._always, stored + after if after else 0.0)
        if (closed := self.away.evidence.closed) is not None:
            return Diversion(closed)
        if self._full.until > self.clock.now():
            return Diversion(BusFull.reason)
        if self._share is not None and self.inside >= self._share:
            return Diversion("Busy")
        return None

    @property
    def closed(self) -> bool:
        """No ordinary call should be made now."""
        return self.away.closed or self._full.until > self.clock.now()

    async def opened(self, delivery: Delivery, stop: asyncio.Event) -> bool:
        """Return True once it may be called: any may, or it is the next probe.

        False when asked to stop before.
        """
        while not stop.is_set():
            if (wait := self._full.until - self.clock.now()) > 0:
                await unless(stop, self.clock.sleep(wait))
            elif not self.away.closed:
                return True
            elif await self._turn(stop):
                self._probes.add(id(delivery))
                return True
        return False

    async def _turn(self, stop: asyncio.Event) -> bool:
        """Wait until it is the next probe (True), or the subscriber is back (False)."""
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await unless(stop, _result(turn))
        finally:
            if not turn.done():
                self._waiting.remove(turn)
        return turn.done() and turn.result()

    async def watch(self) -> None:
        """Keep the evidence up to date, and let probes through, until cancelled."""
        await self.away.run(lambda: bool(self._waiting), self._probe)

    def _probe(self) -> None:
        """Who has waited longest is the next probe, so that they rotate over the events."""
        if self._waiting:
            self._waiting.popleft().set_result(True)

    def turned(self, evidence: Evidence) -> None:
        """The subscriber was closed, or is open again: then all who wait go on."""
        if evidence.closed:
            self.victims = set(evidence.events)
        while self._waiting and not evidence.closed:
            self._waiting.popleft().set_result(False)

    def full(self, error: BusFull) -> None:
        """Close it for a backoff that grows with each round."""
        if self._full.shut(self.clock.now(), FIRST_FULL, LONGEST_FULL, error.delay):
            self._report(error)

    def settled(self) -> None:
        """A delivery went all the way, so the bus had room for what it wrote."""
        if self._full.open():
            self._report(None)

    @property
    def waiting(self) -> int:
        """How many of the inbox's deliveries wait for its return."""
        return len(self._waiting)

    def probing(self, delivery: Delivery) -> bool:
        """Whether its next call is a probe."""
        return id(delivery) in self._probes

    def over(self, delivery: Delivery) -> None:
        """Its call has ended, or was never made."""
        self._probes.discard(id(delivery))

    def calling(self, delivery: Delivery) -> Call:
        """See `Observer`."""
        return Call(self, delivery, self.probing(delivery))


async def _result(turn: asyncio.Future[bool]) -> None:
    await asyncio.wait([turn])


class Call:
    """One call to the subscriber; see `ofevents.subscriber.Call`."""

    __slots__ = ("_alone", "_began", "_delivery", "_door", "_passing", "_probe")

    def __init__(self, door: Door, delivery: Delivery, probe: bool) -> None:
        self._door = door
        self._delivery = delivery
        self._probe = probe
        self._alone = not probe and delivery.outages >= SUSPECT_AFTER
        self._passing = door.passage.alone() if self._alone else door.passage.together
        self._began = 0.0

    async def __aenter__(self) -> Self:
        await self._passing.__aenter__()
        refused = self._refused()
        if refused is not None:
            await self._passing.__aexit__(None, None, None)
            raise refused
        self._began = self._door.clock.monotonic()
        return self

    def _refused(self) -> Postponed | None:
        """Why the call is not to be made now."""
        door, delivery = self._door, self._delivery
        if self._probe:
            return None
        if door.victims and delivery.attempt and not self._alone and self._was_victim():
            delivery = _in_outage(replace(delivery, attempt=delivery.attempt - 1))
        elif not door.away.closed:
            return None
        return self._postponed(delivery, Unavailable(door.away.evidence.error))

    def _was_victim(self) -> bool:
        """Whether its last failure told of the outage; asked once."""
        event = _digest(self._delivery)
        found = event in self._door.victims
        self._door.victims.discard(event)
        return found

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A refusal is an answer, too: whoever gives it is there.
        if kind is None or issubclass(kind, PermanentError):
            self._door.away.accepted(self._began, probe=self._probe)
        await self._passing.__aexit__(None, None, None)

    async def failed(self, error: Unavailable) -> Postponed | None:
        """See `ofevents.subscriber.Call`."""
        door, delivery = self._door, self._delivery
        door.retrying(delivery, error)
        event, wrong = _digest(delivery), isinstance(error, Misconfigured)
        failure = Failure(event, wrong, str(error), error.delay)
        if self._probe:
            await door.away.probe_failed(failure)
            return self._postponed(delivery, error)
        if not await door.away.failed(failure) or self._alone:
            return None
        door.victims.discard(event)
        return self._postponed(_in_outage(delivery), error)

    def _postponed(self, delivery: Delivery, error: Unavailable) -> Postponed:
        reason = self._door.away.evidence.closed or AWAY
        return Postponed(delivery, reason, error, 0.0)


def _digest(delivery: Delivery) -> str:
    last = delivery.events[-1]
    return digest(last.source, last.id)


def _in_outage(delivery: Delivery) -> Delivery:
    return replace(delivery, outages=delivery.outages + 1)


def _always(options: ResolvedDelivery) -> str | None:
    """Why every delivery goes through the inbox, None where it need not."""
    if options.ordered:
        return "Ordered"
    if options.batch_size:
        return "Batch"
    if options.deliver_after:
        return "DeliverAfter"
    return None
