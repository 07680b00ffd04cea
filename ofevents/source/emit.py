"""Step 2 of the data's way: an adapter's events onto the bus.

`emit` returns when every event is settled: stored by the bus, filtered, or stored
as a dead letter. All events of one call go to the bus in one publish, in their
order. While the bus is away or full it waits, and the adapter with it; for a
source whose caller waits for an answer it gives up after `PATIENCE` seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ofevents.api.resolved import ResolvedSource
from ofevents.errors import TooLarge
from ofevents.event import Event
from ofevents.ports import Bus, Message, SourceFeatures, SourceIdentity
from ofevents.source.letters import Letters
from ofevents.source.screen import Screen, Screened
from ofevents.source.standing import Standing
from ofevents.telemetry import PUBLISHED, RECEIVED

PATIENCE: Final = 5.0


class BusEmit:
    """The Emit of one entry with a bus; see `ofevents.ports.Emit`."""

    def __init__(
        self,
        spec: ResolvedSource,
        *,
        identity: SourceIdentity,
        features: SourceFeatures,
        bus: Bus,
        screen: Screen,
        letters: Letters,
        standing: Standing,
    ) -> None:
        self._bus = bus
        self._topic = spec.topic
        self._writer = identity.writer
        self._screen = screen
        self._letters = letters
        self._standing = standing
        self._replies = features.replies
        self._patience = PATIENCE if features.replies else None
        self._on = f"EventBus {spec.bus.name if spec.bus else ''}"
        names = (spec.namespace, spec.name, spec.entry)
        self._received = RECEIVED.labels(*names)
        self._published = PUBLISHED.labels(*names)

    async def __call__(self, *events: Event) -> None:
        """See the module.

        Raises:
            TemporaryError: only for a source that replies: the bus does not take it.
            TooLarge: only for a source that replies: over the bus's limit.
        """
        worker = self._standing.worker
        self._received.inc(len(events))
        worker.in_flight += len(events)
        try:
            wanted = [one for event in events if (one := await self._judge(event)) is not None]
            if wanted:
                await self._publish(wanted)
        finally:
            worker.in_flight -= len(events)
            worker.step()

    async def _judge(self, event: Event) -> Event | None:
        try:
            return self._screen.judge(event)
        except Screened as refused:
            await self._letters.screened(event, refused, patience=self._patience)
            return None

    async def _publish(self, events: Sequence[Event]) -> None:
        messages = [Message(event, self._writer) for event in events]
        try:
            await self._standing.wait_out(
                lambda: self._bus.publish(self._topic, *messages),
                on=self._on,
                patience=self._patience,
            )
        except TooLarge as error:
            if self._replies:
                raise
            await self._too_large(events, error)
        else:
            self._published.inc(len(events))

    async def _too_large(self, events: Sequence[Event], error: TooLarge) -> None:
        """Nothing of the call is published: one by one, so that only what is too large is not."""
        if len(events) == 1:
            await self._letters.store(events[0], error, where="bus", patience=None)
            return
        for event in events:
            await self._publish([event])
