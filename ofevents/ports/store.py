"""The Store: small keyed state kept by the bus (joins, leases, positions)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """A value in the store, and the revision that a compare-and-set names."""

    value: bytes
    revision: int


class Store(Protocol):
    """Small keyed state kept by the bus: joins, leases, positions, away.

    Keys are any text; segments are joined with "/", so that a prefix lists.
    """

    async def get(self, key: str) -> Entry | None: ...

    async def put(
        self, key: str, value: bytes, *, revision: int | None = None, ttl: float | None = None
    ) -> int:
        """Write and return the new revision.

        `revision` None overwrites; 0 only creates; another only replaces that one.
        After `ttl` seconds without a write the entry is gone.

        Raises:
            Conflict: the entry is not at that revision.
        """
        ...

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Remove it; no error when it is not there.

        Raises:
            Conflict: as `put`.
        """
        ...

    def list(self, prefix: str) -> AsyncIterator[tuple[str, Entry]]:
        """Entries whose key begins with `prefix`, which ends with "/"."""
        ...
