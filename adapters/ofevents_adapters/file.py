"""The `file` source: lines that are appended to files, or whole new files.

    look (which files) -> read (lines after the position) -> emit -> keep the position

With a bus, positions are in its store, and the worker that has the lease reads: the
others stand by. A position is kept only after emit has returned, so a line that was in
hand comes again, with the same id. Without a bus one worker reads, and keeps no position
over a restart: it begins where `start` says.

Rotation by rename is followed: the renamed file is read to its end, also after a restart,
as long as it is in the same folder. One that was made and renamed while nobody looked is
found only if the pattern matches its new name too (`shop.log*`); it does no harm, as a
file is known by its inode. Of a file that is emptied in place (copytruncate), what was
written between the last look and the emptying is lost, as it is for every reader; there
the pattern must not match the copies. A line without an end waits for it, until its file
is deleted.

In mode `files` a file is whole when it was not changed for a polling interval: move it
there when it is written, where that may be too short. One that is changed later is new.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from urllib.parse import quote

from ofevents.api.platform import FileSpec
from ofevents.clock import Clock
from ofevents.event import Event
from ofevents.ports import Emit, SourceFeatures, SourceIdentity, Store
from ofevents.ports.lease import Lease, while_held
from ofevents.telemetry import Log
from ofevents_adapters.file_changes import Changes
from ofevents_adapters.file_config import Settings, settings
from ofevents_adapters.file_positions import Identity, Kept, Position, Positions, Remembered
from ofevents_adapters.file_reader import Found, Reader, gone, look, whole
from ofevents_adapters.file_record import LARGEST, file_event, line_event
from ofevents_adapters.settle import settle

LEASE: Final = 15.0
"""Seconds after which another worker takes over from one that has died."""
_TURN: Final = 8
"""Readings of a file before the next file has its turn."""

T = TypeVar("T")


class FileSource:
    """Follows the files of a pattern."""

    features = SourceFeatures(
        guarantee="at-least-once", stable_ids=True, ordered=True, scales=False
    )

    def __init__(self, spec: FileSpec, identity: SourceIdentity, *, clock: Clock) -> None:
        """Checks the spec (ConfigError); looks at nothing."""
        self._spec = spec
        self._settings = settings(spec, identity)
        self._clock = clock
        parts = (identity.namespace, identity.name, identity.entry)
        self._name = "/".join(quote(part, safe="") for part in parts)
        self._log = Log(namespace=identity.namespace, name=identity.name, entry=identity.entry)
        self._remembered = Remembered()

    async def run(self, emit: Emit, *, store: Store | None, started: Callable[[str], None]) -> None:
        """See `ofevents.ports.Source`. Without a bus, one event is emitted at a time.

        Raises:
            Disconnected: the lease was lost, or the store cannot be reached.
        """
        address = self._settings.pattern
        if store is None:
            await self._following(self._remembered, emit, 1).run(lambda: started(address))
            return
        key, standby = f"file/{self._name}", asyncio.Event()
        following = self._following(Kept(store, f"{key}/positions"), emit, 0)
        owner = uuid.uuid4().hex
        lease = Lease(store, f"{key}/lease", owner, ttl=LEASE, clock=self._clock)

        def standing_by() -> None:
            standby.set()
            started(f"{address} (another worker reads it)")

        async def work() -> None:
            await following.run(lambda: None if standby.is_set() else started(address))

        await while_held(lease, work, standing_by=standing_by)

    def _following(self, positions: Positions, emit: Emit, most: int) -> Following:
        return Following(
            self._spec,
            self._settings,
            positions,
            emit,
            most,
            name=self._name,
            clock=self._clock,
            log=self._log,
        )


class Following:
    """One worker's reading; `most` events are in one emit, 0 for all that were read."""

    def __init__(
        self,
        spec: FileSpec,
        settings: Settings,
        positions: Positions,
        emit: Emit,
        most: int,
        *,
        name: str,
        clock: Clock,
        log: Log,
    ) -> None:
        self._spec = spec
        self._settings = settings
        self._positions = positions
        self._emit = emit
        self._most = most
        self._source = f"/ofevents/{name}"
        self._clock = clock
        self._log = log
        self._reader = Reader()
        self._seen: dict[Identity, tuple[Found, float]] = {}
        self._pool = ThreadPoolExecutor(1, "file: reads")

    async def run(self, started: Callable[[], None]) -> None:
        """Follow until cancelled; `started` after the first look."""
        begun = await self._positions.load()
        try:
            async with Changes(self._settings) as changes:
                found = await self._look()
                if not begun:
                    await self._begin(found)
                started()
                while True:
                    more = await self._follow(found)
                    if not more:
                        await changes.wait(self._settings.polling)
                    found = await self._look()
        finally:
            self._pool.submit(self._reader.close)
            self._pool.shutdown(wait=False)

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        """A disk may be slow: it does not hold up the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)

    async def _look(self) -> dict[Identity, Found]:
        return await self._in_thread(look, self._settings.pattern, dict(self._positions.known))

    def _now(self) -> int:
        return int(self._clock.now() * 1000)

    async def _begin(self, found: dict[Identity, Found]) -> None:
        """The first look there ever was: `start: end` leaves out what is there."""
        if self._spec.start == "end":
            for one in found.values():
                end = one.size
                if self._spec.mode == "lines":
                    end = await self._in_thread(self._reader.last_line_end, one)
                position = Position(one.path, self._now(), end, stamp=one.modified)
                await self._positions.keep(one.file, position)
        await self._positions.begin()

    async def _follow(self, found: dict[Identity, Found]) -> bool:
        """Read what there is; whether a file is left that has more."""
        for file, known in list(self._positions.known.items()):
            if file not in found and await self._in_thread(gone, file, known.path):
                await self._end(file)
        unfinished: set[str] = set()
        for one in found.values():
            if self._spec.mode == "files":
                await self._whole(one)
            else:
                await self._lines(one, unfinished)
        self._seen = {file: self._seen[file] for file in self._seen.keys() & found.keys()}
        return bool(unfinished)

    # -- lines ------------------------------------------------------------------------

    async def _lines(self, one: Found, unfinished: set[str]) -> None:
        """Read a file for a turn; its path is `unfinished` when it has more then.

        A file that has taken another's name waits until that one is read to its end.
        """
        known = self._positions.known.get(one.file)
        if known is None:
            # Before anything is emitted: the ids come from when it was first seen.
            known = Position(one.path, self._now())
            await self._positions.keep(one.file, known)
        if known.path in unfinished:
            return
        for _ in range(_TURN):
            if not await self._read(one.file, one.path, ended=False):
                return
        unfinished.add(known.path)

    async def _read(self, file: Identity, path: str, *, ended: bool) -> bool:
        """Emit the next lines of a file; whether there were any bytes to read."""
        before = self._positions.known[file]

        def read() -> Any:
            return self._reader.read(file, path, before, now=self._now(), ended=ended)

        answer = await self._in_thread(read)
        if answer is None:
            return False
        lines, position = answer
        if position == before:
            return False
        if position.since != before.since and lines:
            # It begins anew, under new ids: they have to be the same if we die now.
            fresh = Position(position.path, position.since)
            await self._positions.keep(file, fresh)
        await self._settle(
            [line_event(one, file, position, self._source, self._spec.format) for one in lines]
        )
        await self._positions.keep(file, position)
        return True

    async def _end(self, file: Identity) -> None:
        """Read a deleted file to its end, while we have it open."""
        if self._spec.mode == "lines":
            path = self._positions.known[file].path
            while await self._read(file, path, ended=True):
                pass
        await self._in_thread(self._reader.drop, file)
        await self._positions.forget(file)

    # -- whole files ------------------------------------------------------------------

    async def _whole(self, one: Found) -> None:
        known = self._positions.known.get(one.file)
        if known is not None and (known.stamp, known.offset) == (one.modified, one.size):
            return  # done
        if not self._quiet(one):
            return  # it is still written to, perhaps
        data = await self._in_thread(whole, one, LARGEST)
        if data is None:
            return
        await self._settle([file_event(data, one, self._source, self._spec.format)])
        position = Position(one.path, self._now(), one.size, stamp=one.modified)
        await self._positions.keep(one.file, position)

    def _quiet(self, one: Found) -> bool:
        """Whether it was not changed for a polling interval, by its own time or by ours."""
        now = self._clock.monotonic()
        before, since = self._seen.get(one.file, (None, now))
        if before != one:
            since = now
        self._seen[one.file] = (one, since)
        age = max(now - since, self._clock.now() - one.modified / 1e9)
        return age >= self._settings.polling

    # -- out --------------------------------------------------------------------------

    async def _settle(self, events: Sequence[Event]) -> None:
        """Return when all are settled; without a bus one after the other."""
        await settle(self._emit, events, apart=self._most == 1, clock=self._clock, log=self._log)
