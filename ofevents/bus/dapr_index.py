"""Which keys the store has, as Dapr cannot list: an index that never loses one.

A key's folder (all before its last "/") has 64 shards; each is one document, the names
in it with when they were last said to be written, changed by compare-and-set. Beside
them one document lists the folders.

The order of writes makes it safe under concurrency. Who creates an entry first writes
its name with the time, then the entry, at once (its calls have deadlines). A name is struck
out only when its entry is gone and its time is older than `SURE` seconds, by a write
that fails if the shard has changed meanwhile: so a name that somebody is about to need
again stays. Deleting an entry touches no index; names of entries that are gone are
struck out when the index is read, or when a shard has grown.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable
from typing import Any, Final

import orjson

from ofevents.bus.dapr_documents import Documents, Mismatch, wire_key
from ofevents.bus.topics import escape

SHARDS: Final = 64
SURE: Final = 120.0
"""Seconds after which a name whose entry is gone can be struck out."""
FRESH: Final = 30.0
"""A name written within so many seconds need not be written again."""
GROWN: Final = 200
"""Names of a shard at which those that are gone are looked for."""
_FOLDERS: Final = "i/folders"


class Index:
    """See the module. `dead` says of an entry's document whether it counts as gone."""

    def __init__(self, documents: Documents, dead: Callable[[bytes], bool]) -> None:
        self._documents = documents
        self._dead = dead
        self._clock = documents.clock
        self._folders: dict[str, asyncio.Task[dict[str, float]]] = {}
        self._shards: dict[str, _Shard] = {}

    async def add(self, key: str) -> None:
        """Return when the key is in the index, and will be for `SURE` seconds at least."""
        folder, _, name = key.rpartition("/")
        if "/" not in key:
            folder = _ROOT
        await self._made(folder)
        wire = _shard(folder, zlib.crc32(name.encode()) % SHARDS)
        shard = self._shards.setdefault(wire, _Shard())
        shard.wanted.add(name)
        async with shard.lock:
            # Those who came while another one wrote are written together.
            if name in shard.wanted:
                wanted, shard.wanted = shard.wanted, set()
                try:
                    names = await self._change(wire, lambda names: self._say(names, wanted))
                except BaseException:
                    shard.wanted |= wanted
                    raise
                if len(names) >= max(GROWN, 2 * shard.alive):
                    shard.alive = len(await self._strike(folder, wire))

    async def _made(self, folder: str) -> None:
        """Write it down once, however many need it at the same time."""
        task = self._folders.get(folder)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            change = self._change(_FOLDERS, lambda names: names.setdefault(folder, 0.0))
            task = self._folders[folder] = asyncio.create_task(change)
        if not task.done():
            # Its other waiters stay when one of them is cancelled.
            await asyncio.shield(task)

    def _say(self, names: dict[str, float], wanted: set[str]) -> None:
        now = self._clock.now()
        for name in wanted:
            if names.get(name, 0.0) < now - FRESH:
                names[name] = now

    async def keys(self, prefix: str) -> list[str]:
        """All keys that begin with the prefix; some of them may be gone already."""
        if prefix and not prefix.endswith("/"):
            raise ValueError(f"a prefix of the store ends with '/': {prefix!r}")
        found: list[str] = []
        for folder in await self._names(_FOLDERS):
            if prefix and (folder == _ROOT or not (folder + "/").startswith(prefix)):
                continue
            wires = [_shard(folder, number) for number in range(SHARDS)]
            documents = await self._documents.read_all(wires)
            for wire, document in documents.items():
                names: dict[str, float] = orjson.loads(document.data)
                if any(said < self._clock.now() - SURE for said in names.values()):
                    names = await self._strike(folder, wire)
                found += [_join(folder, name) for name in names]
        return found

    async def _names(self, wire: str) -> dict[str, float]:
        found = await self._documents.read(wire)
        return {} if found is None else orjson.loads(found.data)

    async def _strike(self, folder: str, wire: str) -> dict[str, float]:
        """Strike out the names whose entries are gone; what is left."""
        found = await self._documents.read(wire)
        if found is None:
            return {}
        names: dict[str, float] = orjson.loads(found.data)
        sure = self._clock.now() - SURE
        old = {wire_key(_join(folder, n)): n for n, said in names.items() if said < sure}
        entries = await self._documents.read_all(list(old)) if old else {}
        gone = [n for w, n in old.items() if w not in entries or self._dead(entries[w].data)]
        if gone:
            for name in gone:
                del names[name]
            try:
                await self._documents.write(wire, orjson.dumps(names), found.etag)
            except Mismatch:
                pass  # somebody wrote a name meanwhile: the next time
        return names

    async def _change(
        self, wire: str, change: Callable[[dict[str, float]], Any]
    ) -> dict[str, float]:
        """Compare-and-set until it is written; the names."""
        while True:
            found = await self._documents.read(wire)
            names: dict[str, float] = {} if found is None else orjson.loads(found.data)
            before = dict(names)
            change(names)
            if names == before:
                return names
            try:
                await self._documents.write(
                    wire, orjson.dumps(names), "" if found is None else found.etag
                )
            except Mismatch:
                await asyncio.sleep(random.uniform(0, 0.02))
                continue
            return names


class _Shard:
    """One shard's writers in this process."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.wanted: set[str] = set()
        self.alive = 0


_ROOT: Final = "\0"
"""The folder of keys without a "/"; "" is that of "/x"."""


def _join(folder: str, name: str) -> str:
    return name if folder == _ROOT else f"{folder}/{name}"


def _shard(folder: str, number: int) -> str:
    return f"i/{escape(folder)}/{number}"
