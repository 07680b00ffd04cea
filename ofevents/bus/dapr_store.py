"""The store on a Dapr state component: compare-and-set by etags, rules of our own on top.

Dapr's components differ in what an etag is (Redis begins at 1 again for a key that was
deleted, and takes any etag for a key that is gone), so an entry carries what our rules
need, and a deleted or expired one stays for an hour as a marker:

    {"r": <revision>, "e": <expires, Unix seconds or null>, "d": <deleted>, "v": <base64>}

Revisions rise over a deletion: they are microseconds, or one more than the last. An
entry's time to live ends by the clock of who reads it, so the workers' clocks must
agree within a second or so; the component's own TTL, where it has one, removes what
is left. Dapr cannot list, so the keys are kept in an index (`dapr_index`).
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import orjson

from ofevents.bus.dapr_documents import Documents, Mismatch, wire_key
from ofevents.bus.dapr_index import Index
from ofevents.errors import ConfigError, Conflict, OfeventsError
from ofevents.ports import Entry

KEPT: Final = 3600
"""Seconds that a marker stays after an entry's end."""
PAGE: Final = 200
"""Entries that `list` reads at once."""


class StateStore:
    """See the module, and `ofevents.ports.Store`."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._clock = documents.clock
        self._index = Index(documents, dead=lambda data: not self._alive(orjson.loads(data)))

    async def get(self, key: str) -> Entry | None:
        """See the port."""
        found, _ = await self._read(key)
        return _entry(found) if self._alive(found) else None

    async def put(
        self, key: str, value: bytes, *, revision: int | None = None, ttl: float | None = None
    ) -> int:
        """See the port."""
        expires = None if ttl is None else self._clock.now() + ttl
        fields = {"e": expires, "v": base64.b64encode(value).decode()}
        kept = None if ttl is None else int(ttl) + 1 + KEPT
        return await self._change(key, fields, revision, kept)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """See the port."""
        await self._change(key, {"d": True}, revision, KEPT, create=False)

    async def list(self, prefix: str) -> AsyncIterator[tuple[str, Entry]]:
        """See the port. Read in pages: an entry written meanwhile may come late."""
        names = {wire_key(key): key for key in await self._index.keys(prefix)}
        wires = sorted(names)
        for at in range(0, len(wires), PAGE):
            found = await self._documents.read_all(wires[at : at + PAGE])
            for wire, document in sorted(found.items()):
                fields = orjson.loads(document.data)
                if self._alive(fields):
                    yield names[wire], _entry(fields)

    async def keys(self, prefix: str) -> Sequence[str]:
        """As `list`, without reading the entries: some may be gone already."""
        return await self._index.keys(prefix)

    async def _read(self, key: str) -> tuple[dict[str, Any] | None, str]:
        found = await self._documents.read(wire_key(key))
        return (None, "") if found is None else (orjson.loads(found.data), found.etag)

    def _alive(self, fields: dict[str, Any] | None) -> bool:
        if fields is None or fields.get("d"):
            return False
        expires = fields.get("e")
        return expires is None or expires > self._clock.now()

    async def _change(
        self,
        key: str,
        fields: dict[str, Any],
        revision: int | None,
        kept: int | None,
        *,
        create: bool = True,
    ) -> int:
        while True:
            found, etag = await self._read(key)
            alive = self._alive(found)
            last = found["r"] if found is not None else 0
            if revision is not None and revision != (last if alive else 0):
                raise Conflict(f"the store's {key!r} is not at revision {revision}")
            if not alive and not create:
                return 0
            if not alive:
                await self._index.add(key)
            written = max(last + 1, int(self._clock.now() * 1e6))
            data = orjson.dumps({"r": written, **fields})
            try:
                await self._documents.write(wire_key(key), data, etag, kept)
            except Mismatch:
                if revision is not None:
                    raise Conflict(f"the store's {key!r} has changed") from None
                continue  # somebody was faster: what counts is who is last
            return written


class NoStore:
    """Without a state component: says so."""

    async def get(self, key: str) -> Entry | None:
        raise _none()

    async def put(
        self, key: str, value: bytes, *, revision: int | None = None, ttl: float | None = None
    ) -> int:
        raise _none()

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        raise _none()

    async def list(self, prefix: str) -> AsyncIterator[tuple[str, Entry]]:
        raise _none()
        yield  # pragma: no cover


def _none() -> OfeventsError:
    return ConfigError("this dapr bus has no store: give it a state component", path="dapr.state")


def _entry(fields: dict[str, Any] | None) -> Entry:
    assert fields is not None
    return Entry(base64.b64decode(fields.get("v", "")), fields["r"])
