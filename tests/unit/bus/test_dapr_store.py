"""The store's index: no key that exists is ever missing from a listing.

Judged on documents in memory that can be stopped between two steps; the store itself
passes the suite on real state components.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from ofevents.bus.dapr_documents import Document, Mismatch, wire_key
from ofevents.bus.dapr_index import GROWN, SURE
from ofevents.bus.dapr_store import StateStore
from ofevents.clock import ManualClock
from ofevents.errors import Conflict


class Documents:
    """As `dapr_documents.Documents`; each call lets others run."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.held: dict[str, Document] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.writes = 0
        self._etags = itertools.count(1)

    async def read(self, key: str) -> Document | None:
        await asyncio.sleep(0)
        return self.held.get(key)

    async def read_all(self, keys: Sequence[str]) -> dict[str, Document]:
        await asyncio.sleep(0)
        return {key: self.held[key] for key in keys if key in self.held}

    async def write(self, key: str, data: bytes, etag: str, ttl: int | None = None) -> None:
        await asyncio.sleep(0)
        if (gate := self.gates.get(key)) is not None:
            await gate.wait()
        current = self.held.get(key)
        if (current.etag if current else "") != etag:
            raise Mismatch
        self.writes += 1
        self.held[key] = Document(data, str(next(self._etags)))


async def names(store: StateStore, prefix: str) -> list[str]:
    return sorted([key async for key, _ in store.list(prefix)])


def store() -> tuple[StateStore, Any]:
    documents = Documents()
    return StateStore(documents), documents  # type: ignore[arg-type]


async def test_a_key_that_is_created_while_it_is_struck_out_stays() -> None:
    made, documents = store()
    await made.put("join/a", b"1")
    await made.delete("join/a")
    await documents.clock.advance(SURE + 1)
    # Created again, stopped after its name and before its entry is written; a listing
    # finds no entry meanwhile.
    gate = documents.gates[wire_key("join/a")] = asyncio.Event()
    creating = asyncio.create_task(made.put("join/a", b"2"))
    for _ in range(50):
        await asyncio.sleep(0)
    assert await names(made, "join/") == []
    gate.set()
    await creating
    assert await names(made, "join/") == ["join/a"]


async def test_names_whose_entries_are_gone_are_struck_out() -> None:
    made, documents = store()
    for n in range(5):
        await made.put(f"join/{n}", b"1", ttl=10)
    await made.put("join/kept", b"1")
    await documents.clock.advance(SURE + 1)
    assert await names(made, "join/") == ["join/kept"]
    assert await made.keys("join/") == ["join/kept"]


async def test_a_shard_that_is_never_listed_does_not_grow() -> None:
    made, documents = store()
    largest = 0
    for round in range(3):
        for n in range(3000):
            await made.put(f"join/{round}-{n}", b"1", ttl=1)
        largest = max(len(one.data) for key, one in documents.held.items() if key.startswith("i/"))
        await documents.clock.advance(SURE + 1)
    assert largest < 2 * GROWN * 40


async def test_creating_at_the_same_time_costs_few_writes_of_the_index() -> None:
    made, documents = store()
    await asyncio.gather(*(made.put(f"many/{n}", b"x") for n in range(1000)))
    assert len(await names(made, "many/")) == 1000
    assert documents.writes < 1000 + 200


async def test_revisions_rise_over_a_deletion_and_a_clock_that_went_back() -> None:
    made, documents = store()
    first = await made.put("k", b"1", revision=0)
    await made.delete("k", revision=first)
    documents.clock._now -= 3600
    second = await made.put("k", b"2", revision=0)
    assert second > first
    with pytest.raises(Conflict):
        await made.put("k", b"3", revision=first)
