"""Steps 3 to 5 of the data's way: messages of the inputs' topics in, each settled.

Called by the bus with what it hands out. A message that concerns nobody is settled
at once, without a task: that is most of the traffic, and it has to cost little.
Any other is settled when it is so for every subscriber: delivered, in its inbox,
held in the store for a half-met condition, or stored as a dead letter. Until then
it stays unacknowledged (OpenFunction acknowledged at hand-off).

What nothing could take is tried again in hand for the first seconds, and goes back to
the bus after that. A message that was given back is not safe from delay: when a
nats-server purges a stream to make room, it forgets which messages it was about to hand
out again, and they come an ack wait later. One of them is enough to keep a full bus
full, as nothing behind it can be purged.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final

from ofevents.api.resolved import ResolvedTrigger
from ofevents.clock import Clock
from ofevents.errors import BadEvent, PermanentError, TemporaryError
from ofevents.event import Event
from ofevents.health import WorkerHealth
from ofevents.ports import DONE, Received, Verdict, retry
from ofevents.process import unless
from ofevents.subscriber import DeadLetters
from ofevents.telemetry import CONSUMED, FILTERED, Log
from ofevents.trigger.evaluator import NO_INPUT, Decision, Evaluator
from ofevents.trigger.stalls import Stalls
from ofevents.trigger.steps import Steps
from ofevents.trigger.suspects import TRUSTED, Suspects
from ofevents.trigger.trace import Trace
from ofevents.trigger.turns import Turn
from ofevents.trigger.unread import unread
from ofevents.trigger.waits import NamedWait

FIRST_RETRY: Final = 0.5
LONGEST_RETRY: Final = 30.0
"""Seconds before what nothing could take is tried again, from, to."""
IN_HAND: Final = 5.0
"""Longest wait between two tries that a message spends in hand, in seconds."""


@dataclass(frozen=True, slots=True)
class _Decided:
    """An event that concerns somebody."""

    event: Event
    decision: Decision
    turns: list[Turn | None]
    settled: set[int] = field(default_factory=set)
    """Subscribers for which it is settled, when it is tried again."""

    def release(self) -> None:
        """Let pass whoever waits behind it."""
        for turn in self.turns:
            if turn is not None:
                turn.release()


class Inputs:
    """Handles the messages of one Trigger's inputs."""

    def __init__(
        self,
        spec: ResolvedTrigger,
        *,
        evaluator: Evaluator,
        steps: Steps,
        dead_letters: DeadLetters,
        suspects: Suspects,
        worker: WorkerHealth,
        clock: Clock,
        stop: asyncio.Event,
        trace: Trace | None,
    ) -> None:
        """`dead_letters` are the Trigger's own, for messages that no subscriber gets."""
        self._trigger = f"{spec.namespace}/{spec.owner}"
        self._decide = evaluator.decide
        self._steps = steps
        self._dead_letters = dead_letters
        self._suspects = suspects
        self._worker = worker
        self._waiting = NamedWait(worker, "something that takes events")
        self._clock = clock
        self._stop = stop
        self._trace = trace
        # Not asked of the logger for each message: most are filtered, in a microsecond.
        self._verbose = trace is not None or spec.log_level == "debug"
        self._log = Log(trigger=self._trigger)
        self._stalls = Stalls(self._log, clock)
        self._resource = (spec.namespace, spec.owner)
        self._consumed = CONSUMED.labels(*self._resource)

    async def handle(self, batch: list[Received]) -> None:
        """Settle every message; returns when all are."""
        decide = self._decide
        concerned: list[tuple[Received, _Decided | None]] = []
        # The decisions that end an event are few and shared: runs of them are counted.
        last, run = NO_INPUT, 0
        for received in batch:
            if received.attempt > TRUSTED:
                concerned.append((received, None))
                continue
            try:
                event = _event(received)
            except BadEvent:
                concerned.append((received, None))
                continue
            decision = decide(received.topic, event)
            if decision.steps:
                turns = self._steps.turns(decision, event)
                concerned.append((received, _Decided(event, decision, turns)))
                continue
            received.settle(DONE)
            if decision is not last:
                self._count(last, run)
                last, run = decision, 0
            run += 1
            if self._verbose:
                self._tell_filtered(event, decision)
        self._count(last, run)
        self._consumed.inc(len(batch))
        self._worker.step()
        if len(concerned) == 1:
            await self._settle(*concerned[0])
        elif concerned:
            async with asyncio.TaskGroup() as group:
                for received, decided in concerned:
                    group.create_task(self._settle(received, decided))

    async def _settle(self, received: Received, decided: _Decided | None) -> None:
        """Handle one message that concerns somebody, or must be looked at first."""
        self._worker.in_flight += 1
        tries = 0
        try:
            while True:
                try:
                    verdict = await self._try(received, decided)
                    break
                except TemporaryError as error:
                    wait = self._tell_unsettled(received, error, tries)
                    if wait > IN_HAND or not await self._pause(wait):
                        verdict = retry(wait)
                        break
                except Exception as error:
                    # A defect of ours must not take the other messages with it.
                    self._stalls.defect(error)
                    verdict = retry(FIRST_RETRY)
                    break
                tries += 1
                if decided is not None:
                    decided.release()
                    turns = self._steps.turns(decided.decision, decided.event)
                    decided = replace(decided, turns=turns)
            received.settle(verdict)
        finally:
            if decided is not None:
                decided.release()
            self._worker.in_flight -= 1
            self._worker.step()

    async def _try(self, received: Received, decided: _Decided | None) -> Verdict:
        """What becomes of it.

        Raises:
            TemporaryError: nothing has taken it.
        """
        async with self._suspects.handling(received) as crashed:
            if crashed is not None:
                return await self._bury(received, crashed)
            if decided is None:
                return await self._look(received)
            return await self._carry_out(received, decided)

    def _tell_unsettled(self, received: Received, error: TemporaryError, tries: int) -> float:
        """How long to wait with it now, in seconds; it was tried in hand so often before."""
        self._stalls.tell(error.reason, str(error))
        if self._trace is not None:
            self._trace(_id(received), self._trigger, "", "unsettled", str(error))
        wait = FIRST_RETRY * 2.0 ** min(received.attempt - 1 + tries, 30)
        return max(error.delay, min(LONGEST_RETRY, wait))

    async def _pause(self, seconds: float) -> bool:
        """Wait with a message in hand; False when the worker is to stop."""
        with self._waiting:
            return await unless(self._stop, self._clock.sleep(seconds))

    async def _look(self, received: Received) -> Verdict:
        """Read and decide what the quick way left alone: a suspect, or no event at all."""
        try:
            event = _event(received)
        except BadEvent as error:
            return await self._bury(received, error)
        decision = self._decide(received.topic, event)
        if not decision.steps:
            self._count(decision, 1)
            self._tell_filtered(event, decision)
            return DONE
        decided = _Decided(event, decision, self._steps.turns(decision, event))
        try:
            return await self._carry_out(received, decided)
        finally:
            decided.release()

    async def _carry_out(self, received: Received, decided: _Decided) -> Verdict:
        failed = await self._steps.carry_out(
            decided.decision, decided.event, received.stored, decided.turns, decided.settled
        )
        if failed is not None:
            raise failed
        return DONE

    async def _bury(self, received: Received, error: PermanentError) -> Verdict:
        letter = unread(received, self._trigger)
        await self._dead_letters.store(letter, error, attempts=0, where="bus")
        if self._trace is not None:
            self._trace(letter.event.id, self._trigger, "", "dead-lettered", str(error))
        return DONE

    def _count(self, decision: Decision, run: int) -> None:
        if run:
            FILTERED.labels(*self._resource, decision.ended, decision.reason).inc(run)

    def _tell_filtered(self, event: Event, decision: Decision) -> None:
        self._log.debug("filtered", id=event.id, step=decision.ended, reason=decision.reason)
        if self._trace is not None:
            self._trace(event.id, self._trigger, "", "filtered", decision.ended)


def _event(received: Received) -> Event:
    """The message's event.

    Raises:
        BadEvent: it is none.
    """
    body = received.body
    if isinstance(body, Event):
        return body
    raise BadEvent("a topic of events holds events, not deliveries")


def _id(received: Received) -> str:
    """The event's id, or the message's position where it has none."""
    try:
        return _event(received).id
    except BadEvent:
        return received.position
