"""How far a kind has been watched: in the store of the bus, or in this process alone.

Called by `kubernetes`. It is written by compare-and-set: whoever was paused, and lost the
lease meanwhile, cannot put back what another worker has written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Protocol

import orjson

from ofevents.errors import Conflict, Disconnected
from ofevents.ports import Store


@dataclass(frozen=True, slots=True)
class Position:
    """`version` is a resourceVersion, `time` when it was kept, in Unix seconds."""

    version: str
    time: int


class Positions(Protocol):
    """Where the one position is."""

    async def load(self) -> Position | None: ...

    async def keep(self, position: Position) -> None: ...


class Remembered:
    """In this process: over a reconnect, not over a restart."""

    def __init__(self) -> None:
        self._position: Position | None = None

    async def load(self) -> Position | None:
        return self._position

    async def keep(self, position: Position) -> None:
        self._position = position


class Kept:
    """In the store, under `key`."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        self._revision = 0

    async def load(self) -> Position | None:
        entry = await self._store.get(self._key)
        self._revision = entry.revision if entry is not None else 0
        return None if entry is None else Position(**orjson.loads(entry.value))

    async def keep(self, position: Position) -> None:
        value = orjson.dumps(asdict(position))
        try:
            self._revision = await self._store.put(self._key, value, revision=self._revision)
        except Conflict as error:
            raise Disconnected("another worker has watched further: it has taken over") from error


def newer(version: str, than: str) -> bool:
    """Whether a resourceVersion is later; of those that are no numbers, whether it differs."""
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than
