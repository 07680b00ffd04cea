"""How much one evaluation may cost, so that no expression can hurt a worker.

`Limits` is what a caller chooses; a `Budget` is one evaluation's account of it.
The compiled program makes a Budget only when the expression has a loop or makes
something whose size depends on the event: a plain filter pays nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ofevents.clock import Clock
from ofevents.errors import EvaluationError

_SLICE = 256  # elements, or kilobytes of work, between two looks at the clock


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of an expression (first three, at load) and of one evaluation of it.

    Attributes:
        length: characters of the expression's text.
        depth: levels of nesting of the expression, terms of a `+` or `.` chain, and levels
            of a value that is compared, printed or returned; at most 256. Chains of `&&`
            and `||` are flat.
        terms: names and literals in the expression.
        steps: elements visited by loops, `==`, `in` and results.
        deadline: seconds; an evaluation ends within 50 ms of it.
        size: bytes that an evaluation may make (strings and lists), and of its result.
    """

    length: int = 32_768
    depth: int = 96
    terms: int = 5_000
    steps: int = 1_000_000
    deadline: float = 0.25
    size: int = 4 * 1024 * 1024


class LimitExceeded(EvaluationError):
    """The evaluation costs too much. `&&`, `||` and the macros never absorb it."""


class Budget:
    """What is left of one evaluation's steps, time and bytes."""

    __slots__ = ("_clock", "_due", "_limits", "_look", "_now", "_size", "_steps", "depth")

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._steps = limits.steps
        self._size = limits.size
        self._due = clock.monotonic() + limits.deadline
        self._look = max(limits.steps - _SLICE, 0)
        self._now: float | None = None
        self.depth = limits.depth

    def again(self) -> Budget:
        """The same deadline, with the steps and bytes of the start: for the complete form."""
        self._steps = self._limits.steps
        self._size = self._limits.size
        self._look = max(self._steps - _SLICE, 0)
        return self

    def steps(self, count: int) -> None:
        """Charge that many steps; raises LimitExceeded."""
        left = self._steps = self._steps - count
        if left < self._look:
            self._look = max(left - _SLICE, 0)
            if left < 0:
                raise LimitExceeded(
                    f"the expression takes more than {self._limits.steps:,} steps on this event"
                )
            self.check()

    def check(self) -> None:
        """Raise LimitExceeded when the deadline has passed."""
        if self._clock.monotonic() > self._due:
            raise LimitExceeded(
                f"the expression takes longer than {self._limits.deadline:g} s on this event"
            )

    def make(self, size: int) -> None:
        """Charge that many bytes before they are made."""
        self._size -= size
        if self._size < 0:
            raise LimitExceeded(
                f"the expression makes more than {self._limits.size:,} bytes on this event"
            )
        if size > 1024:
            self.steps(size >> 10)

    def work(self, length: int) -> None:
        """Charge a linear pass over a text or list of that length."""
        if length > 1024:
            self.steps(length >> 10)

    def walk(self, items: Any) -> Any:
        """The items to loop over, charged; long ones look at the clock on the way."""
        length = len(items)
        if length <= _SLICE:
            self.steps(length)
            return items
        return self._slices(items)

    def _slices(self, items: Any) -> Iterator[Any]:
        iterator = iter(items)
        while chunk := list(islice(iterator, _SLICE)):
            self.steps(len(chunk))
            yield from chunk

    def now(self) -> float:
        """The time of this evaluation: seconds since the epoch, the same at every call."""
        if self._now is None:
            self._now = self._clock.now()
        return self._now
