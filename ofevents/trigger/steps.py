"""What a decision asks for is done: joins are met, deliveries made, dead letters stored.

Called by `inputs.py` for each event that concerns somebody. The subscribers are
served side by side; the trouble of one does not interrupt the others, and comes out
as the error for which the event must come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ofevents.api.resolved import ResolvedTrigger
from ofevents.clock import Clock
from ofevents.errors import EvaluationError, TemporaryError, TooLarge
from ofevents.event import Event
from ofevents.process import unless
from ofevents.telemetry import FILTERED, WAITING
from ofevents.trigger.evaluator import Broken, Decision, Evaluator, Joining, Owed, Step
from ofevents.trigger.handover import Handover
from ofevents.trigger.join import Joins
from ofevents.trigger.joinstate import Match, Waits
from ofevents.trigger.trace import Trace
from ofevents.trigger.turns import Turn, Turns

PAUSE: Final = 0.5
"""Seconds between two tries where a later event must not pass."""


@dataclass(frozen=True, slots=True)
class Fired:
    """A join that is met: what it owes (None: nothing), to be struck out once settled."""

    joining: Joining
    match: Match
    due: Owed | Broken | None

    @property
    def subscriber(self) -> int:
        return self.joining.subscriber


Due = Owed | Broken | Fired


class Steps:
    """Carries out the decisions of one Trigger's worker."""

    def __init__(
        self,
        spec: ResolvedTrigger,
        *,
        evaluator: Evaluator,
        joins: Joins,
        handovers: Sequence[Handover],
        clock: Clock,
        stop: asyncio.Event,
        trace: Trace | None,
    ) -> None:
        """`handovers` are in the order of the subscribers."""
        self._resource = (spec.namespace, spec.owner)
        self._evaluator = evaluator
        self._joins = joins
        self._handovers = handovers
        self._clock = clock
        self._stop = stop
        self._trace = trace
        self._waiting = [WAITING.labels(*self._resource, one.name) for one in spec.subscribers]
        self._ordered = [one.delivery.ordered for one in spec.subscribers]
        self._any_ordered = any(self._ordered)
        self._turns = Turns()

    def turns(self, decision: Decision, event: Event) -> list[Turn | None]:
        """A turn for each step whose order matters; taken when the event is handed out.

        The caller releases them all in the end.
        """
        if not self._any_ordered:
            return [None] * len(decision.steps)
        key = event.partitionkey or ""
        return [
            self._turns.take((step.subscriber, key)) if self._ordered[step.subscriber] else None
            for step in decision.steps
        ]

    async def carry_out(
        self,
        decision: Decision,
        event: Event,
        stored: float,
        turns: Sequence[Turn | None],
        settled: set[int],
    ) -> TemporaryError | None:
        """Return when the event is settled for every subscriber, or why it is not.

        `settled` are the subscribers for which it is so already, and grows.
        """
        failed: list[TemporaryError] = []
        due: list[tuple[Due, Turn | None]] = []
        for step, turn in zip(decision.steps, turns, strict=True):
            met, failures = None, len(failed)
            if step.subscriber not in settled:
                # One after another, so that events meet in the order in which they came.
                met = await self._meet(step, event, stored, failed)
            if met is not None:
                due.append((met, turn))
                continue
            if len(failed) == failures:
                settled.add(step.subscriber)
            if turn is not None:
                turn.release()
        if len(due) == 1:
            await self._try(*due[0], stored, failed, settled)
        elif due:
            async with asyncio.TaskGroup() as group:
                for one, turn in due:
                    group.create_task(self._try(one, turn, stored, failed, settled))
        return failed[0] if failed else None

    async def _meet(
        self, step: Step, event: Event, stored: float, failed: list[TemporaryError]
    ) -> Due | None:
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
            if self._trace is not None:
                name = self._handovers[step.subscriber].name
                self._trace(
                    event.id, "/".join(self._resource), name, "waiting", ", ".join(step.inputs)
                )
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
        self,
        due: Due,
        turn: Turn | None,
        stored: float,
        failed: list[TemporaryError],
        settled: set[int],
    ) -> None:
        try:
            if turn is None:
                await self._settle(due, stored)
            else:
                async with turn:
                    await self._insist(due, stored)
        except TemporaryError as error:
            failed.append(error)
        else:
            settled.add(due.subscriber)

    async def _insist(self, due: Due, stored: float) -> None:
        """As `_settle`, again and again until asked to stop: no later event may pass."""
        while True:
            try:
                await self._settle(due, stored)
                return
            except TemporaryError as error:
                pause = self._clock.sleep(max(error.delay, PAUSE))
                if not await unless(self._stop, pause):
                    raise

    async def _settle(self, due: Due | None, stored: float) -> None:
        """Return when it is settled for its subscriber.

        Raises:
            TemporaryError: nothing has taken it.
        """
        if isinstance(due, Owed):
            await self._handovers[due.subscriber].settle(due.delivery, stored)
        elif isinstance(due, Broken):
            await self._handovers[due.subscriber].bury(due.delivery, due.error, 0, "condition")
        elif isinstance(due, Fired):
            await self._settle(due.due, stored)
            await self._joins.settle(due.joining, due.match)
