"""What cannot be settled now is told once in a while, with how often it was so.

Called by the inputs, by each inbox's server and by the monitor: with thousands of
messages behind one full bus or one lost store, a line for each try is a flood.
"""

from __future__ import annotations

from typing import Final

from ofevents.clock import Clock
from ofevents.telemetry import Log

EVERY: Final = 10.0
"""Seconds between two lines of one reason."""


class Stalls:
    """Writes `stalled` once per reason and `EVERY`; `times` counts since the last line."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._told: dict[str, tuple[float, int]] = {}

    def tell(self, reason: str, error: str) -> bool:
        """Something waits for that reason; whether it was written now."""
        return self._tell(reason, error, defect=False)

    def defect(self, error: Exception) -> bool:
        """A defect of ours keeps a message unsettled; whether it was written now."""
        return self._tell("Defect", repr(error), defect=True)

    def _tell(self, reason: str, error: str, *, defect: bool) -> bool:
        now = self._clock.monotonic()
        before, times = self._told.get(reason, (float("-inf"), 0))
        if now - before < EVERY:
            self._told[reason] = before, times + 1
            return False
        self._told[reason] = now, 0
        write = self._log.error if defect else self._log.warning
        write("stalled", reason=reason, error=error, times=times + 1)
        return True
