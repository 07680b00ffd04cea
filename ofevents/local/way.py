"""Each event's way in one line, put together from what two places see.

The bus says which event was stored on which topic (browsed, so nothing is taken
from anybody); a Trigger's trace says what became of it for each subscriber. The
two come in any order, so an outcome waits a moment for its topic.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from ofevents.clock import Clock
from ofevents.errors import BadEvent, TemporaryError
from ofevents.event import Event
from ofevents.local.names import typed
from ofevents.local.screen import Screen, Way, WayStep
from ofevents.local.tally import Entry, Tally
from ofevents.ports import Bus, Delivery
from ofevents.trigger.trace import Outcome

PATIENCE: Final = 0.5
"""Seconds that an outcome waits to learn its event's topic."""
REMEMBERED: Final = 10_000
_ARRIVED: Final = (WayStep("received"), WayStep("published"))


@dataclass(frozen=True, slots=True)
class _Outcome:
    at: float
    event_id: str
    trigger: str
    subscriber: str
    outcome: Outcome
    detail: str


class Ways:
    """Collects and shows; bounded, whatever the rate."""

    def __init__(self, screen: Screen, clock: Clock, shown: Callable[[str], str] = typed) -> None:
        self._screen = screen
        self._clock = clock
        self._shown = shown
        self._topics: OrderedDict[str, str] = OrderedDict()
        self._waiting: deque[_Outcome] = deque(maxlen=REMEMBERED)

    def trace(
        self, event_id: str, trigger: str, subscriber: str, outcome: Outcome, detail: str
    ) -> None:
        """As `ofevents.trigger.trace.Trace`."""
        at = self._clock.monotonic()
        self._waiting.append(_Outcome(at, event_id, trigger, subscriber, outcome, detail))

    def stored(self, event_id: str, topic: str, *, read: bool) -> None:
        """An event is on that topic; `read` says whether a Trigger is interested."""
        self._topics[event_id] = self._shown(topic)
        if len(self._topics) > REMEMBERED:
            self._topics.popitem(last=False)
        if not read:
            end = WayStep("kept", "no Trigger reads this topic")
            self._screen.way(Way(event_id, self._shown(topic), (*_ARRIVED, end)))

    def flush(self, *, all: bool = False) -> None:
        """Show what is known now; `all` does not wait for topics any longer."""
        limit = self._clock.monotonic() - PATIENCE
        for _ in range(len(self._waiting)):
            one = self._waiting.popleft()
            topic = self._topics.get(one.event_id)
            if topic is None and not all and one.at > limit:
                self._waiting.append(one)
                continue
            self._screen.way(Way(one.event_id, topic or "", _steps(one)))

    async def show(self, direct: Callable[[], Collection[Entry]], interval: float = 0.1) -> None:
        """Show them as they come, until cancelled; of the entries in `direct`, which have no

        bus to look at, what was counted.
        """
        tally, turns = Tally(direct), 0
        try:
            while True:
                await self._clock.sleep(interval)
                self.flush()
                turns += 1
                if turns % 5 == 0:
                    for sentence in tally.news():
                        self._screen.say(sentence)
        finally:
            self.flush(all=True)
            for sentence in tally.news():
                self._screen.say(sentence)

    async def follow(
        self, bus: Bus, watched: Collection[str], read: Callable[[], Collection[str]]
    ) -> None:
        """Learn from the bus what is stored on the `watched` topics, until cancelled.

        `read` gives the topics that Triggers and functions read now.
        """
        while watched and bus.features.browse:
            try:
                async for received in bus.browse(sorted(watched), since=None, follow=True):
                    try:
                        body = received.body
                    except BadEvent:
                        continue  # the Trigger says what is wrong with it
                    if isinstance(body, Event):
                        self.stored(body.id, received.topic, read=received.topic in read())
                    else:
                        self._dead(body, received.headers)
            except TemporaryError:
                await asyncio.sleep(1.0)  # showing is a courtesy: the workers say what is wrong

    def _dead(self, letter: Delivery, headers: Mapping[str, str]) -> None:
        """An EventSource's dead letter: it never came to the bus's topics."""
        why = f"{headers.get('ofe-dead-reason', '')}: {headers.get('ofe-dead-detail', '')}"
        steps = (WayStep("received"), WayStep("dead-lettered", why))
        source = letter.subscriber.removeprefix("default/")
        self._screen.way(Way(letter.event.id, source, steps))


def _steps(one: _Outcome) -> tuple[WayStep, ...]:
    name = one.trigger.removeprefix("default/")
    if not one.subscriber:
        return (*_ARRIVED, WayStep(one.outcome, _by(name, one.detail)))
    matched = WayStep("matched", f"{name}/{one.subscriber}")
    return (*_ARRIVED, matched, WayStep(one.outcome, one.detail))


def _by(trigger: str, detail: str) -> str:
    """`by checkout's input`: at which step of which Trigger it ended."""
    return f"by {trigger}'s {detail}" if detail else f"by {trigger}"
