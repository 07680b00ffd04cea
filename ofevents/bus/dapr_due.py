"""Deliveries that are due later: kept in the store, as Dapr keeps nothing back.

A delivery for an inbox whose time has not come is an entry `due/<topic>/<when>-<id>`
with the envelope in it. Whoever consumes that inbox looks once a second, under a
lease, publishes what is due, and removes the entry then: a crash between the two
publishes it again with the same id, which is a repetition, never a loss.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import orjson

from ofevents.bus import dapr_envelope as envelope
from ofevents.bus.dapr_publish import Publisher
from ofevents.bus.dapr_store import StateStore
from ofevents.clock import Clock
from ofevents.errors import TemporaryError
from ofevents.ports.lease import Lease
from ofevents.telemetry import Log

EVERY: Final = 1.0
"""Seconds between looks."""
PAGE: Final = 200
_LEASE: Final = 10.0


class Due:
    """See the module."""

    def __init__(self, store: StateStore | None, publisher: Publisher, clock: Clock) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._owner = secrets.token_hex(8)

    async def keep(self, topic: str, raw: bytes, key: str | None, due: float) -> None:
        """Return when the store has it; the same message again is stored once.

        Raises:
            Disconnected: not known to be stored.
        """
        head = envelope.head(raw)
        assert self._store is not None and head is not None
        value = orjson.dumps({"key": key, "raw": base64.b64encode(raw).decode()})
        # The id is the digest: the same move repeated is the same entry.
        await self._store.put(f"due/{topic}/{int(due * 1000):014d}-{head.id}", value)

    @asynccontextmanager
    async def watching(self, topics: Sequence[str]) -> AsyncIterator[None]:
        """Publish meanwhile what becomes due in these inboxes."""
        inboxes = [topic for topic in topics if topic.startswith("inbox.")]
        tasks: list[asyncio.Task[None]] = []
        if self._store is not None:
            tasks = [
                asyncio.create_task(self._watch(self._store, one), name=f"due {one}")
                for one in inboxes
            ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def forget(self, topic: str) -> None:
        """Remove what is kept for an inbox."""
        if self._store is not None and topic.startswith("inbox."):
            for key in await self._store.keys(f"due/{topic}/"):
                await self._store.delete(key)

    async def _watch(self, store: StateStore, topic: str) -> None:
        log = Log(topic=topic)
        lease = Lease(store, f"due-owner/{topic}", self._owner, ttl=_LEASE, clock=self._clock)
        while True:
            async with lease:
                while lease.held:
                    try:
                        await self._look(store, topic)
                    except TemporaryError as error:
                        log.debug("waiting", reason=str(error))
                    except Exception as error:
                        # A defect of ours must not keep what is due for ever.
                        log.error("stalled", reason=repr(error))
                    await self._clock.sleep(EVERY)

    async def _look(self, store: StateStore, topic: str) -> None:
        now = f"{int(self._clock.now() * 1000):014d}"
        prefix = f"due/{topic}/"
        keys = [key for key in await store.keys(prefix) if key[len(prefix) :] <= now]
        for at in range(0, len(keys), PAGE):
            page = sorted(keys)[at : at + PAGE]
            entries = [(key, await store.get(key)) for key in page]
            there = [(key, orjson.loads(one.value)) for key, one in entries if one is not None]
            await self._publisher.publish_raw(
                topic, [(base64.b64decode(one["raw"]), one["key"]) for _, one in there]
            )
            for key, _ in there:
                await store.delete(key)
