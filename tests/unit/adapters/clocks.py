"""A ManualClock whose wall clock can be set, as NTP and a waking laptop do."""

from __future__ import annotations

from ofevents.clock import ManualClock


class SettableClock(ManualClock):
    """`jump` moves the wall clock and wakes nobody."""

    def __init__(self, start: float) -> None:
        super().__init__(start)
        self._offset = 0.0

    def now(self) -> float:
        return super().now() + self._offset

    def jump(self, seconds: float) -> None:
        self._offset += seconds
