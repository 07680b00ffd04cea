"""What a bus owes when its room ends, and until then; part of the suite in `check_bus`."""

from __future__ import annotations

import asyncio
import time

from ofevents.conformance.bus_rig import (
    DEAD,
    GROUP,
    INBOX,
    PATIENCE,
    TOPIC,
    USER,
    BusRig,
    Check,
    Taken,
    consuming,
    drained,
    ensured,
    event,
    id_of,
    ids,
    messages,
    owed,
    retry,
    within,
)
from ofevents.conformance.verdict import NotConformant, require
from ofevents.errors import BusFull
from ofevents.ports import DONE, Bus, Consumer


async def refuses_when_full_and_purges_settled(rig: BusRig) -> None:
    """Promise 2: full of unsettled events it refuses; of settled ones it makes room."""
    consumers = (Consumer(GROUP, (TOPIC,)),)
    async with ensured(rig, *consumers, max_bytes=300_000) as bus:
        stored: list[str] = []
        pad = b'"' + b"x" * 5000 + b'"'

        async def fill(prefix: str, most: int) -> bool:
            for id in ids(most, prefix):
                try:
                    await bus.publish(TOPIC, *messages(id, data=pad))
                except BusFull as error:
                    require(len(str(error)) > 20, "BusFull says what is full")
                    return True
                stored.append(id)
            return False

        require(await fill("a", 200), "a bus full of unsettled events refuses")
        first = len(stored)
        require(first > 20, f"it was full after {first} events of 5 KB at 300 KB")
        half: list[str] = []
        taken = Taken(*[DONE] * (first // 2), *[retry(600.0)] * first)
        async with consuming(bus, taken, in_flight=1):
            await within(lambda: len(taken.seen) >= first, "everything is handed out")
        half = taken.ids[: first // 2]
        require(await fill("b", 200), "it refuses again when only unsettled events are left")
        require(len(stored) > first, "room is made from what every consumer has settled")
        later = set(await drained(bus, wanted=stored[first:]))
        missing = [id for id in stored[first:] if id not in later]
        require(not missing, f"events that were not settled are gone: {missing[:3]}")
        require(not set(half) & later, "settled events came again")


async def takes_what_settles_events_when_full(rig: BusRig) -> None:
    """Promise 2: full of unsettled events, it takes what the Triggers write to settle them.

    As many messages as are written to the topic never have room there together: what
    nobody consumes makes room for what comes.
    """
    pad = b'"' + b"x" * 5000 + b'"'
    async with ensured(rig, max_bytes=300_000) as bus:
        await bus.ensure([USER, INBOX, DEAD], [Consumer(INBOX, (INBOX,))])
        try:
            await bus.publish(TOPIC, *messages(*ids(200), data=pad))
        except BusFull:
            pass
        else:
            raise NotConformant("a bus full of unsettled events refuses")
        try:
            for id in ids(600):
                await bus.publish(USER, *messages(id, data=pad))
            await bus.publish(INBOX, owed(event("owed")))
            await bus.publish(DEAD, owed(event("dead")))
        except BusFull as error:
            raise NotConformant(
                "a bus full of events refused what a Trigger writes to settle them, so it can "
                f"never have room again: {error}"
            ) from error
        kept = [id_of(one) async for one in bus.browse([USER])]
        require(kept[-1:] == ids(600)[-1:], f"the newest of a topic is kept: {kept[-3:]}")
        require(len(kept) < 600, "a topic that nobody consumes is kept without a bound")
        report = {one.group: one.pending for one in (await bus.inspect()).consumers}
        require(report[GROUP] > 20, f"unsettled events were removed for a topic: {report}")


async def keeps_settled_events_for_replay(rig: BusRig) -> None:
    """Promise 2: settled events stay until space is needed; an inbox's leave it."""
    async with ensured(rig, Consumer(GROUP, (TOPIC,)), Consumer(INBOX, (INBOX,))) as bus:
        await bus.publish(TOPIC, *messages(*ids(5)))
        await bus.publish(INBOX, owed(event("owed")))
        await drained(bus, wanted=ids(5))
        await drained(bus, INBOX, INBOX, wanted=["owed"])
        report, deadline = await _held(bus), time.monotonic() + PATIENCE
        while report.get(INBOX, 0):  # a server may be at an acknowledgement after its answer
            require(time.monotonic() < deadline, f"settled deliveries leave the inbox: {report}")
            await asyncio.sleep(0.05)
            report = await _held(bus)
        require(report.get(TOPIC) == 5, f"settled events are kept: {report}")


async def _held(bus: Bus) -> dict[str, int]:
    """Messages by topic."""
    return {one.topic: one.messages for one in (await bus.inspect()).topics}


ROOM = (
    Check(refuses_when_full_and_purges_settled, lambda rig: rig.features.bounded),
    Check(takes_what_settles_events_when_full, lambda rig: rig.features.bounded),
    Check(keeps_settled_events_for_replay, lambda rig: rig.features.counts),
)
