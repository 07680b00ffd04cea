"""Steps 3 to 5 of the data's way: messages of the inputs' topics in, each settled.

Called by the bus with what it hands out. A message that concerns nobody is settled
at once, without a task: that is most of the traffic, and it has to cost little.
Any other is settled when it is so for every subscriber: delivered, in its inbox,
held in the store for a half-met condition, or stored as a dead letter. Until then
it stays unacknowledged (OpenFunction acknowledged at hand-off).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ofevents.api.resolved import ResolvedTrigger
from ofevents.errors import BadEvent, EvaluationError, PermanentError, TemporaryError, TooLarge
from ofevents.event import Event
from ofevents.health import WorkerHealth
from ofevents.ports import DONE, Received, Verdict, retry
from ofevents.subscriber import DeadLetters
from ofevents.telemetry import CONSUMED, FILTERED, WAITING, Log
from ofevents.trigger.evaluator import Broken, Decision, Evaluator, Joining, Owed, Step
from ofevents.trigger.handover import Handover
from ofevents.trigger.join import Joins
from ofevents.trigger.joinstate import Match, Waits
from ofevents.trigger.suspects import TRUSTED, Suspects
from ofevents.trigger.trace import Outcome, Trace
from ofevents.trigger.unread import unread

FIRST_RETRY = 0.5
LONGEST_RETRY = 30.0
"""Seconds before the bus hands out again what nothing could take."""


@dataclass(frozen=True, slots=True)
class Fired:
    """A join that is met: what it owes (None: nothing), to be struck out once settled."""

    joining: Joining
    match: Match
    due: Owed | Broken | None


class Inputs:
    """Handles the messages of one Trigger's inputs."""

    def __init__(
        self,
        spec: ResolvedTrigger,
        *,
        evaluator: Evaluator,
        joins: Joins,
        handovers: Sequence[Handover],
        dead_letters: DeadLetters,
        suspects: Suspects,
        worker: WorkerHealth,
        trace: Trace | None,
    ) -> None:
        """`handovers` are in the order of the subscribers; `dead_letters` the Trigger's own."""
        self._trigger = f"{spec.namespace}/{spec.name}"
        self._decide = evaluator.decide
        self._evaluator = evaluator
        self._joins = joins
        self._handovers = handovers
        self._dead_letters = dead_letters
        self._suspects = suspects
        self._worker = worker
        self._trace = trace
        # Not asked of the logger for each message: most are filtered, in a microsecond.
        self._verbose = trace is not None or spec.log_level == "debug"
        self._log = Log(trigger=self._trigger)
        self._resource = (spec.namespace, spec.name)
        self._consumed = CONSUMED.labels(*self._resource)
        self._waiting = [WAITING.labels(*self._resource, one.name) for one in spec.subscribers]

    async def handle(self, batch: list[Received]) -> None:
        """Settle every message; returns when all are."""
        decide = self._decide
        concerned: list[tuple[Received, Decision | None]] = []
        filtered: Counter[Decision] = Counter()
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
                concerned.append((received, decision))
                continue
            received.settle(DONE)
            filtered[decision] += 1
            if self._verbose:
                self._filtered(event, decision)
        self._consumed.inc(len(batch))
        for decision, count in filtered.items():
            FILTERED.labels(*self._resource, decision.ended, decision.reason).inc(count)
        self._worker.step()
        if len(concerned) == 1:
            await self._settle(*concerned[0])
        elif concerned:
            async with asyncio.TaskGroup() as group:
                for received, known in concerned:
                    group.create_task(self._settle(received, known))

    async def _settle(self, received: Received, decision: Decision | None) -> None:
        """Handle one message that concerns somebody, or must be looked at first."""
        self._worker.in_flight += 1
        try:
            async with self._suspects.handling(received) as crashed:
                received.settle(await self._verdict(received, decision, crashed))
        except TemporaryError as error:
            received.settle(self._again(received, error))
        except Exception as error:
            # A defect of ours must not take the other messages with it.
            self._log.error("stalled", reason="Defect", error=repr(error))
            received.settle(retry(FIRST_RETRY))
        finally:
            self._worker.in_flight -= 1
            self._worker.step()

    async def _verdict(
        self, received: Received, decision: Decision | None, crashed: PermanentError | None
    ) -> Verdict:
        if crashed is not None:
            return await self._bury_unread(received, crashed)
        try:
            event = _event(received)
        except BadEvent as error:
            return await self._bury_unread(received, error)
        if decision is None:
            decision = self._decide(received.topic, event)
        if not decision.steps:
            FILTERED.labels(*self._resource, decision.ended, decision.reason).inc()
            self._filtered(event, decision)
            return DONE
        failed: list[TemporaryError] = []
        due: list[Owed | Broken | Fired] = []
        for step in decision.steps:
            # Joins take their turns here, so that events meet in the order they came.
            met = await self._meet(step, event, received.stored, failed)
            if met is not None:
                due.append(met)
        if len(due) == 1:
            await self._try(due[0], received.stored, failed)
        elif due:
            async with asyncio.TaskGroup() as group:
                for one in due:
                    group.create_task(self._try(one, received.stored, failed))
        return self._again(received, failed[0]) if failed else DONE

    async def _meet(
        self, step: Step, event: Event, stored: float, failed: list[TemporaryError]
    ) -> Owed | Broken | Fired | None:
        """What is owed now; for a join only what its state in the store says."""
        if not isinstance(step, Joining):
            return step
        try:
            found = await self._joins.arrive(step, event, stored)
        except TemporaryError as error:
            failed.append(error)
            return None
        except EvaluationError as error:
            return self._failure(step.subscriber, (event,), error)
        except TooLarge as error:
            return Broken(step.subscriber, self._evaluator.plain(step.subscriber, (event,)), error)
        if isinstance(found, Match):
            return self._fired(step, found, event)
        if found is Waits.HELD:
            self._waiting[step.subscriber].inc()
            self._tell(event, step.subscriber, "waiting", ", ".join(step.inputs))
        return None

    def _fired(self, joining: Joining, match: Match, event: Event) -> Fired:
        events = match.events(event)
        try:
            delivery = self._evaluator.delivery(joining.subscriber, match.present(event), events)
        except EvaluationError as error:
            return Fired(joining, match, self._failure(joining.subscriber, events, error))
        return Fired(joining, match, Owed(joining.subscriber, delivery))

    def _failure(
        self, subscriber: int, events: tuple[Event, ...], error: EvaluationError
    ) -> Broken | None:
        broken = self._evaluator.failure(subscriber, events, error)
        if broken is None:
            FILTERED.labels(*self._resource, "condition", "error").inc()
        return broken

    async def _try(
        self, step: Owed | Broken | Fired, stored: float, failed: list[TemporaryError]
    ) -> None:
        """Settle it for one subscriber, whose trouble does not interrupt the others."""
        try:
            await self._settle_step(step, stored)
        except TemporaryError as error:
            failed.append(error)

    async def _settle_step(self, step: Owed | Broken | Fired | None, stored: float) -> None:
        if isinstance(step, Owed):
            await self._handovers[step.subscriber].settle(step.delivery, stored)
        elif isinstance(step, Broken):
            handover = self._handovers[step.subscriber]
            await handover.bury(step.delivery, step.error, 0, "condition")
        elif isinstance(step, Fired):
            await self._settle_step(step.due, stored)
            await self._joins.settle(step.joining, step.match)

    async def _bury_unread(self, received: Received, error: PermanentError) -> Verdict:
        letter = unread(received, self._trigger)
        await self._dead_letters.store(letter, error, attempts=0, where="bus")
        if self._trace is not None:
            self._trace(letter.event.id, self._trigger, "", "dead-lettered", str(error))
        return DONE

    def _again(self, received: Received, error: TemporaryError) -> Verdict:
        wait = min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(received.attempt - 1, 30))
        self._log.warning("stalled", reason=error.reason, error=str(error))
        if self._trace is not None:
            self._trace(_id(received), self._trigger, "", "unsettled", str(error))
        return retry(max(error.delay, wait))

    def _filtered(self, event: Event, decision: Decision) -> None:
        self._log.debug("filtered", id=event.id, step=decision.ended, reason=decision.reason)
        if self._trace is not None:
            self._trace(event.id, self._trigger, "", "filtered", decision.ended)

    def _tell(self, event: Event, subscriber: int, outcome: Outcome, detail: str) -> None:
        if self._trace is not None:
            name = self._handovers[subscriber].name
            self._trace(event.id, self._trigger, name, outcome, detail)


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
