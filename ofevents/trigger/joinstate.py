"""What a half-met condition has received so far: a value, and how it changes.

One `JoinState` per (Trigger, subscriber, join key), kept in the bus's store by
`join.py`. Everything here is pure: a transition takes a state and gives the next
one and what is to be done, so the promises are proven over all orders of
arrivals, redeliveries and crashes without a bus (tests/unit/trigger).

An event that completes a match moves what it matched from `held` to `owed` in
one step, which is stored before anybody is called. Until the delivery is settled
a redelivery of that event finds it owed and delivers again, the same events in
the same order; afterwards it finds its token in `taken` and counts no more.

The window is judged by the bus's time of storage alone, so a backlog or a
downtime does not change what matches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import orjson

from ofevents.errors import EvaluationError
from ofevents.event import Event, digest

TAKEN_MAX: Final = 1024
"""Tokens kept: as many as a worker may have unacknowledged, thus redelivered."""


@dataclass(frozen=True, slots=True)
class Held:
    """The latest event of an input, and when the bus stored it (Unix seconds)."""

    input: str
    event: Event
    stored: float


@dataclass(frozen=True, slots=True)
class Match:
    """Several inputs met: what was held, and as which inputs the last event came.

    Attributes:
        token: of the event that completed it.
        inputs: names under which that event arrived.
        held: what it matched, in order of storage.
    """

    token: str
    inputs: tuple[str, ...]
    held: tuple[Held, ...]

    def present(self, event: Event) -> dict[str, Event]:
        """Input -> event, for expressions; `event` is the one that completed it."""
        return {h.input: h.event for h in self.held} | dict.fromkeys(self.inputs, event)

    def events(self, event: Event) -> tuple[Event, ...]:
        """Each event once, in order of storage, the completing one last."""
        different: list[Event] = []
        for held in self.held:
            if held.event != event and held.event not in different:
                different.append(held.event)
        return (*different, event)


@dataclass(frozen=True, slots=True)
class JoinState:
    """See the module. `taken` are tokens of events that must not count again."""

    held: tuple[Held, ...] = ()
    owed: tuple[Match, ...] = ()
    taken: tuple[str, ...] = ()


class Waits(Enum):
    """Why an arrival fired nothing."""

    HELD = "held"  # new: the state has it now and must be stored
    SEEN = "seen"  # a redelivery of what is held or was consumed


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event that came for inputs of a condition, stored by the bus at `stored`."""

    event: Event
    inputs: tuple[str, ...]
    stored: float

    @property
    def token(self) -> str:
        """Who it is: the same for every redelivery."""
        return token_of(self.event)


def token_of(event: Event) -> str:
    """A short name of an event's identity, its source and id."""
    return digest(event.source, event.id)[:16]


def arrive(
    state: JoinState,
    arrival: Arrival,
    window: float,
    holds: Callable[[Mapping[str, Event]], bool],
) -> tuple[JoinState, Match | Waits]:
    """The next state, and the match that is owed now or why there is none.

    `holds` says whether the condition is met by these inputs; it may raise
    EvaluationError, which passes through and changes nothing.
    """
    token = arrival.token
    for match in state.owed:
        if match.token == token:
            return state, match
    if token in state.taken or any(token_of(h.event) == token for h in state.held):
        return state, Waits.SEEN
    arrived = dict.fromkeys(arrival.inputs, arrival.event)
    others = [h for h in state.held if h.input not in arrival.inputs]
    for received in _moments(others, arrival.stored, window):
        if holds({h.input: h.event for h in received} | arrived):
            break
    else:
        return _hold(state, arrival), Waits.HELD
    match = Match(token, arrival.inputs, _needed(received, arrived, holds))
    consumed = [token_of(h.event) for h in match.held]
    # What an event was held for under two inputs is consumed for both.
    left = tuple(h for h in state.held if token_of(h.event) not in consumed)
    state = replace(state, held=left, owed=(*state.owed, match))
    return _take(state, *consumed), match


def settle(state: JoinState, token: str) -> JoinState:
    """The match that the event of that token completed is delivered."""
    owed = tuple(match for match in state.owed if match.token != token)
    if len(owed) == len(state.owed):
        return state
    return _take(replace(state, owed=owed), token)


def _moments(others: list[Held], stored: float, window: float) -> list[tuple[Held, ...]]:
    """What counted as received beside an event stored then, at each moment that saw both.

    There is one moment unless the event was delayed on its way, and others that were
    stored after it have been counted already.
    """
    later = {h.stored for h in others if stored < h.stored <= stored + window}
    ordered = sorted(others, key=lambda h: h.stored)
    return [
        tuple(h for h in ordered if moment - window <= h.stored <= moment)
        for moment in (stored, *sorted(later))
    ]


def _needed(
    received: tuple[Held, ...],
    arrived: Mapping[str, Event],
    holds: Callable[[Mapping[str, Event]], bool],
) -> tuple[Held, ...]:
    """The held events that the match needs: `a || (b && c)` met by `a` leaves `b` alone."""
    needed = received
    for candidate in received:
        fewer = tuple(h for h in needed if h is not candidate)
        try:
            if holds({h.input: h.event for h in fewer} | dict(arrived)):
                needed = fewer
        except EvaluationError:
            continue  # it reads `events.<input>` of this one
    return needed


def _hold(state: JoinState, arrival: Arrival) -> JoinState:
    """Keep the arrival as the latest of its inputs; what it replaces is taken."""
    kept: list[Held] = []
    gone: list[str] = []
    newer: set[str] = set()
    for held in state.held:
        if held.input in arrival.inputs and held.stored <= arrival.stored:
            gone.append(token_of(held.event))
            continue
        kept.append(held)
        if held.input in arrival.inputs:
            newer.add(held.input)
    new = [
        Held(name, arrival.event, arrival.stored) for name in arrival.inputs if name not in newer
    ]
    if not new:
        gone.append(arrival.token)
    still = {token_of(h.event) for h in kept}
    state = replace(state, held=(*kept, *new))
    return _take(state, *(token for token in gone if token not in still))


def _take(state: JoinState, *tokens: str) -> JoinState:
    return replace(state, taken=(*state.taken, *tokens)[-TAKEN_MAX:]) if tokens else state


# -- bytes ------------------------------------------------------------------


def encode(state: JoinState) -> bytes:
    """A line of JSON, then the events' own bytes, which are kept exactly."""
    bodies: list[bytes] = []

    def row(held: Held) -> tuple[str, float, int, int]:
        body, data_at = held.event.encode()
        bodies.append(body)
        return held.input, held.stored, len(body), data_at

    head = {
        "held": [row(h) for h in state.held],
        "owed": [(m.token, m.inputs, [row(h) for h in m.held]) for m in state.owed],
        "taken": "".join(state.taken),
    }
    return b"\n".join((orjson.dumps(head), b"".join(bodies)))


def decode(value: bytes) -> JoinState:
    """The inverse of `encode`."""
    line, _, bodies = value.partition(b"\n")
    head = orjson.loads(line)
    at = 0

    def held(row: tuple[str, float, int, int]) -> Held:
        nonlocal at
        name, stored, size, data_at = row
        event = Event.decode(bodies[at : at + size], data_at)
        at += size
        return Held(name, event, stored)

    return JoinState(
        held=tuple(held(row) for row in head["held"]),
        owed=tuple(
            Match(token, tuple(inputs), tuple(held(row) for row in rows))
            for token, inputs, rows in head["owed"]
        ),
        taken=_tokens(head["taken"]),
    )


def _tokens(joined: str) -> tuple[str, ...]:
    return tuple(joined[at : at + 16] for at in range(0, len(joined), 16))
