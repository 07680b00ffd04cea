"""A lane: one partition's records on their way to emit, strictly in their order.

`kafka` owns one per partition that has records. One emit of a lane is open at a time,
and the next begins where the last one ended, so the offset after the last settled
record never passes an unfinished one, and a retry cannot overtake.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Message

from ofevents.clock import Clock
from ofevents.errors import PermanentError, TemporaryError
from ofevents.event import Event
from ofevents.ports import Emit
from ofevents.telemetry import Log
from ofevents_adapters.kafka_record import event_of
from ofevents_adapters.kafka_registry import Registry

_BATCH_BYTES: Final = 4 * 1024 * 1024
"""An emit takes no further record beyond: decoded, records are several times as large."""
_FIRST: Final = 0.05
_LONGEST: Final = 5.0
"""Seconds between two tries, at least. The engine has waited by itself already."""


class Room:
    """How many records, and how many bytes, a worker may hold at once (promise 7)."""

    def __init__(self, records: int, size: int) -> None:
        self._records = records
        self._size = size
        self._freed = asyncio.Event()

    @property
    def free(self) -> int:
        """Records that may still be taken; 0 while the bytes are used up."""
        return max(0, self._records) if self._size > 0 else 0

    def take(self, records: Sequence[Message]) -> None:
        """These are in hand. The last turn may take more bytes than there were."""
        self._records -= len(records)
        self._size -= sum(map(len, records))

    def give_back(self, records: Sequence[Message]) -> None:
        """These are settled, or not ours any more."""
        self._records += len(records)
        self._size += sum(map(len, records))
        self._freed.set()

    async def wait(self, seconds: float) -> None:
        """Return when there is room, or after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while not self.free:
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            pass


@dataclass(slots=True)
class Lane:
    """One partition's queue; `run` is a task of its owner.

    Attributes:
        batch: most events of one emit.
        registry: decodes values; None where they are taken as they are.
        settled: the offset to go on from; None while nothing is settled.
    """

    emit: Emit
    source: str
    batch: int
    room: Room
    clock: Clock
    log: Log
    registry: Registry | None = None
    settled: int | None = None
    _queue: deque[Message] = field(default_factory=deque)
    _open: list[Message] = field(default_factory=list)
    _filled: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: bool = False

    def put(self, record: Message) -> None:
        """Queue a record; its place in Room is taken already."""
        self._queue.append(record)
        self._filled.set()

    def close(self) -> None:
        """Begin no further emit; `run` returns after the one that is open."""
        self._closing = True
        self._filled.set()

    def abandon(self) -> None:
        """Give back the places of what is not settled; after `run` has ended."""
        self.room.give_back([*self._open, *self._queue])
        self._open = []
        self._queue.clear()

    async def run(self) -> None:
        """Emit what is queued until the lane is closed.

        Raises:
            Disconnected: the schema registry is away.
            ConfigError: it refuses us.
        """
        while not self._closing:
            if not self._queue:
                self._filled.clear()
                await self._filled.wait()
                continue
            self._open = self._next()
            await self._settle([await self._event(record) for record in self._open])
            self.settled = (self._open[-1].offset() or 0) + 1
            self.room.give_back(self._open)
            self._open = []

    async def _event(self, record: Message) -> Event:
        if self.registry is None:
            return event_of(record, self.source)
        return await self.registry.event_of(record, self.source)

    def _next(self) -> list[Message]:
        records: list[Message] = []
        size = 0
        while self._queue and len(records) < self.batch and size < _BATCH_BYTES:
            record = self._queue.popleft()
            size += len(record)
            records.append(record)
        return records

    async def _settle(self, events: list[Event]) -> None:
        delay = _FIRST
        while True:
            try:
                await self.emit(*events)
                return
            except TemporaryError as error:
                wait = max(delay, error.delay)
                self.log.debug("retrying", reason=error.reason, delay=wait)
            except PermanentError as error:
                if len(events) > 1:
                    # It is one of them; the others go on.
                    for event in events:
                        await self._settle([event])
                    return
                # No dead letter can take it, and skipping it would lose it in silence:
                # the partition waits until a person has made room for it.
                wait = _LONGEST
                self.log.error("stalled", reason=str(error), id=events[0].id)
            await self.clock.sleep(wait)
            delay = min(delay * 2, _LONGEST)
