"""Health means progress (promise 8): what each worker's loops did last, and what

they wait for by name. Sources and Triggers report here; `/healthz`, `/readyz`,
`/status` and the table of `ofevents run` read it. Values only: no IO.

Liveness fails only when no step of a worker ended for `limit` seconds and it
waits for nothing by name. A lost broker is `Stalled` (a person should look),
which is not dead (a restart would not help).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from ofevents.clock import Clock

State = Literal["starting", "ready", "stalled", "suspended", "stopped"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One worker as `/status` shows it.

    Attributes:
        kind: `EventSource` or `Trigger`.
        resource: `namespace/name`, for a source with `/entry` behind it.
        state: see `State`; `reason` is the CamelCase word and `message` the sentence.
        address: where it listens or reads, "" before it is live.
        waiting: what it waits for by name, now.
        last_progress: Unix seconds of the last step that ended.
        in_flight: messages in hand and not settled.
    """

    kind: str
    resource: str
    state: State
    reason: str
    message: str
    address: str
    waiting: tuple[str, ...]
    last_progress: float
    in_flight: int


class WorkerHealth:
    """What one worker reports about itself."""

    def __init__(self, kind: str, resource: str, clock: Clock) -> None:
        self.kind = kind
        self.resource = resource
        self.in_flight = 0
        self._clock = clock
        self._state: State = "starting"
        self._reason = "Starting"
        self._message = ""
        self._address = ""
        self._waits: dict[int, str] = {}
        self._last_wall = clock.now()
        self._last = clock.monotonic()

    def step(self) -> None:
        """A step of a loop ended: an event settled, a fetch returned, a probe failed."""
        self._last = self._clock.monotonic()
        self._last_wall = self._clock.now()

    def ready(self, address: str = "", *, reason: str = "Running", message: str = "") -> None:
        """Connected and working; `address` says where, `message` what a person should know."""
        self._set("ready", reason, message)
        self._address = address or self._address

    def stalled(self, reason: str, message: str) -> None:
        """No progress is possible now: `reason` as in `OfeventsError.reason`."""
        self._set("stalled", reason, message)

    def suspended(self) -> None:
        """The resource asks for no work."""
        self._set("suspended", "Suspended", "spec.suspend is true")

    def stopped(self) -> None:
        """The worker has ended as asked."""
        self._set("stopped", "Stopped", "")

    def _set(self, state: State, reason: str, message: str) -> None:
        self._state, self._reason, self._message = state, reason, message
        self.step()

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Name what is being waited for; while it lasts the worker counts as live."""
        token = object()
        self._waits[id(token)] = what
        try:
            yield
        finally:
            del self._waits[id(token)]
            self.step()

    def live(self, limit: float) -> bool:
        """Whether a step ended within `limit` seconds, or something is waited for."""
        if self._state in ("suspended", "stopped") or self._waits:
            return True
        return self._clock.monotonic() - self._last <= limit

    def snapshot(self) -> Snapshot:
        """A value to show."""
        return Snapshot(
            kind=self.kind,
            resource=self.resource,
            state=self._state,
            reason=self._reason,
            message=self._message,
            address=self._address,
            waiting=tuple(self._waits.values()),
            last_progress=self._last_wall,
            in_flight=self.in_flight,
        )


class Health:
    """All workers of a process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._workers: dict[tuple[str, str], WorkerHealth] = {}

    def worker(self, kind: str, resource: str) -> WorkerHealth:
        """A new record for that worker; replaces an earlier one of the same name."""
        worker = self._workers[kind, resource] = WorkerHealth(kind, resource, self._clock)
        return worker

    def forget(self, kind: str, resource: str) -> None:
        """The resource is gone."""
        self._workers.pop((kind, resource), None)

    def live(self, limit: float = 60.0) -> bool:
        """For `/healthz`: every worker is live."""
        return all(worker.live(limit) for worker in self._workers.values())

    def ready(self) -> bool:
        """For `/readyz`: every worker is ready, or suspended."""
        states = [worker.snapshot().state for worker in self._workers.values()]
        return all(state in ("ready", "suspended") for state in states)

    def snapshots(self) -> list[Snapshot]:
        """Sorted by kind and resource."""
        shown = [worker.snapshot() for worker in self._workers.values()]
        return sorted(shown, key=lambda one: (one.kind, one.resource))
