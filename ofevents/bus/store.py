"""The store on JetStream: keys are subjects of a bucket, revisions its sequences.

Reached as `bus.store`. Compare-and-set is JetStream's expected last sequence of
the subject, a time to live its `Nats-TTL` header (2.11), which nats-py's own
`KeyValue.put` cannot send on an update. The layout is that of a NATS KV
bucket, so NATS' own tools can read it; each segment of a key is escaped as the
parts of a topic are, so keys may hold any text.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Final

from ofevents.bus import direct
from ofevents.bus.layout import Layout
from ofevents.bus.link import Link
from ofevents.bus.publish import Publisher
from ofevents.bus.topics import escape, unescape
from ofevents.errors import Conflict, TooLarge
from ofevents.ports import Entry

_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_TTL: Final = "Nats-TTL"
_OPERATION: Final = "KV-Operation"
_MARKER_TTL: Final = "1s"


class BucketStore:
    """See `ofevents.ports.Store`."""

    def __init__(self, link: Link, layout: Layout, publisher: Publisher) -> None:
        self._link = link
        self._publisher = publisher
        self._stream = f"KV_{layout.bucket}"
        self._prefix = f"$KV.{layout.bucket}."

    def _subject(self, key: str) -> str:
        return self._prefix + ".".join(map(escape, key.split("/")))

    def _key(self, subject: str) -> str:
        return "/".join(map(unescape, subject[len(self._prefix) :].split(".")))

    async def get(self, key: str) -> Entry | None:
        """See the port."""
        found = await self._last(key)
        return None if found is None or _deleted(found) else Entry(found.data, found.sequence)

    async def _last(self, key: str) -> direct.Stored | None:
        return await direct.last(self._link, self._stream, self._subject(key))

    async def put(
        self, key: str, value: bytes, *, revision: int | None = None, ttl: float | None = None
    ) -> int:
        """See the port. JetStream counts a time to live in seconds: it is rounded up."""
        if len(value) > self._publisher.max_body:
            raise TooLarge(f"an entry of {len(value)} bytes; the store takes fewer")
        headers: dict[str, str] = {}
        if ttl is not None:
            headers[_TTL] = f"{max(1, math.ceil(ttl))}s"
        if revision is not None:
            headers[_EXPECTED] = str(revision)
        try:
            return await self._publisher.put(self._subject(key), headers, value)
        except Conflict:
            # A deleted key leaves a marker for a second, which has a revision too.
            marker = await self._last(key) if revision == 0 else None
            if marker is None or not _deleted(marker):
                raise
            headers[_EXPECTED] = str(marker.sequence)
            return await self._publisher.put(self._subject(key), headers, value)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """See the port. A marker that removes itself takes the entry's place."""
        headers = {_OPERATION: "DEL", _TTL: _MARKER_TTL}
        if revision == 0:
            if await self.get(key) is not None:
                raise Conflict(f"the store's {key!r} exists")
            return
        if revision is not None:
            headers[_EXPECTED] = str(revision)
        elif await self.get(key) is None:
            return
        await self._publisher.put(self._subject(key), headers, b"")

    async def list(self, prefix: str) -> AsyncIterator[tuple[str, Entry]]:
        """See the port. Read in pages: an entry written meanwhile may come twice or late."""
        if prefix and not prefix.endswith("/"):
            raise ValueError(f"a prefix of the store ends with '/': {prefix!r}")
        subject = self._prefix + "".join(escape(part) + "." for part in prefix.split("/")[:-1])
        at, more = 1, True
        while more:
            found, more = await direct.following(
                self._link, self._stream, subject + ">", sequence=at
            )
            for stored in found:
                at = stored.sequence + 1
                if not _deleted(stored):
                    yield self._key(stored.subject), Entry(stored.data, stored.sequence)


def _deleted(stored: direct.Stored) -> bool:
    return "kv-operation" in stored.headers or "nats-marker-reason" in stored.headers
