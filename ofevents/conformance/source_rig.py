"""What a Source brings to its conformance suite, and the stand-in for the engine.

A `SourceRig` is one source and the outside world around it: the suite asks it to
make workers, to let the outside produce, to break and mend the server. `Emitted`
plays the engine's emit: it can block, fail, and remembers what it was handed.
`working` runs a worker as `ofevents.source` does: again after `Disconnected`.

Write your own rig, then await every check of `check_source.CHECKS` that
`applies` to it; each raises `NotConformant` with a sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from ofevents.conformance.verdict import NotConformant, come_true, require
from ofevents.errors import Disconnected, TemporaryError
from ofevents.event import Event, check_attributes
from ofevents.ports import Reply, Source, SourceFeatures, Store

PATIENCE = 60.0
"""Seconds that anything may take; a check fails after it. Beside other work that is a sidecar
that asks its app again after a gRPC backoff, and a Kafka group that forms anew behind it."""


class SourceRig(Protocol):
    """One source and its outside world; made anew for each check.

    Attributes:
        features: of the source.
        store: what `run` is given.
        in_flight: most events that a worker may have inside emit at once.
        breakable: there is a server to take away; `break_` and `restart` work.
        poisonable: the outside can hold what is malformed; `poison` works.
    """

    features: SourceFeatures
    store: Store | None
    in_flight: int
    breakable: bool
    poisonable: bool

    def make(self) -> Source:
        """A new worker of the same entry. Workers share the position outside."""
        ...

    async def feed(self, count: int) -> Sequence[str]:
        """Let the outside produce `count` records; one key for each, in their order.

        Returns when the outside has taken charge of them, not when they are emitted:
        a webhook's sender goes on in the background (in tasks whose names begin with
        `feed`), and tries again when it is refused. Keys are never repeated, and `key`
        finds them in the events.
        """
        ...

    def key(self, event: Event) -> str:
        """Which fed record an event is of; "" for another (poison)."""
        ...

    async def poison(self) -> bool:
        """Let the outside produce something malformed; whether an event must come of it."""
        ...

    async def break_(self) -> None:
        """Take the server away, as a crash does."""
        ...

    async def restart(self) -> None:
        """Bring the server back, with all it held."""
        ...


async def within(condition: Callable[[], bool], sentence: str, seconds: float = PATIENCE) -> None:
    """Wait for a condition; NotConformant when it does not come."""
    await come_true(condition, sentence, seconds)


class Emitted:
    """The engine's emit as the checks need it.

    Attributes:
        offered: every event handed over, in order, again when it came again.
        settled: those for which emit has returned.
        gate: while it is clear, emit does not return.
        failures: raised by the next calls, one each.
        inside, most_inside: events in emit now, and the most there ever were.
    """

    def __init__(self, rig: SourceRig) -> None:
        self._rig = rig
        self.offered: list[Event] = []
        self.settled: list[Event] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[TemporaryError] = []
        self.inside = 0
        self.most_inside = 0

    async def __call__(self, *events: Event) -> Reply | None:
        for event in events:
            check_attributes(event.attributes)
        self.offered.extend(events)
        self.inside += len(events)
        self.most_inside = max(self.most_inside, self.inside)
        try:
            if self.failures:
                raise self.failures.pop(0)
            await self.gate.wait()
            self.settled.extend(events)
        finally:
            self.inside -= len(events)
        return None if self._rig.store is not None else Reply(status=200)

    def keys(self, events: list[Event]) -> list[str]:
        """The keys of those events that are of fed records."""
        return [key for event in events if (key := self._rig.key(event))]

    def ids(self) -> dict[str, set[str]]:
        """Key -> every CloudEvent id that was offered for it."""
        found: dict[str, set[str]] = {}
        for event in self.offered:
            found.setdefault(self._rig.key(event), set()).add(event.id)
        return found

    async def settles(self, keys: Sequence[str]) -> None:
        """Wait until all of these are settled."""
        wanted = set(keys)
        sentence = f"all {len(wanted)} records are emitted"
        await within(lambda: wanted <= set(self.keys(self.settled)), sentence)


class Working:
    """A worker that runs; `started` holds the address of each live connection."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.lost: list[Disconnected] = []

    async def run(self, source: Source, rig: SourceRig, emit: Emitted) -> None:
        """Run the source, and again whenever it lost its server."""
        while True:
            try:
                await source.run(emit, store=rig.store, started=self.started.append)
            except Disconnected as error:
                self.lost.append(error)
                await asyncio.sleep(0.05)
            else:
                raise NotConformant("run returned although nobody cancelled it")


@asynccontextmanager
async def working(rig: SourceRig, emit: Emitted, *, live: bool = True) -> AsyncIterator[Working]:
    """A worker, live when this is entered (unless told otherwise), ended when it is left."""
    worker = Working()
    task = asyncio.create_task(worker.run(rig.make(), rig, emit))
    try:
        if live:
            await within(lambda: bool(worker.started) or task.done(), "started was called")
        yield worker
    except NotConformant:
        if task.done():
            await task  # why it ended says more than what did not come
        raise
    finally:
        task.cancel()
        _, pending = await asyncio.wait([task], timeout=PATIENCE)
    require(not pending, f"a cancelled worker is still running after {PATIENCE:.0f} s")
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
