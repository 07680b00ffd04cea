"""Emitting until it is done, for the sources whose origin waits with what is not settled.

Used by `file`, `kubernetes`, `mqtt_session` and `rabbitmq_session`. The sources that hold
several events in hand at a time, or drop what they cannot keep, have ways of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ofevents.clock import Clock
from ofevents.errors import PermanentError, TemporaryError
from ofevents.event import Event
from ofevents.ports import Emit
from ofevents.telemetry import Log

_FIRST: Final = 0.05
LONGEST: Final = 5.0
"""Seconds between two tries of emit, at first and at most. The engine has waited by itself
already."""


async def settle(
    emit: Emit, events: Sequence[Event], *, apart: bool = False, clock: Clock, log: Log
) -> None:
    """Return when all are settled; `apart` emits one after the other."""
    if not events:
        return
    if apart and len(events) > 1:
        for event in events:
            await settle(emit, [event], clock=clock, log=log)
        return
    delay = _FIRST
    while True:
        try:
            await emit(*events)
            return
        except TemporaryError as error:
            log.debug("retrying", reason=str(error))
            wait = max(delay, error.delay)
        except PermanentError as error:
            if len(events) > 1:
                # It is one of them; the others go on.
                for event in events:
                    await settle(emit, [event], clock=clock, log=log)
                return
            # No dead letter can take it, and skipping it would lose it in silence: the
            # origin waits until a person has made room for it.
            wait = LONGEST
            log.error("stalled", reason=str(error), id=events[0].id)
        await clock.sleep(wait)
        delay = min(delay * 2, LONGEST)
