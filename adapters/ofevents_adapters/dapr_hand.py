"""What is in hand: emitted, or given back to Dapr; called by the callbacks and the stream.

An event that emit refuses for now is held, and tried again, before it is given back:
Dapr gives back what it can do least well (input bindings try once; JetStream waits for
the whole ack wait; a Kafka partition stands still either way).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from ofevents.clock import Clock
from ofevents.errors import PermanentError, TemporaryError
from ofevents.event import Event
from ofevents.ports import Emit
from ofevents.telemetry import Log

IN_FLIGHT: Final = 100
"""Messages in hand at most; further calls wait in the sidecar, and then at the broker."""
HOLD: Final = 10.0
"""Seconds that a topic's message is held; less than any ack wait in use."""
_FIRST, _LONGEST = 0.2, 5.0


class Hand:
    """Emits what comes.

    Args:
        many: whether emit takes several events at once.
        hold: seconds until what cannot be emitted is given back; None for never, where
            nothing makes it come again.
    """

    def __init__(
        self, emit: Emit, *, many: bool, hold: float | None, clock: Clock, log: Log
    ) -> None:
        self._emit = emit
        self._many = many
        self._hold = hold
        self._clock = clock
        self._log = log
        self._room = asyncio.Semaphore(IN_FLIGHT)

    async def settled(self, events: Sequence[Event]) -> bool:
        """Return True once they are emitted, False to give them back."""
        async with self._room:
            return await self._settled(events)

    async def batch(self, messages: Sequence[Sequence[Event]]) -> list[bool]:
        """A verdict for each message; the sidecar has one batch of a component at a time."""
        events = [event for message in messages for event in message]
        if self._many and len(events) <= IN_FLIGHT:
            return [await self._settled(events)] * len(messages)
        verdicts: list[bool] = []
        for message in messages:
            # In their order: behind one that is given back none may be taken.
            verdicts.append(all(verdicts) and await self._settled(message))
        return verdicts

    async def _settled(self, events: Sequence[Event]) -> bool:
        began, pause = self._clock.monotonic(), _FIRST
        while True:
            try:
                if self._many:
                    await self._emit(*events)
                else:
                    for event in events:
                        await self._emit(event)
                return True
            except TemporaryError as error:
                self._log.debug("retrying", reason=str(error))
                delay = error.delay
            except PermanentError as error:
                if len(events) > 1:
                    # It is one of them; the others go on.
                    return all([await self._settled([event]) for event in events])
                # No dead letter can take it, and skipping it would lose it in silence.
                self._log.error("stalled", reason=str(error), id=events[0].id)
                delay = _LONGEST
            wait = max(delay, pause)
            held = self._clock.monotonic() - began + wait
            if self._hold is not None and held > self._hold:
                return False
            await self._clock.sleep(wait)
            pause = min(_LONGEST, 2 * pause)
