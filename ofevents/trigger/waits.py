"""Waiting for a subscriber, by name: health knows why nothing is settled (promise 8)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

from ofevents.health import WorkerHealth


class NamedWait:
    """Any number of waits at once, named once: `with wait:` around each."""

    def __init__(self, worker: WorkerHealth, what: str) -> None:
        self._worker = worker
        self._what = what
        self._count = 0
        self._named: AbstractContextManager[None] | None = None

    def __enter__(self) -> None:
        self._count += 1
        if self._count == 1:
            self._named = self._worker.waiting(self._what)
            self._named.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._count -= 1
        if not self._count and self._named is not None:
            self._named.__exit__(None, None, None)
            self._named = None
