"""What a bus's store owes, and leases on it; part of the suite in `check_bus`."""

from __future__ import annotations

import asyncio
import time

from ofevents.clock import SystemClock
from ofevents.conformance.bus_rig import PATIENCE, BusRig, Check, raises, within
from ofevents.conformance.verdict import require
from ofevents.errors import Conflict
from ofevents.ports import Entry, Store
from ofevents.ports.lease import Lease

KEYS = (
    "plain",
    "a b/c.d",
    "grün/\u20ac/*/>",
    "x//y",
    "join/shop/billing/k=1",
    "-_=%",
    "UPPER/lower",
)


async def compares_and_sets(rig: BusRig) -> None:
    """0 only creates, a revision only replaces that one, None overwrites; others conflict."""
    async with rig.make() as bus, rig.make() as other:
        store: Store = bus.store
        require(await store.get("k") is None, "an entry that was never written is None")
        first = await store.put("k", b"1", revision=0)
        await raises(Conflict, store.put("k", b"2", revision=0), "0 only creates")
        second = await other.store.put("k", b"2", revision=first)
        require(second > first, "revisions rise")
        await raises(Conflict, store.put("k", b"3", revision=first), "an old revision conflicts")
        require(await store.get("k") == Entry(b"2", second), "the entry is what was written last")
        third = await store.put("k", b"")
        require(await store.get("k") == Entry(b"", third), "an empty value is a value")
        await raises(Conflict, store.delete("k", revision=second), "delete compares too")
        await store.delete("k", revision=third)
        require(await store.get("k") is None, "a deleted entry is None")
        await store.delete("k")
        await raises(Conflict, store.put("k", b"4", revision=third), "a deleted one conflicts")
        fourth = await store.put("k", b"4", revision=0)
        require(fourth > third, "revisions rise over a deletion: they fence")


async def one_of_many_wins(rig: BusRig) -> None:
    """Promise 9: of writers that saw the same revision exactly one succeeds."""
    async with rig.make() as bus, rig.make() as other:
        revision = await bus.store.put("race", b"0", revision=0)
        won: list[int] = []

        async def write(store: Store, n: int) -> None:
            try:
                await store.put("race", str(n).encode(), revision=revision)
                won.append(n)
            except Conflict:
                pass

        async with asyncio.TaskGroup() as tasks:
            for n in range(40):
                tasks.create_task(write((bus, other)[n % 2].store, n))
        require(len(won) == 1, f"{len(won)} writers of one revision succeeded")
        entry = await bus.store.get("race")
        require(entry is not None and entry.value == str(won[0]).encode(), "the winner's is kept")


async def forgets_after_the_time_to_live(rig: BusRig) -> None:
    """`ttl` counts from the last write; a write without one keeps the entry.

    The time to live of what is to stay is longer than a busy machine stands still.
    """
    async with rig.make() as bus:
        store = bus.store
        await store.put("short", b"1", ttl=1)
        kept = await store.put("kept", b"1", ttl=6)
        renewed = await store.put("renewed", b"1", ttl=6)
        began = time.monotonic()
        await store.put("kept", b"2", revision=kept)
        while time.monotonic() - began < 7.0:
            renewed = await store.put("renewed", b"2", revision=renewed, ttl=6)
            await asyncio.sleep(0.2)
        require(await store.get("short") is None, "an entry outlived its ttl")
        require(await store.get("kept") is not None, "a write without ttl keeps the entry")
        require(await store.get("renewed") is not None, "a write begins the ttl anew")
        left = [key async for key, _ in store.list("")]
        require(sorted(left) == ["kept", "renewed"], f"list shows what is left: {left}")
        await store.put("short", b"2", revision=0)


async def lists_by_prefix(rig: BusRig) -> None:
    """Keys are any text; a prefix ends with "/" and lists what is below it."""
    async with rig.make() as bus:
        store = bus.store
        for key in KEYS:
            await store.put(key, key.encode())
        for key in KEYS:
            entry = await store.get(key)
            require(entry is not None and entry.value == key.encode(), f"key {key!r} is kept")
        found = {key: entry.value.decode() async for key, entry in store.list("")}
        require(found == {key: key for key in KEYS}, f"list gives every key back: {found}")
        async with asyncio.TaskGroup() as tasks:
            for n in range(1000):
                tasks.create_task(store.put(f"many/{n % 3}/{n}", b"x"))
        below = [key async for key, _ in store.list("many/1/")]
        require(len(below) == len(set(below)) == 333, f"333 are below many/1/, not {len(below)}")
        require([key async for key, _ in store.list("man/")] == [], "a prefix is whole segments")


async def keeps_the_store_over_a_restart(rig: BusRig) -> None:
    """Promise 4: state in the store survives a crash of the bus."""
    async with rig.make() as bus:
        revision = await bus.store.put("join/1", b"half")
        await rig.break_()
        await rig.restart()
        await within(lambda: bus.connection == "", "it connects again")
        require(await bus.store.get("join/1") == Entry(b"half", revision), "an entry is lost")
        await bus.store.put("join/1", b"whole", revision=revision)


async def fences_leases(rig: BusRig) -> None:
    """Promise 9: one owner at a time, a larger token for each, handed over when given up
    and when its owner is gone."""
    async with rig.make() as bus, rig.make() as other:

        def lease(store: Store, owner: str, ttl: float) -> Lease:
            return Lease(store, "lane/0", owner, ttl=ttl, clock=SystemClock())

        # Renewed each third of its time to live: it outlives a pause of the other two.
        first, second = lease(bus.store, "one", 7), lease(other.store, "two", 2)
        async with first:
            require(first.held and first.token > 0, "an entered lease is held")
            require(not await second.acquire(), "two owners at once")
            await asyncio.sleep(8.0)
            require(first.held and not first.lost.is_set(), "a renewed lease outlives its ttl")
            require(not await second.acquire(), "two owners at once, after the ttl")
        require(not first.held, "a lease that was given up is not held")
        began = time.monotonic()
        require(await second.acquire(), "a lease that was given up can be had at once")
        require(second.token > first.token, "the token rises with each owner")
        # The second owner dies: nobody renews.
        third = lease(bus.store, "three", 2)
        async with asyncio.timeout(2 * PATIENCE), third:
            require(not second.held, "the old owner still believes to hold it")
            require(time.monotonic() - began > 1.9, "it was had before its time was over")
            require(third.token > second.token, "the token rises with each owner")
            require(not await second.renew() and second.lost.is_set(), "the old owner is told")
            await other.store.put("lane/0", b"stolen")
            await within(third.lost.is_set, "an owner learns that it lost the lease")


STORE = (
    Check(compares_and_sets, lambda rig: rig.features.store),
    Check(one_of_many_wins, lambda rig: rig.features.store),
    Check(forgets_after_the_time_to_live, lambda rig: rig.features.store),
    Check(lists_by_prefix, lambda rig: rig.features.store),
    Check(
        keeps_the_store_over_a_restart,
        lambda rig: rig.features.store and rig.features.durable and rig.breakable,
    ),
    Check(fences_leases, lambda rig: rig.features.store),
)
