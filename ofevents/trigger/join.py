"""Conditions over several inputs: their state in the store, changed by compare-and-set.

The thin shell around `joinstate.py`. Whichever worker gets an event changes the
state of its key; a conflict with another worker is decided anew on what that one
wrote. Order of steps, so that a crash between any two loses and strands nothing:

    1. store the state, with the event held, or with the match as owed
    2. deliver what is owed                    (the worker, between the two calls)
    3. store that it is settled
    4. acknowledge the event

An entry goes away by itself: what is held after the window and a time for a
backlog or a downtime, tokens after the time in which the bus may redeliver.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from ofevents.bus.topics import escape
from ofevents.clock import Clock
from ofevents.errors import Conflict, TooLarge
from ofevents.event import Event
from ofevents.ports import Bus
from ofevents.trigger.evaluator import Evaluator, Joining
from ofevents.trigger.joinstate import (
    Arrival,
    JoinState,
    Match,
    Waits,
    arrive,
    decode,
    encode,
    settle,
)

SLACK: Final = 900.0
"""Seconds that held events outlive the window, counted from the last change: a worker
that was away for longer may find the first half of a match gone."""
REDELIVERY: Final = 120.0
"""Seconds at least in which a redelivery is known as such, once nothing is held."""
OWED: Final = 30 * 86400.0
"""Seconds that an undelivered match is kept; its event is redelivered long before."""

_FIRST_WAIT: Final = 0.005
_TRIES: Final = 20

T = TypeVar("T")


def prefix(namespace: str, trigger: str) -> str:
    """Where a Trigger's join states lie in the store."""
    return f"join/{escape(namespace)}/{escape(trigger)}/"


class Joins:
    """The half-met conditions of one Trigger."""

    def __init__(
        self,
        bus: Bus,
        evaluator: Evaluator,
        *,
        namespace: str,
        trigger: str,
        subscribers: tuple[str, ...],
        window: float,
        clock: Clock,
    ) -> None:
        """`subscribers` are their names, in the order that the evaluator counts."""
        self._store = bus.store
        self._most = bus.max_size
        self._evaluator = evaluator
        self._window = window
        self._clock = clock
        self._redelivery = max(REDELIVERY, 12 * bus.hold)
        self._prefixes = [prefix(namespace, trigger) + escape(name) + "/" for name in subscribers]
        # Within a worker the events of a key take turns, so only workers conflict.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def arrive(self, joining: Joining, event: Event, stored: float) -> Match | Waits:
        """Count the event; the match that is owed now, or why there is none.

        Raises:
            EvaluationError: the condition failed on it; nothing is stored.
            TooLarge: the entry would be over what the bus takes; nothing is stored.
            TemporaryError: the store is gone, or the key is changed all the time.
        """
        arrival = Arrival(event, joining.inputs, stored)

        def holds(present: Mapping[str, Event]) -> bool:
            return self._evaluator.holds(joining.subscriber, event, present)

        def change(state: JoinState) -> tuple[JoinState, Match | Waits]:
            return arrive(state, arrival, self._window, holds)

        return await self._change(self._key(joining), change)

    async def settle(self, joining: Joining, match: Match) -> None:
        """The match is delivered, in an inbox or a dead letter: it is owed no more.

        Raises:
            TemporaryError: as `arrive`; the event's redelivery will deliver again.
        """

        def change(state: JoinState) -> tuple[JoinState, None]:
            return settle(state, match.token), None

        await self._change(self._key(joining), change)

    async def _change(self, key: str, change: Callable[[JoinState], tuple[JoinState, T]]) -> T:
        """Compare and set until it succeeds; nothing is written where nothing changes."""
        turn = self._turns.setdefault(key, asyncio.Lock())
        async with turn:
            for attempt in range(_TRIES):
                entry = await self._store.get(key)
                state = decode(entry.value) if entry else JoinState()
                new, outcome = change(state)
                if new is state:
                    return outcome
                try:
                    await self._write(key, new, entry.revision if entry else 0)
                except Conflict:
                    # Jitter, or two workers would meet again.
                    await self._clock.sleep(_FIRST_WAIT * random.random() * 2 ** min(attempt, 6))
                else:
                    return outcome
        raise Conflict(f"the join state {key} is changed all the time by other workers")

    async def _write(self, key: str, state: JoinState, revision: int) -> None:
        value = encode(state)
        if len(value) > self._most:
            raise TooLarge(
                f"a half-met condition of {len(value)} bytes; the bus keeps {self._most}"
            )
        ttl = self._redelivery
        if state.owed:
            ttl = OWED
        elif state.held:
            ttl = max(self._window + SLACK, self._redelivery)
        await self._store.put(key, value, revision=revision, ttl=ttl)

    def _key(self, joining: Joining) -> str:
        return self._prefixes[joining.subscriber] + (joining.key or "-")
