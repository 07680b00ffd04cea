"""The EventSources and Triggers of `ofevents run`, each supervised on its own.

A worker that the user must help (ConfigError: a port in use) is shown as stalled
and tried again now and then, for what is in its way may go; one that crashes is
started again with a backoff; the others never notice. Stopping is draining: a
worker is asked first, and cancelled when its time is over, which leaves what it
had in hand unacknowledged, so that it comes again.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from ofevents.api.resolved import ResolvedSource, ResolvedTrigger
from ofevents.errors import ConfigError
from ofevents.health import Health
from ofevents.local.screen import Screen

Spec = ResolvedSource | ResolvedTrigger
Key = tuple[str, str]
"""Kind and resource, as in `Health`."""

Run = Callable[[Spec, asyncio.Event], Awaitable[None]]
"""Runs one worker until the event is set and it has drained."""

AGAIN: Final = 5.0
"""Seconds until a worker with a ConfigError is tried again."""
FIRST_BACKOFF, LAST_BACKOFF = 1.0, 30.0


def key(spec: Spec) -> Key:
    """The name under which a worker reports its health."""
    if isinstance(spec, ResolvedSource):
        return "EventSource", f"{spec.namespace}/{spec.name}/{spec.entry}"
    return "Trigger", f"{spec.namespace}/{spec.owner}"


class _Worker:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.stop = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Workers:
    """What runs now; `group` owns the tasks."""

    def __init__(
        self, group: asyncio.TaskGroup, run: Run, *, health: Health, screen: Screen
    ) -> None:
        self._group = group
        self._run = run
        self._health = health
        self._screen = screen
        self._workers: dict[Key, _Worker] = {}

    @property
    def specs(self) -> Mapping[Key, Spec]:
        """What was started last under each key."""
        return {name: worker.spec for name, worker in self._workers.items()}

    def direct(self) -> set[tuple[str, str, str]]:
        """Namespace, name and entry of the EventSources that have no bus."""
        return {
            (spec.namespace, spec.name, spec.entry)
            for spec in self.specs.values()
            if isinstance(spec, ResolvedSource) and spec.bus is None
        }

    def start(self, specs: Iterable[Spec]) -> None:
        """Start a worker for each; none of them runs already."""
        for spec in specs:
            worker = self._workers[key(spec)] = _Worker(spec)
            worker.task = self._group.create_task(self._supervise(worker))

    async def stop(self, keys: Iterable[Key], *, within: float) -> list[str]:
        """Drain these, cancelling what is not done after `within` seconds.

        Returns:
            a sentence for each worker that had something in hand when it was cut off.
        """
        leaving = {name: self._workers.pop(name) for name in list(keys) if name in self._workers}
        for worker in leaving.values():
            worker.stop.set()
        tasks = [worker.task for worker in leaving.values() if worker.task is not None]
        if not tasks:
            return []
        _, late = await asyncio.wait(tasks, timeout=within)
        unfinished = [
            self._unfinished(name) for name, worker in leaving.items() if worker.task in late
        ]
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)
        return [sentence for sentence in unfinished if sentence]

    def _unfinished(self, name: Key) -> str:
        for one in self._health.snapshots():
            if (one.kind, one.resource) == name and one.in_flight:
                events = "event was" if one.in_flight == 1 else "events were"
                return (
                    f"{one.in_flight} {events} still in flight at {one.kind} {one.resource}: "
                    "not acknowledged: what its origin keeps comes again at the next start"
                )
        return ""

    def forget(self, keys: Iterable[Key]) -> None:
        """These resources are gone: they are no longer shown."""
        for kind, resource in keys:
            self._health.forget(kind, resource)

    async def _supervise(self, worker: _Worker) -> None:
        backoff = FIRST_BACKOFF
        while not worker.stop.is_set():
            try:
                await self._run(worker.spec, worker.stop)
                return
            except ConfigError as error:
                pause = AGAIN
                self._stalled(worker, error.reason, str(error))
            except Exception as error:
                pause, backoff = backoff, min(backoff * 2, LAST_BACKOFF)
                self._stalled(worker, "Crashed", f"{type(error).__name__}: {error}")
                self._screen.warn("".join(traceback.format_exception(error)).rstrip())
            try:
                async with asyncio.timeout(pause):
                    await worker.stop.wait()
            except TimeoutError:
                pass  # the pause is over: once more

    def _stalled(self, worker: _Worker, reason: str, message: str) -> None:
        kind, resource = key(worker.spec)
        self._health.worker(kind, resource).stalled(reason, message)
