"""A stream, read as a consumer group: at least once; run by `redis`, one life per connection.

    XREADGROUP, XAUTOCLAIM -> entries in hand (waiting, then open) -> emit -> XACK

One emit is open at a time, with all that has come, in the stream's order; so what one
worker emits comes in order as long as nothing comes again. An entry is acknowledged only
after emit has returned for it. While it is in hand it is touched, however long emit
takes, so nobody else takes it over; when its worker dies, another one does after
`processingTimeout`. A worker that is stopped gives back at once: it makes its entries
look as if nobody had touched them for that long.

The group is made where there is none, and again when it was deleted. With `initialId: $`,
what comes between is not in the new group.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from ofevents.clock import Clock
from ofevents.errors import PermanentError, TemporaryError
from ofevents.ports import Emit
from ofevents.process import end_if_cancelled
from ofevents.telemetry import Log
from ofevents_adapters.redis_config import Settings
from ofevents_adapters.redis_connection import FAILURES, Server
from ofevents_adapters.redis_record import Entry

IN_FLIGHT: Final = 1000
"""Most entries in hand, ..."""
IN_FLIGHT_BYTES: Final = 32 * 1024 * 1024
"""... and about the most bytes. A read is bounded by a number of entries only, so the
number follows from the largest entry that came of late; it begins with `_FIRST_READ`."""
BATCH: Final = 500
"""Most entries of one emit on a bus."""
LOOK: Final = 5.0
"""Most seconds between two looks at the lag."""
_FIRST_READ: Final = 16
_BATCH_BYTES: Final = 4 * 1024 * 1024
"""An emit takes no further entry beyond: decoded, entries are several times as large."""
_WAIT: Final = 1.0
"""Most seconds that a read waits at the server; a stop waits for it."""
_FIRST: Final = 0.05
_LONGEST: Final = 5.0
"""Seconds between two tries of emit, at least. The engine has waited by itself already."""
_LEAVE: Final = 3.0
_ALL: Final = b"0-0"
"""Where a look for what nobody has touched begins, and what the last part of it answers."""


class StreamSession:
    """One connection's reading of the stream, and what it has in hand."""

    def __init__(
        self,
        server: Server,
        settings: Settings,
        emit: Emit,
        *,
        batch: int,
        source: str,
        clock: Clock,
        log: Log,
        lagging: Callable[[int], None],
    ) -> None:
        self._server = server
        self._client = server.client
        self._settings = settings
        self._emit = emit
        self._batch = batch
        self._source = source
        self._clock = clock
        self._log = log
        self._lagging = lagging
        self._waiting: deque[Entry] = deque()
        self._held: dict[str, Entry] = {}
        self._bytes = 0
        self._largest = IN_FLIGHT_BYTES // _FIRST_READ
        self._came = asyncio.Event()
        self._room = asyncio.Event()
        self._stopping = False

    async def run(self, started: Callable[[], None]) -> None:
        """Emit what comes until cancelled; `started` once there is a group.

        Raises:
            Disconnected: the server, the group or the stream is gone.
            ConfigError: the server refuses to let us read.
        """
        try:
            await self._ensure_group()
            end_if_cancelled()
            started()
            reading = asyncio.create_task(self._read(), name="redis: reads the stream")
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_follow(reading), name="redis: follows the reader")
                    tasks.create_task(self._keep(), name="redis: touches what is in hand")
                    tasks.create_task(self._look(), name="redis: looks at the lag")
                    await self._work()
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
            finally:
                await self._leave(reading)
        except FAILURES as error:
            raise self._server.failed(error, f"reading {self._settings.stream!r}") from error

    async def _ensure_group(self) -> None:
        stream, group = self._settings.stream, self._settings.group
        try:
            await self._client.xgroup_create(
                stream, group, id=self._settings.initial, mkstream=True
            )
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def _leave(self, reading: asyncio.Task[None]) -> None:
        """Let the read that is under way end, and give back at once what is not settled."""
        self._stopping = True
        self._room.set()
        try:
            async with asyncio.timeout(_LEAVE):
                await asyncio.wait([reading])
                await self._touch(idle=int(self._settings.processing * 1000) + 1)
        except (TimeoutError, *FAILURES):
            pass  # the connection is gone: they are taken over after processingTimeout
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    # -- in -------------------------------------------------------------------------

    def _most(self) -> int:
        """How many entries there is room for; at least one when nothing is in hand."""
        most = min(IN_FLIGHT - len(self._held), (IN_FLIGHT_BYTES - self._bytes) // self._largest)
        return max(most, 0 if self._held else 1)

    async def _read(self) -> None:
        """Take entries until told to stop; what is asked of the server is never cancelled."""
        settings = self._settings
        wait = int(min(_WAIT, settings.answer / 2) * 1000)
        reclaim_at = self._clock.monotonic()
        start: Any = _ALL
        while not self._stopping:
            most = self._most()
            if not most:
                self._room.clear()
                await self._room.wait()
            elif self._clock.monotonic() >= reclaim_at:
                start, entries, *_ = await self._client.xautoclaim(
                    settings.stream,
                    settings.group,
                    settings.consumer,
                    min_idle_time=int(settings.processing * 1000),
                    start_id=start,
                    count=min(most, BATCH),
                )
                self._take(entries)
                if start == _ALL:  # all have been looked at
                    reclaim_at = self._clock.monotonic() + settings.redeliver
            else:
                answer: Any = await self._client.xreadgroup(
                    settings.group,
                    settings.consumer,
                    {settings.stream: ">"},
                    count=most,
                    block=wait,
                )
                for _, entries in answer or ():
                    self._take(entries)

    def _take(self, entries: Sequence[tuple[bytes | None, Any]]) -> None:
        """Put in hand what is not there yet. What was deleted meanwhile has no fields."""
        largest = 1
        for raw, fields in entries:
            if raw is None or fields is None:
                continue
            entry = Entry(raw.decode(), fields)
            largest = max(largest, entry.size)
            if entry.id not in self._held:
                self._held[entry.id] = entry
                self._bytes += entry.size
                self._waiting.append(entry)
        if entries:
            self._largest = max(largest, self._largest // 2)
            self._came.set()

    # -- out ------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            while self._waiting:
                await self._settle(self._next())
            self._came.clear()
            await self._came.wait()

    def _next(self) -> list[Entry]:
        taken: list[Entry] = []
        size = 0
        while self._waiting and len(taken) < self._batch and size < _BATCH_BYTES:
            taken.append(self._waiting.popleft())
            size += taken[-1].size
        return taken

    async def _settle(self, taken: Sequence[Entry]) -> None:
        events = [e for one in taken for e in one.events(self._source, self._settings.stream)]
        delay = _FIRST
        while True:
            try:
                if self._batch == 1:
                    for event in events:
                        await self._emit(event)
                elif events:
                    await self._emit(*events)
            except TemporaryError as error:
                self._log.debug("retrying", reason=str(error))
                await self._clock.sleep(max(delay, error.delay))
                delay = min(delay * 2, _LONGEST)
            except PermanentError as error:
                if len(taken) == 1:
                    # No dead letter can take it, and skipping it would lose it in silence:
                    # let go, it is taken over after processingTimeout.
                    self._log.error("stalled", reason=str(error), id=events[0].id)
                    self._forget(taken)
                    return
                for one in taken:  # it is one of them; the others go on
                    await self._settle([one])
                return
            else:
                await self._client.xack(
                    self._settings.stream, self._settings.group, *(one.id for one in taken)
                )
                self._forget(taken)
                end_if_cancelled()
                return

    def _forget(self, taken: Sequence[Entry]) -> None:
        for one in taken:
            self._bytes -= one.size
            del self._held[one.id]
        self._room.set()

    # -- beside ---------------------------------------------------------------------

    async def _keep(self) -> None:
        """Touch what is in hand, each third of the processing timeout."""
        while True:
            await self._clock.sleep(self._settings.processing / 3)
            await self._touch()
            end_if_cancelled()

    async def _touch(self, idle: int | None = None) -> None:
        """Count how long nobody has touched what is in hand from now, or as `idle` ms.

        An entry that another worker has settled is not pending, and stays so.
        """
        held: list[Any] = list(self._held)
        for at in range(0, len(held), BATCH):
            await self._client.xclaim(
                self._settings.stream,
                self._settings.group,
                self._settings.consumer,
                min_idle_time=0,
                message_ids=held[at : at + BATCH],
                idle=idle,
                justid=True,
            )

    async def _look(self) -> None:
        """The lag as a metric; servers before 7.0 do not know it."""
        group = self._settings.group.encode()
        while True:
            for found in await self._client.xinfo_groups(self._settings.stream):
                if found["name"] == group and found.get("lag") is not None:
                    self._lagging(int(found["lag"]))
            end_if_cancelled()
            await self._clock.sleep(LOOK)


async def _follow(task: asyncio.Task[None]) -> None:
    """Raise what a task raises; cancelling this leaves the task alone."""
    await asyncio.wait([task])
    task.result()
