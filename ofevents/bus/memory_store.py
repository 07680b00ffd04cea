"""The store of the bus inside the process; the rules of every store in a few lines."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ofevents.bus.broker import Broker
from ofevents.clock import Clock
from ofevents.errors import Conflict, Disconnected
from ofevents.ports import Entry


class MemoryStore:
    """See `ofevents.ports.Store`; entries are `(value, revision, expires)`."""

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock

    def _find(self, key: str) -> Entry | None:
        if self._broker.down:
            raise Disconnected(self._broker.down)
        found = self._broker.entries.get(key)
        if found is None or found[2] <= self._clock.now():
            self._broker.entries.pop(key, None)
            return None
        return Entry(found[0], found[1])

    def _check(self, key: str, revision: int | None) -> None:
        found = self._find(key)
        current = found.revision if found else 0
        if revision is not None and revision != current:
            raise Conflict(f"the store's {key!r} is at revision {current}, not {revision}")

    async def get(self, key: str) -> Entry | None:
        return self._find(key)

    async def put(
        self, key: str, value: bytes, *, revision: int | None = None, ttl: float | None = None
    ) -> int:
        """See the port."""
        self._check(key, revision)
        written = next(self._broker.revision)
        expires = float("inf") if ttl is None else self._clock.now() + ttl
        self._broker.entries[key] = (value, written, expires)
        return written

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """See the port."""
        self._check(key, revision)
        self._broker.entries.pop(key, None)

    async def list(self, prefix: str) -> AsyncIterator[tuple[str, Entry]]:
        """See the port."""
        for key in sorted(self._broker.entries):
            if key.startswith(prefix) and (entry := self._find(key)) is not None:
                yield key, entry
