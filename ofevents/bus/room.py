"""What happens when the bus is full: make room, or refuse (promise 2).

Called by the publisher: before it writes to an inbox, and when the server
refuses a message for want of room. Settled events are kept for replay until
space is needed, and so is what lies in user topics; then the oldest of that
stream go, an eighth of it at a time. What is not settled never goes: then the
bus refuses and sources wait. Inboxes and dead letters are never purged.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ofevents.bus.layout import REPLAYED, filters
from ofevents.bus.streams import Streams
from ofevents.clock import Clock
from ofevents.errors import BusFull
from ofevents.telemetry import Log

_LOOK_EVERY: Final = 5.0
"""Seconds for which the size of the inboxes is taken as known."""


class Room:
    """See the module.

    Attributes:
        made: how often room was made here, by stream; for `make`.
    """

    def __init__(self, streams: Streams, clock: Clock, name: str) -> None:
        self.made: Counter[str] = Counter()
        self._streams = streams
        self._clock = clock
        self._log = Log(bus=name)
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._inboxes = 0
        self._on_way = 0
        self._stored = 0
        self._looking = asyncio.Lock()
        self._looked = float("-inf")

    @asynccontextmanager
    async def reserve(self, stream: str, size: int) -> AsyncIterator[None]:
        """Around storing `size` bytes: refuse them when all inboxes hold their share.

        The server cannot refuse an inbox's messages (see `layout`), so each publisher
        looks every few seconds and counts its own in between; those on their way are
        counted too, or all that are sent at once would find the same room.

        Raises:
            BusFull: the inboxes are full.
        """
        if stream != self._streams.layout.stream("inboxes"):
            yield
            return
        await self._admit(stream, size)
        self._on_way += size
        try:
            yield
            self._inboxes += size
            self._stored += size
        finally:
            self._on_way -= size

    async def _admit(self, stream: str, size: int) -> None:
        limit = self._streams.layout.limit("inboxes", self._streams.events_limit)
        async with self._looking:
            # One look at a time: whoever waited for it finds its answer here.
            recent = self._clock.monotonic() - self._looked < _LOOK_EVERY
            if recent and self._inboxes + self._on_way + size <= limit:
                return
            stored = self._stored
            held = (await self._streams.info(stream))["state"]["bytes"]
            # The answer may be older than what was stored while we asked.
            self._inboxes = held + self._stored - stored
            self._looked = self._clock.monotonic()
        if self._inboxes + self._on_way + size > limit:
            raise BusFull(
                f"the inboxes are full: they hold {self._inboxes} of {limit} bytes (maxBytes) "
                f"of deliveries and {self._on_way} more are on their way; the bus takes no more "
                "until subscribers accept some"
            )

    async def make(self, stream: str, seen: int) -> None:
        """Purge the stream's oldest messages that every group has settled.

        `seen` is `made` of the stream when the caller was refused: who finds that
        somebody else has made room there since just tries again.

        Raises:
            BusFull: nothing that is settled is left, or the stream is never purged.
        """
        async with self._making[stream]:
            if self.made[stream] != seen:
                return
            if stream not in map(self._streams.layout.stream, REPLAYED):
                raise BusFull(
                    f"the bus has no room left in {stream}: nothing there is ever thrown away; "
                    "it takes no more until some is removed, or maxBytes is raised"
                )
            before = (await self._streams.info(stream))["state"]
            floors = await self.settled(stream)
            span = before["last_seq"] - before["first_seq"] + 1
            for share in (8, 4, 2, 1):
                if removed := await self._purge(
                    stream, floors, before["first_seq"] + span // share
                ):
                    self.made[stream] += 1
                    self._log.info("purged", stream=stream, messages=removed)
                    return
            raise BusFull(
                f"the bus is full: {before['bytes']} bytes in stream {stream}, of which nothing is "
                "settled by every consumer; it takes no more until some is, or maxBytes is raised"
            )

    async def _purge(self, stream: str, floors: dict[str, int], below: int) -> int:
        removed = 0
        for subject, floor in floors.items():
            request = {"filter": subject, "seq": min(floor + 1, below)}
            removed += (await self._streams.api(f"STREAM.PURGE.{stream}", request))["purged"]
        return removed

    async def settled(self, stream: str) -> dict[str, int]:
        """Per subject, the sequence up to which every group has settled it.

        A subject that no group reads counts as settled.
        """
        state = await self._streams.subjects(stream)
        last = state["last_seq"]
        floors = dict.fromkeys(state["subjects"], last)
        for consumer in await self._streams.consumers(stream):
            idle = consumer["num_pending"] == 0 and consumer["num_ack_pending"] == 0
            floor = last if idle else consumer["ack_floor"]["stream_seq"]
            for subject in filters(consumer):
                if subject in floors:
                    floors[subject] = min(floors[subject], floor)
        return floors
