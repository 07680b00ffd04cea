"""Step 4, decide: which subscribers are owed what for an event. Pure and synchronous.

Built once from a resolved Trigger; called by the worker for each message. Most
events match nothing, so that path allocates little: the filters run, and a
shared `Decision` says why the event goes no further.

An input filter that fails is judged by the subscribers that it concerns
(`onError`), unless the same event reaches them through another input. A condition
that can need several inputs at once is not decided here but handed to the join.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ofevents.api.resolved import ResolvedTrigger
from ofevents.cel import to_json
from ofevents.errors import EvaluationError, TooLarge
from ofevents.event import Event, digest
from ofevents.ports import Delivery, Payload
from ofevents.trigger.compiled import Condition, Input, compile_input, compile_subscriber


@dataclass(frozen=True, slots=True)
class Owed:
    """A subscriber's condition is met: it is owed this delivery."""

    subscriber: int
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Broken:
    """A dead letter is owed in place of a delivery; its payload is unmade."""

    subscriber: int
    delivery: Delivery
    error: EvaluationError | TooLarge


@dataclass(frozen=True, slots=True)
class Joining:
    """The event came for a condition over several inputs: the join decides.

    Attributes:
        key: a hash of the value of `joinBy`, "" without one.
        inputs: names of the inputs under which it came with that key.
    """

    subscriber: int
    key: str
    inputs: tuple[str, ...]


Step = Owed | Broken | Joining


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done for an event; with no steps, where it ended and why.

    Attributes:
        steps: one per subscriber that the event concerns; several where the inputs
            under which it came join by different keys.
        ended: `input` or `condition`, as in the metric `ofevents_filtered`.
        reason: `false`, or `error` where `onError: skip` passed over a failure.
    """

    steps: tuple[Step, ...] = ()
    ended: str = ""
    reason: str = ""


NO_INPUT: Final = Decision((), "input", "false")
NO_CONDITION: Final = Decision((), "condition", "false")
SKIPPED: Final = Decision((), "condition", "error")


class Evaluator:
    """All expressions of a Trigger, compiled.

    Raises:
        ConfigError: an expression is wrong; its path names the field.
    """

    def __init__(self, spec: ResolvedTrigger) -> None:
        self._names = tuple(one.name for one in spec.inputs)
        self._topics: dict[str, tuple[Input, ...]] = {}
        for at, one in enumerate(spec.inputs):
            before = self._topics.get(one.topic, ())
            self._topics[one.topic] = (*before, compile_input(1 << at, one))
        owner = f"{spec.namespace}/{spec.owner}"
        self._conditions = tuple(
            compile_subscriber(at, one, owner, spec.inputs)
            for at, one in enumerate(spec.subscribers)
        )

    def decide(self, topic: str, event: Event) -> Decision:
        """What an event that came on that topic means for each subscriber."""
        inputs = self._topics.get(topic, ())
        arrived = 0
        failed: dict[int, EvaluationError] = _NONE
        bindings: dict[str, object] | None = None
        for one in inputs:
            if one.filter is None:
                arrived |= one.bit
                continue
            if bindings is None:
                bindings = {"event": event.view()}
            try:
                if one.filter(bindings):
                    arrived |= one.bit
            except EvaluationError as error:
                failed = {**failed, one.bit: error}
        if not arrived and not failed:
            return NO_INPUT
        steps: list[Step] = []
        ended = NO_CONDITION if arrived else NO_INPUT
        for condition in self._conditions:
            came = [one for one in inputs if one.bit & arrived & condition.mask]
            try:
                steps += self._steps(condition, came, failed, event)
            except EvaluationError as error:
                if condition.skips:
                    ended = SKIPPED
                else:
                    steps.append(self._broken(condition, (event,), error))
        return Decision(tuple(steps)) if steps else ended

    def _steps(
        self,
        condition: Condition,
        came: list[Input],
        failed: Mapping[int, EvaluationError],
        event: Event,
    ) -> Iterable[Step]:
        if not came:
            for bit, error in failed.items():
                if bit & condition.mask:
                    raise error
            return ()
        if condition.joins:
            return _joining(condition.index, came, event)
        present = {one.name: event for one in came}
        if not self.holds(condition.index, event, present):
            return ()
        return (Owed(condition.index, self.delivery(condition.index, present, (event,))),)

    # -- one subscriber's expressions, for the join too -----------------------

    def holds(self, subscriber: int, event: Event, present: Mapping[str, Event]) -> bool:
        """Whether its condition is met; `present` maps received inputs to their events.

        Raises:
            EvaluationError: the condition failed on these events.
        """
        holds = self._conditions[subscriber].holds
        return holds is None or bool(holds(self._bindings(event, present)))

    def delivery(
        self, subscriber: int, present: Mapping[str, Event], events: tuple[Event, ...]
    ) -> Delivery:
        """What it is owed for `events`, the last of which completed the match.

        Raises:
            EvaluationError: its payload failed on these events.
        """
        condition = self._conditions[subscriber]
        payload = None
        if condition.payload is not None:
            value = condition.payload(self._bindings(events[-1], present))
            payload = Payload(_json(value))
        return _delivery(condition, events, payload)

    def plain(self, subscriber: int, events: tuple[Event, ...]) -> Delivery:
        """The events as they came, for a dead letter."""
        return _delivery(self._conditions[subscriber], events, None)

    def failure(
        self, subscriber: int, events: tuple[Event, ...], error: EvaluationError
    ) -> Broken | None:
        """The dead letter that it gets in place of a delivery; None with `onError: skip`."""
        condition = self._conditions[subscriber]
        return None if condition.skips else self._broken(condition, events, error)

    @staticmethod
    def _broken(condition: Condition, events: tuple[Event, ...], error: EvaluationError) -> Broken:
        return Broken(condition.index, _delivery(condition, events, None), error)

    def _bindings(self, event: Event, present: Mapping[str, Event]) -> dict[str, object]:
        view = event.view()
        events = {name: view if one is event else one.view() for name, one in present.items()}
        flags: dict[str, object] = {name: name in present for name in self._names}
        return {**flags, "inputs": flags, "event": view, "events": events}


_NONE: Final[dict[int, EvaluationError]] = {}


def _joining(subscriber: int, came: list[Input], event: Event) -> Iterable[Joining]:
    keys: dict[str, tuple[str, ...]] = {}
    bindings = {"event": event.view()}
    for one in came:
        key = ""
        if one.join_by is not None:
            key = digest(_json(one.join_by(bindings)).decode())
        keys[key] = (*keys.get(key, ()), one.name)
    return [Joining(subscriber, key, names) for key, names in keys.items()]


def _delivery(condition: Condition, events: tuple[Event, ...], payload: Payload | None) -> Delivery:
    key = None
    if condition.ordered:
        # Events without a key share one, so that their order is kept as well.
        key = events[-1].partitionkey or ""
    return Delivery(condition.identity, events, payload, key)


def _json(value: Any) -> bytes:
    return orjson.dumps(to_json(value))
