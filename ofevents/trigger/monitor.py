"""A Trigger's health and lag, as `/status`, `/healthz` and the metrics show them.

Health means progress (promise 8): an idle worker makes progress by looking, one
with messages in hand only by settling them. A lost bus, a full one that a subscriber
writes to, or a misconfigured subscriber is Stalled with its reason. A subscriber that is
away is told beside Ready: the worker does its work, which is to keep what it is owed.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

from ofevents.api.resolved import ResolvedTrigger
from ofevents.bus.topics import inbox_group
from ofevents.clock import Clock
from ofevents.errors import SubscriberAway, TemporaryError
from ofevents.health import WorkerHealth
from ofevents.ports import Bus
from ofevents.telemetry import IN_FLIGHT, LAG, PROGRESS, Log
from ofevents.trigger.stalls import Stalls

INTERVAL: Final = 1.0
LAG_EVERY: Final = 15


What = Literal["calls", "room"]
_Problem = tuple[str, str]
"""Reason and message."""
_NOTHING_YET: Final = ("", "")


class Report(Protocol):
    """Told what stands in a subscriber's way, None once that is over: its calls (it is

    misconfigured or away), or the room on the bus for what it writes.
    """

    def __call__(self, subscriber: str, what: What, error: TemporaryError | None) -> None: ...


class Monitor:
    """Watches one worker while it is connected."""

    def __init__(self, spec: ResolvedTrigger, bus: Bus, worker: WorkerHealth, clock: Clock) -> None:
        self._bus = bus
        self._worker = worker
        self._clock = clock
        self._resource = (spec.namespace, spec.owner)
        self._reads = ", ".join(one.topic for one in spec.inputs)
        self._groups = {spec.group, *(inbox_group(one.inbox) for one in spec.subscribers)}
        self._troubles: dict[tuple[str, What], TemporaryError] = {}
        self._live = False
        self._shown: _Problem | None = _NOTHING_YET
        self._log = Log(trigger="/".join(self._resource))
        self._stalls = Stalls(self._log, clock)
        self._told = True

    def started(self) -> None:
        """The consumer is live; called again after each reconnect."""
        self._live = True
        self._shown, self._told = _NOTHING_YET, True
        self._show()

    def report(self, subscriber: str, what: What, error: TemporaryError | None) -> None:
        """See `Report`."""
        if error is None:
            self._troubles.pop((subscriber, what), None)
        else:
            self._troubles[subscriber, what] = error
        self._show()

    async def run(self) -> None:
        """Look every second until cancelled."""
        ticks = 0
        while True:
            self._show()
            IN_FLIGHT.labels(*self._resource).set(self._worker.in_flight)
            PROGRESS.labels(*self._resource, "Trigger").set(self._worker.snapshot().last_progress)
            if ticks % LAG_EVERY == 0:
                await self._lag()
            ticks += 1
            if not self._worker.in_flight:
                self._worker.step()
            await self._clock.sleep(INTERVAL)

    def _show(self) -> None:
        """Bring the state up to date, where it is another than the one shown."""
        stalled = self._stalled()
        problem = stalled or self._trouble(away=True)
        if not self._live or problem == self._shown:
            return
        self._shown = problem
        if stalled is not None:
            self._worker.stalled(*stalled)
            self._told |= self._stalls.tell(*stalled)
            return
        if problem is None:
            self._worker.ready(self._reads)
        else:
            self._worker.ready(self._reads, reason=problem[0], message=problem[1])
        if self._told:  # what was not told need not be taken back
            self._log.info("started", address=self._reads)
        self._told = False

    def _stalled(self) -> _Problem | None:
        """What stands in the way of any progress, None for nothing."""
        if self._bus.connection:
            return "Disconnected", self._bus.connection
        return self._trouble(away=False)

    def _trouble(self, *, away: bool) -> _Problem | None:
        """Those of subscribers that are away, or the others; the reason is the first one's."""
        found = {
            name: why
            for (name, _), why in self._troubles.items()
            if isinstance(why, SubscriberAway) == away
        }
        if not found:
            return None
        said = "; ".join(f"{name}: {why}" for name, why in found.items())
        return next(iter(found.values())).reason, said

    async def _lag(self) -> None:
        try:
            report = await self._bus.inspect()
        except TemporaryError:
            return  # the bus is away: `connection` says so
        for one in report.consumers:
            if one.group in self._groups:
                LAG.labels(*self._resource, one.group).set(one.pending)
