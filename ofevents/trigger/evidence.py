"""Whether a subscriber is away, judged by evidence and not by one code. Pure.

The state machine behind `away.py`, as the store keeps it for all workers together
(promise 6):

    open --failed, of 3 different events--------------> closed, SubscriberAway
         --failed 401 3xx ..., nothing ever accepted--> closed, SubscriberMisconfigured
    closed --a probe fails--> closed, the next one later
    any --accepted--> open, with nothing held against it

What fails once it is closed counts against no event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

import orjson

from ofevents.errors import Misconfigured, SubscriberAway, Unavailable

AWAY_AFTER: Final = 3
"""Different events that must have failed since anything was accepted."""
FIRST_PROBE: Final = 0.5
LONGEST_PROBE: Final = 3.0
"""Seconds between two probes: from, to. The first is the bound of 2 calls/s for the
subscriber in all workers together; with the last it is found again within 5 s."""

Closed = Literal["SubscriberAway", "SubscriberMisconfigured"]
AWAY: Final[Closed] = "SubscriberAway"
MISCONFIGURED: Final[Closed] = "SubscriberMisconfigured"


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed call.

    Attributes:
        event: digest of the event's identity.
        wrong: the answer says that we call it wrongly.
        error: what it said, as a sentence.
        delay: seconds that it asks to be left alone (Retry-After).
    """

    event: str
    wrong: bool
    error: str
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is held against a subscriber; the default is nothing.

    Attributes:
        events: the different events that have failed since it accepted one.
        wrong: each of these failures said that we call it wrongly.
        closed: why no ordinary call is made, None while they are.
        error: of the last failure.
        delay: seconds that the last failure asked for.
        probes: made since it is closed.
        since: Unix seconds of the first failure, by the clock of who saw it.
    """

    events: tuple[str, ...] = ()
    wrong: bool = True
    closed: Closed | None = None
    error: str = ""
    delay: float = 0.0
    probes: int = 0
    since: float = 0.0

    def add(self, failures: Sequence[Failure], *, accepted: bool, now: float) -> Evidence:
        """With these failures; itself where they change nothing.

        `accepted` says whether the subscriber is known to have accepted anything ever.
        """
        found = self
        for one in failures:
            found = found._add(one, accepted, now)
        return found

    def _add(self, failure: Failure, accepted: bool, now: float) -> Evidence:
        if self.closed:
            return self
        events, wrong = self.events, self.wrong and failure.wrong
        if failure.event not in events:
            events = (*events, failure.event)
        elif wrong == self.wrong:
            return self
        closed: Closed | None = None
        if len(events) >= AWAY_AFTER:
            closed = MISCONFIGURED if wrong else AWAY
        elif wrong and not accepted:
            closed = MISCONFIGURED
        return replace(
            self,
            events=events,
            wrong=wrong,
            closed=closed,
            error=failure.error,
            delay=failure.delay,
            since=self.since or now,
        )

    def probing(self) -> Evidence:
        """A probe is being made."""
        return replace(self, probes=self.probes + 1, delay=0.0)

    def probed(self, failure: Failure) -> Evidence:
        """A probe has failed; what it said is the latest. Itself where that is no news."""
        closed = MISCONFIGURED if failure.wrong else AWAY
        if not self.closed or (closed == self.closed and not failure.delay):
            return self
        return replace(self, closed=closed, error=failure.error, delay=failure.delay)

    @property
    def pause(self) -> float:
        """Seconds from the last change of this state to the next probe."""
        backoff = min(LONGEST_PROBE, FIRST_PROBE * 2.0 ** min(self.probes, 30))
        return max(backoff, self.delay)

    @property
    def trouble(self) -> Unavailable | None:
        """As a person is told; None while it is open."""
        if self.closed is None:
            return None
        kind = Misconfigured if self.closed == MISCONFIGURED else SubscriberAway
        return kind(self.error)

    def encode(self) -> bytes:
        """As the store keeps it."""
        return orjson.dumps(asdict(self))

    @classmethod
    def decode(cls, value: bytes) -> Evidence:
        """The inverse of `encode`; nothing where a stranger has written there."""
        try:
            fields = orjson.loads(value)
            return cls(**{**fields, "events": tuple(fields["events"])})
        except (ValueError, KeyError, TypeError):
            return cls()


NOTHING: Final = Evidence()
