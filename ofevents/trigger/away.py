"""The evidence about one subscriber, shared by all workers through the store (promise 6).

The thin shell around `evidence.py`: it brings this worker's failures and successes
together with those of the others by compare-and-set. A probe is claimed the same way:
whoever replaces the entry that all have seen unchanged for the pause makes it, so
there is one probe at a time whoever dies, and no clock is compared with another's.

Reading of the store is polling: a worker learns within `LOOK_CLOSED` that another's
probe was accepted, and by its own failed calls, at once, that the subscriber is away.
Where the store cannot be reached each worker judges by what it has seen itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from ofevents.bus.topics import escape
from ofevents.clock import Clock
from ofevents.errors import Conflict, TemporaryError
from ofevents.ports import Store
from ofevents.process import unless
from ofevents.telemetry import Log
from ofevents.trigger.evidence import NOTHING, Evidence, Failure

LOOK_OPEN: Final = 2.0
LOOK_CLOSED: Final = 0.25
"""Seconds between two looks at what the other workers have found out."""
KEPT: Final = 7 * 86400.0
SKEW: Final = 1.0
"""Seconds that the clocks of two workers may differ for a success to count against the
other's evidence; where they differ more, a probe has to tell."""
_TRIES: Final = 5
_SHORTEST: Final = 0.02


def prefix(namespace: str, trigger: str) -> str:
    """Where the evidence about a Trigger's subscribers lies in the store."""
    return f"away/{escape(namespace)}/{escape(trigger)}/"


def key_of(namespace: str, trigger: str, subscriber: str) -> str:
    """Of one subscriber."""
    return prefix(namespace, trigger) + escape(subscriber)


