"""A Trigger's health and lag, as `/status`, `/healthz` and the metrics show them.

Health means progress (promise 8): an idle worker makes progress by looking, one
with messages in hand only by settling them. A lost bus, a full one that a subscriber
writes to, or a misconfigured subscriber is Stalled with its reason.
"""

from __future__ import annotations

from typing import Final

from ofevents.api.resolved import ResolvedTrigger
from ofevents.bus.topics import inbox_group
from ofevents.clock import Clock
from ofevents.errors import BusFull, Misconfigured, TemporaryError
from ofevents.health import WorkerHealth
from ofevents.ports import Bus
from ofevents.telemetry import IN_FLIGHT, LAG, PROGRESS, Log
from ofevents.trigger.stalls import Stalls

INTERVAL: Final = 1.0
LAG_EVERY: Final = 15


class Monitor:
    """Watches one worker while it is connected."""

    def __init__(self, spec: ResolvedTrigger, bus: Bus, worker: WorkerHealth, clock: Clock) -> None:
        self._bus = bus
        self._worker = worker
        self._clock = clock
        self._resource = (spec.namespace, spec.owner)
        self._reads = ", ".join(one.topic for one in spec.inputs)
        self._groups = {spec.group, *(inbox_group(one.inbox) for one in spec.subscribers)}
        self._troubles: dict[str, TemporaryError] = {}
        self._live = False
        self._shown: tuple[str, str] | None = None
        self._log = Log(trigger="/".join(self._resource))
        self._stalls = Stalls(self._log, clock)
        self._told = True

    def started(self) -> None:
        """The consumer is live; called again after each reconnect."""
        self._live = True
        self._shown, self._told = None, True
        self._show()

    def report(self, subscriber: str, error: Misconfigured | BusFull | None) -> None:
        """A subscriber turned out misconfigured, the bus full for it, or all is well (None)."""
        if error is None:
            self._troubles.pop(subscriber, None)
        else:
            self._troubles[subscriber] = error
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
        problem = self._problem()
        if not self._live or problem == self._shown:
            return
        self._shown = problem
        if problem == ("", ""):
            self._worker.ready(self._reads)
            if self._told:  # what was not told need not be taken back
                self._log.info("started", address=self._reads)
            self._told = False
        else:
            self._worker.stalled(*problem)
            self._told |= self._stalls.tell(*problem)

    def _problem(self) -> tuple[str, str]:
        """Reason and message of what stands in the way, both "" for nothing."""
        if self._bus.connection:
            return "Disconnected", self._bus.connection
        if self._troubles:
            said = "; ".join(f"{name}: {why}" for name, why in self._troubles.items())
            return next(iter(self._troubles.values())).reason, said
        return "", ""

    async def _lag(self) -> None:
        try:
            report = await self._bus.inspect()
        except TemporaryError:
            return  # the bus is away: `connection` says so
        for one in report.consumers:
            if one.group in self._groups:
                LAG.labels(*self._resource, one.group).set(one.pending)
