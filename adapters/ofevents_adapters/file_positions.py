"""How far each file has been read: in the store of the bus, or in this process alone.

Called by `file`. The store has one entry per file, written after emit has returned for
what was read, by compare-and-set: whoever was paused, and lost the lease meanwhile,
cannot put back what another worker has written. Without a bus positions last over a
reconnect, not over a restart.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, Protocol

import orjson

from ofevents.errors import Conflict, Disconnected
from ofevents.ports import Store

_BEGUN: Final = "begun"


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file it is, whatever its name: device and inode."""

    device: int
    inode: int

    def __str__(self) -> str:
        return f"{self.device:x}-{self.inode:x}"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file has been read.

    Attributes:
        path: where it was seen last.
        since: milliseconds of when it was first seen, or seen to begin anew (emptied,
            or its inode used again): part of its events' ids.
        offset: bytes that are settled; in mode `files` its size.
        head: how many of its first bytes `digest` is of: a file that does not begin
            with them any more is another one.
        skipping: the rest of a line that is too long comes at `offset`.
        stamp: mode `files`: the time of its last change, in nanoseconds.
    """

    path: str
    since: int
    offset: int = 0
    head: int = 0
    digest: str = ""
    skipping: bool = False
    stamp: int = 0


class Positions(Protocol):
    """Positions by file."""

    known: dict[Identity, Position]

    async def load(self) -> bool:
        """Read what is kept; whether anybody has ever begun."""
        ...

    async def begin(self) -> None:
        """Remember that the first look is done."""
        ...

    async def keep(self, file: Identity, position: Position) -> None: ...

    async def forget(self, file: Identity) -> None: ...


class Remembered:
    """In this process."""

    def __init__(self) -> None:
        self.known: dict[Identity, Position] = {}
        self._begun = False

    async def load(self) -> bool:
        return self._begun

    async def begin(self) -> None:
        self._begun = True

    async def keep(self, file: Identity, position: Position) -> None:
        self.known[file] = position

    async def forget(self, file: Identity) -> None:
        self.known.pop(file, None)


class Kept:
    """In the store, under `key`/."""

    def __init__(self, store: Store, key: str) -> None:
        self.known: dict[Identity, Position] = {}
        self._store = store
        self._key = key
        self._revisions: dict[Identity, int] = {}

    async def load(self) -> bool:
        self.known.clear()
        self._revisions.clear()
        begun = False
        async for key, entry in self._store.list(f"{self._key}/"):
            name = key.removeprefix(f"{self._key}/")
            if name == _BEGUN:
                begun = True
                continue
            device, _, inode = name.partition("-")
            file = Identity(int(device, 16), int(inode, 16))
            self.known[file] = Position(**orjson.loads(entry.value))
            self._revisions[file] = entry.revision
        return begun

    async def begin(self) -> None:
        await self._store.put(f"{self._key}/{_BEGUN}", b"{}")

    async def keep(self, file: Identity, position: Position) -> None:
        value = orjson.dumps(asdict(position))
        revision = self._revisions.get(file, 0)
        try:
            revision = await self._store.put(f"{self._key}/{file}", value, revision=revision)
        except Conflict as error:
            raise _taken_over(position.path) from error
        self.known[file], self._revisions[file] = position, revision

    async def forget(self, file: Identity) -> None:
        position, revision = self.known.pop(file, None), self._revisions.pop(file, 0)
        if position is None:
            return
        try:
            await self._store.delete(f"{self._key}/{file}", revision=revision)
        except Conflict as error:
            raise _taken_over(position.path) from error


def _taken_over(path: str) -> Disconnected:
    return Disconnected(f"another worker has read {path} further: it has taken over")
