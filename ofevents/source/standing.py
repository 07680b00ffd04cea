"""How a source's worker stands, and the waiting that everything in it does.

`Standing` gathers what stands in the way (the bus is gone or full, the outside
cannot be reached, a function does not answer) and shows it as one state. `wait_out`
is the one loop that tries again what can heal: publishing, storing a dead letter,
calling a function. Health means progress (promise 8): an idle worker makes progress
by looking, one with events in hand only by settling them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from ofevents.api.resolved import ResolvedSource
from ofevents.clock import Clock
from ofevents.errors import OfeventsError, PermanentError, TemporaryError
from ofevents.health import WorkerHealth
from ofevents.ports import Bus
from ofevents.process import unless
from ofevents.telemetry import PROGRESS, Log

T = TypeVar("T")

FIRST: Final = 0.1
LONGEST: Final = 15.0
"""Seconds between two tries: from, to."""
_LOOK: Final = 1.0


class Backoff:
    """Growing pauses with jitter, so that many workers do not come back at once."""

    def __init__(self, first: float, longest: float) -> None:
        self._next = self._first = first
        self._longest = longest

    def pause(self, least: float = 0.0) -> float:
        """Seconds to wait now; not less than `least`, which a server asked for."""
        pause = self._next * random.uniform(0.5, 1.0)
        self._next = min(self._longest, self._next * 2)
        return max(least, pause)

    def reset(self) -> None:
        """It worked: begin small again."""
        self._next = self._first


class Standing:
    """The state of one worker, from everything that it waits for."""

    def __init__(
        self, spec: ResolvedSource, worker: WorkerHealth, clock: Clock, stop: asyncio.Event
    ) -> None:
        self.worker = worker
        self.clock = clock
        self.log = Log(namespace=spec.namespace, name=spec.name, entry=spec.entry)
        self._stop = stop
        self._progress = PROGRESS.labels(spec.namespace, spec.name, f"source/{spec.entry}")
        self._suspended = spec.suspend
        self._bus: Bus | None = None
        self._address = ""
        self._live_since: float | None = None
        self._lost: tuple[str, str] | None = None
        self._waits: dict[object, tuple[str, str]] = {}
        self._shown: tuple[str, str] | None = None

    def watch(self, bus: Bus) -> None:
        """Show that bus's connection too."""
        self._bus = bus

    def started(self, address: str) -> None:
        """The adapter is live there; called again after each reconnect."""
        self._live_since = self.clock.monotonic()
        self._lost, self._address, self._shown = None, address, None
        if self._suspended:
            self.worker.suspended()
        self.show()

    def lost(self, error: OfeventsError) -> None:
        """The adapter has ended, or the bus cannot be had; it will be tried again."""
        self._live_since, self._lost = None, (error.reason, str(error))
        self.show()

    @property
    def live(self) -> float:
        """Seconds since the adapter was live (again), 0.0 while it is not."""
        return 0.0 if self._live_since is None else self.clock.monotonic() - self._live_since

    async def run(self) -> None:
        """Look every second until cancelled."""
        while True:
            self._progress.set(self.worker.snapshot().last_progress)
            # A bus that is just being connected to is not worth a warning.
            await self.clock.sleep(_LOOK)
            self.show()
            if not self.worker.in_flight:
                self.worker.step()

    async def wait_out(
        self,
        work: Callable[[], Awaitable[T]],
        *,
        on: str,
        patience: float | None,
        stubborn: bool = False,
    ) -> T:
        """Do `work` until it succeeds, pausing longer each time.

        A worker that is told to stop pauses no more, where nobody waits for the answer:
        what cannot be settled now comes again.

        Args:
            on: what is waited for, for people.
            patience: seconds after which the TemporaryError is raised; None waits until the
                worker is told to stop.
            stubborn: what fails for good is tried again too, as nothing else can be done.
        """
        began = self.clock.monotonic()
        backoff = Backoff(FIRST, LONGEST)
        token = object()
        try:
            while True:
                try:
                    return await work()
                except TemporaryError as error:
                    pause = backoff.pause(error.delay)
                    if patience is not None and self._over(began, pause, patience):
                        raise
                    self._wait(token, error)
                    failed = error
                except PermanentError as error:
                    if not stubborn:
                        raise
                    pause = backoff.pause()
                    self._wait(token, error)
                    failed = TemporaryError(str(error))
                with self.worker.waiting(on):
                    if patience is not None:
                        await self.clock.sleep(pause)
                    elif not await unless(self._stop, self.clock.sleep(pause)):
                        raise failed
        finally:
            if self._waits.pop(token, None) is not None:
                self.show()

    def _over(self, began: float, pause: float, patience: float) -> bool:
        return self.clock.monotonic() + pause - began > patience

    def _wait(self, token: object, error: OfeventsError) -> None:
        self._waits[token] = (error.reason, str(error))
        self.show()

    def show(self) -> None:
        """Bring the state up to date, where it is another than the one shown."""
        if self._suspended:
            return
        problem = self._problem()
        if problem == self._shown or (problem == ("", "") and self._live_since is None):
            return
        before, self._shown = self._shown, problem
        if problem == ("", ""):
            self.worker.ready(self._address)
            self.log.info("started", address=self._address)
            return
        self.worker.stalled(*problem)
        if before is None or before[0] != problem[0]:  # its figures may change all the time
            self.log.warning("stalled", reason=problem[0], error=problem[1])

    def _problem(self) -> tuple[str, str]:
        """Reason and message of what stands in the way, both "" for nothing."""
        if self._lost is not None:
            return self._lost
        if self._waits:
            return next(iter(self._waits.values()))
        if self._bus is not None and self._bus.connection:
            return "Disconnected", self._bus.connection
        return "", ""
