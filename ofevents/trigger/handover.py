"""Step 5 from the trigger's side: a subscriber's delivery is settled, one way or another.

Called by the worker for what was decided and by the inbox's server for what waited.
`settle` returns when the subscriber has accepted it, its inbox holds it, or it is
stored as a dead letter; every other end is a TemporaryError, and the event stays
unsettled on the bus. (OpenFunction acknowledged at hand-off and ended the process
at the first error.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ofevents.api.resolved import ResolvedSubscriber, ResolvedTrigger
from ofevents.clock import Clock
from ofevents.errors import (
    BusFull,
    Misconfigured,
    OfeventsError,
    PermanentError,
    SubscriberAway,
    TooLarge,
    Unavailable,
)
from ofevents.health import WorkerHealth
from ofevents.ports import Bus, Delivery, Subscriber
from ofevents.subscriber import DeadLetters, GivenUp, Postponed, pipeline
from ofevents.subscriber.measure import labels
from ofevents.telemetry import AWAY, DELIVERED, EVENT_AGE, Log
from ofevents.trigger.away import Away, key_of
from ofevents.trigger.door import Door
from ofevents.trigger.evidence import Evidence
from ofevents.trigger.inbox import Inbox
from ofevents.trigger.monitor import Report
from ofevents.trigger.trace import Outcome, Trace
from ofevents.trigger.waits import NamedWait


@dataclass(frozen=True, slots=True)
class Later:
    """A delivery that was called and must wait: why, and until when (Unix seconds).

    With the reason BusFull the bus has no room for what the subscriber writes.
    """

    delivery: Delivery
    reason: str
    due: float


class Handover:
    """The way out to one subscriber.

    Attributes:
        name: the subscriber's.
        door: whether it may be called now.
        wait: names it in the worker's health, around what waits for it.
        inbox: where its deliveries wait.
    """

    def __init__(
        self,
        name: str,
        subscriber_id: str,
        inner: Subscriber,
        *,
        door: Door,
        wait: NamedWait,
        inbox: Inbox,
        dead_letters: DeadLetters,
        clock: Clock,
        trace: Trace | None,
    ) -> None:
        """`inner` raises PermanentError and Postponed; see `ofevents.subscriber.pipeline`."""
        self.name = name
        self.door = door
        self.wait = wait
        self.inbox = inbox
        self._trigger = subscriber_id.rpartition("/")[0]
        self._inner = inner
        self._dead_letters = dead_letters
        self._clock = clock
        self._trace = trace
        self._delivered = DELIVERED.labels(*labels(subscriber_id))
        self._age = EVENT_AGE.labels(*labels(subscriber_id))
        self._log = Log(subscriber=subscriber_id)

    async def settle(self, delivery: Delivery, stored: float) -> None:
        """Return when it is settled; `stored` is when the bus stored its last event.

        Raises:
            TemporaryError: nothing has taken it; the event must come again.
        """
        diversion = self.door.divert(stored)
        if diversion is not None:
            await self.put(delivery, diversion.reason, diversion.due, stored)
            return
        self.door.inside += 1
        try:
            with self.wait:
                later = await self.call(delivery, stored)
        finally:
            self.door.inside -= 1
        if later is not None:
            await self.put(later.delivery, later.reason, later.due, stored)

    async def call(self, delivery: Delivery, stored: float) -> Later | None:
        """Call the subscriber; None when it accepted, or the dead letter is stored.

        Raises:
            TemporaryError: as `settle`.
        """
        try:
            return await self.offer(delivery, stored)
        except GivenUp as error:
            await self.bury(error.delivery, error, error.delivery.attempt, "delivery")
        except PermanentError as error:
            await self.bury(delivery, error, delivery.attempt + 1, "delivery")
        return None

    async def offer(self, delivery: Delivery, stored: float) -> Later | None:
        """As `call`, but what the subscriber refuses is left to the caller.

        Raises:
            PermanentError: it never will accept this delivery.
            TemporaryError: as `settle`.
        """
        try:
            await self._inner.deliver(delivery)
        except Postponed as postponed:
            return Later(postponed.delivery, postponed.reason, postponed.delivery.due)
        except BusFull as full:
            # Its event takes room on the bus until it is settled: it has to leave the
            # inputs for the inbox, which has room of its own, or room never comes.
            self.door.full(full)
            return Later(delivery, full.reason, 0.0)
        finally:
            self.door.over(delivery)
        self.door.settled()
        self._delivered.inc()
        self._age.observe(self._clock.now() - stored)
        self._log.debug("delivered", id=delivery.events[-1].id)
        self._tell(delivery, "delivered", "")
        return None

    async def put(self, delivery: Delivery, reason: str, due: float, stored: float) -> None:
        """Store it in the inbox; what the bus cannot hold becomes a dead letter."""
        try:
            await self.inbox.put(delivery, reason=reason, due=due, stored=stored)
        except TooLarge as error:
            await self.bury(delivery, error, delivery.attempt, "inbox")
        else:
            self._tell(delivery, "inboxed", reason)

    async def bury(
        self, delivery: Delivery, error: OfeventsError, attempts: int, where: str
    ) -> None:
        """Store a dead letter; see `DeadLetters.store`."""
        await self._dead_letters.store(delivery, error, attempts=attempts, where=where)
        self._tell(delivery, "dead-lettered", f"{error.reason}: {error}")

    def _tell(self, delivery: Delivery, outcome: Outcome, detail: str) -> None:
        if self._trace is not None:
            for event in delivery.events:
                self._trace(event.id, self._trigger, self.name, outcome, detail)


@asynccontextmanager
async def open_handover(
    spec: ResolvedTrigger,
    subscriber: ResolvedSubscriber,
    *,
    bus: Bus,
    worker: WorkerHealth,
    clock: Clock,
    report: Report,
    trace: Trace | None,
) -> AsyncIterator[Handover]:
    """The way to that subscriber of the Trigger, with its connections.

    Raises:
        ConfigError: its target is wrong.
    """
    subscriber_id = f"{spec.namespace}/{spec.owner}/{subscriber.name}"
    others = len(spec.subscribers) > 1

    def retrying(delivery: Delivery, error: Unavailable) -> None:
        for event in delivery.events if trace is not None else ():
            assert trace is not None
            trace(
                event.id, f"{spec.namespace}/{spec.owner}", subscriber.name, "retrying", str(error)
            )

    def changed(evidence: Evidence) -> None:
        AWAY.labels(*labels(subscriber_id)).set(evidence.closed is not None)
        tell()
        door.turned(evidence)

    def tell() -> None:
        trouble = away.evidence.trouble
        if isinstance(trouble, Misconfigured) and not away.refused:
            # Hearsay holds up no roll-out: its purpose may be to put right what the workers
            # of before were refused for.
            trouble = SubscriberAway(f"another worker was refused: {trouble}")
        report(subscriber.name, "calls", trouble)

    away = Away(
        bus.store,
        key_of(spec.namespace, spec.owner, subscriber.name),
        clock=clock,
        changed=changed,
        told=tell,
        log=Log(subscriber=subscriber_id),
    )
    door = Door(
        subscriber.delivery,
        share=max(1, spec.in_flight // len(spec.subscribers)) if others else None,
        away=away,
        clock=clock,
        report=lambda error: report(subscriber.name, "room", error),
        retrying=retrying,
    )
    changed(away.evidence)
    dead_letters = DeadLetters(
        bus=bus,
        target=subscriber.dead_letter,
        dead_topic=spec.dead_topic,
        owner=f"{spec.namespace}/{spec.owner}",
        clock=clock,
    )
    # The dead letters are stored here and not by the pipeline: what became of a
    # delivery is counted and shown, and only its outermost wrapper knows.
    way = pipeline(
        subscriber.target,
        subscriber.delivery,
        bus=bus,
        subscriber_id=subscriber_id,
        clock=clock,
        reply_topic=subscriber.reply_topic,
        # On a bus that hands out few at once, what waits in hand would keep back all others:
        # the healthy neighbour's events, and those that tell an outage from a poison event.
        hold=bus.hold if bus.features.wide else 0.0,
        observer=door,
    )
    async with dead_letters, way as inner:
        yield Handover(
            subscriber.name,
            subscriber_id,
            inner,
            door=door,
            wait=NamedWait(worker, f"subscriber {subscriber.name}"),
            inbox=Inbox(subscriber, bus, subscriber_id),
            dead_letters=dead_letters,
            clock=clock,
            trace=trace,
        )