class Away:
    """See the module; one per subscriber and worker.

    Attributes:
        evidence: as this worker knows it.
        refused: whether a call of this very worker was answered that it is called wrongly.
            What others were answered may have to do with how they were set up.
        changed: called with the evidence whenever `evidence.closed` has changed.
        told: called when `refused` has become true.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        *,
        clock: Clock,
        changed: Callable[[Evidence], None],
        told: Callable[[], None],
        log: Log,
    ) -> None:
        self.evidence = NOTHING
        self.refused = False
        self.changed = changed
        self.told = told
        self._store = store
        self._key = key
        self._clock = clock
        self._log = log
        self._revision = 0
        self._seen = 0.0
        self._pause = 0.0
        self._accepted: float | None = None
        self._pending: list[Failure] = []
        self._merging = asyncio.Lock()
        self._held_from = 0.0
        self._clear = False
        self._wake = asyncio.Event()

    @property
    def closed(self) -> bool:
        """Whether only probes are called."""
        return self.evidence.closed is not None

    def accepted(self, began: float, *, probe: bool = False) -> None:
        """A call was accepted that began then, by the monotonic clock."""
        self._accepted = began
        if self.evidence is NOTHING or (began < self._held_from and not probe):
            return  # nothing is held against it, or this call is older than that
        self._adopt(NOTHING, 0)
        self._clear = True
        self._wake.set()

    async def failed(self, failure: Failure) -> bool:
        """A call failed; whether the subscriber is closed now."""
        self._pending.append(failure)
        async with self._merging:
            # Many fail together: the first one here writes for all that wait behind it.
            if self._pending:
                await self._merge()
        self._witness(failure)
        return self.closed

    def _witness(self, failure: Failure) -> None:
        """It is known at first hand that the subscriber is called wrongly."""
        if failure.wrong and self.closed and not self.refused:
            self.refused = True
            self.told()

    async def _merge(self) -> None:
        failures, self._pending = self._pending, []
        for attempt in range(_TRIES):
            try:
                await self._flush()
                await self._read()
                if (new := self._add(failures)) is not self.evidence:
                    revision = await self._write(new)
                    if not self._clear:  # accepted meanwhile: it is out of date already
                        self._adopt(new, revision)
                return
            except Conflict:
                await self._clock.sleep(0.005 * random.random() * 2**attempt)
            except TemporaryError:
                break
        # The store is away, or changed all the time: what is known here must do.
        self._adopt(self._add(failures), self._revision)

    def _add(self, failures: list[Failure]) -> Evidence:
        known = self._accepted is not None
        return self.evidence.add(failures, accepted=known, now=self._clock.now())

    async def probe_failed(self, failure: Failure) -> None:
        """The probe that this worker has made failed."""
        new = self.evidence.probed(failure)
        if new is not self.evidence:
            try:
                self._adopt(new, await self._write(new))
            except TemporaryError:
                pass  # the next look tells what another worker has written, or the next probe
        self._witness(failure)

    async def claim(self) -> bool:
        """Whether this worker shall make a probe now."""
        if not self.closed or self.due > 0:
            return False
        new = self.evidence.probing()
        try:
            self._adopt(new, await self._write(new))
        except Conflict:
            await self.look()
            return False
        except TemporaryError:
            # Without the store nobody else can claim either; its lack bounds nothing else.
            self._adopt(new, self._revision)
        return True

    @property
    def due(self) -> float:
        """Seconds until a probe may be made; 0 or less from then on."""
        return self._seen + self._pause - self._clock.monotonic()

    async def run(self, probing: Callable[[], bool], probe: Callable[[], None]) -> None:
        """Keep up with the other workers, and claim probes, until cancelled.

        Args:
            probing: whether there is anything to probe with.
            probe: make one now.
        """
        while True:
            await self.look()
            if probing() and await self.claim():
                probe()
            await unless(self._wake, self._clock.sleep(self._until_look(probing())))
            self._wake.clear()

    def _until_look(self, probing: bool) -> float:
        if not self.closed:
            return LOOK_OPEN
        return min(LOOK_CLOSED, max(_SHORTEST, self.due)) if probing else LOOK_CLOSED

    async def look(self) -> None:
        """Learn what other workers have written; a store that is away tells nothing."""
        try:
            async with self._merging:
                await self._flush()
                await self._read()
        except TemporaryError:
            pass

    async def _flush(self) -> None:
        """Let the others know of a success."""
        if self._clear:
            await self._store.delete(self._key)
            self._clear = False

    async def _read(self) -> None:
        entry = await self._store.get(self._key)
        if self._clear:
            return  # accepted meanwhile: what was read is older than that
        if entry is None:
            self._adopt(NOTHING, 0)
        elif entry.revision != self._revision:
            found = Evidence.decode(entry.value)
            if self._refutes(found):
                self._clear = True
                await self._flush()
            else:
                self._adopt(found, entry.revision)

    def _refutes(self, found: Evidence) -> bool:
        """Whether a success of ours is newer than what another worker holds against it."""
        if self._accepted is None or self.evidence is not NOTHING:
            return False
        age = self._clock.monotonic() - self._accepted
        return self._clock.now() - age > found.since + SKEW

    async def _write(self, evidence: Evidence) -> int:
        return await self._store.put(
            self._key, evidence.encode(), revision=self._revision, ttl=KEPT
        )

    def _adopt(self, evidence: Evidence, revision: int) -> None:
        before, self.evidence = self.evidence, evidence
        if revision != self._revision or evidence.probes != before.probes:
            self._seen = self._clock.monotonic()
            # Not all at the same moment, where several workers wait to probe.
            self._pause = evidence.pause * random.uniform(1.0, 1.1)
        self._revision = revision
        if before is NOTHING:
            self._held_from = self._clock.monotonic()
        if evidence.closed == before.closed:
            return
        if not evidence.closed:
            self.refused = False
        if evidence.closed:
            self._log.warning("away", reason=evidence.closed, error=evidence.error)
        elif before.closed:
            self._log.info("returned", probes=before.probes)
        self.changed(evidence)
        self._wake.set()
