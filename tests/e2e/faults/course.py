"""One run of the chain under faults, from the first record to the verdict.

    feed = Feed(made.kafka.brokers, ...)
    print(await course(made, feed, kill_at_random(made, ...)))

`course` raises where a promise is broken, and returns the line that says what was seen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Final

from tests.e2e.faults.feed import Feed
from tests.e2e.faults.killing import Fault
from tests.e2e.faults.ledger import ledger
from tests.e2e.faults.rig import Rig
from tests.servers import until

AFTER: Final = 150.0
"""Seconds without any event getting through, after which one is lost or stranded: what a
dead worker had in hand comes after the ack wait of 30 s."""


async def course(rig: Rig, feed: Feed, breaking: Awaitable[list[Fault]]) -> str:
    """Feed the chain while it is broken, wait until it is idle, and judge.

    Raises:
        TimeoutError, ServerFailed: something did not come, or not back.
        AssertionError: an event was lost, came too often, or became a dead letter.
    """
    began = time.monotonic()

    async def broken() -> list[Fault]:
        return await breaking

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(rig.watch())
        faults = tasks.create_task(broken())
        await feed.run(faults.done)
        fed = time.monotonic()
        await faults
        await _written(rig, feed)
        await _arrived(rig, feed)
        await rig.settled(AFTER)
        watching.cancel()
    settled = time.monotonic() - fed
    calls, repeats = rig.function.calls(), rig.bus.repeats
    found = ledger(calls, faults.result(), rig.bounds, repeats, pace=feed.pace)
    redelivered = await rig.bus.redelivered()
    published = await rig.bus.published() - feed.count
    found.judge(feed.wanted, feed.others, published)
    assert redelivered > 0 or found.duplicates, "nothing came twice: no fault has hit anything"
    assert not repeats.counted or redelivered <= found.most_redelivered, (
        f"{redelivered} redelivered, at most {found.most_redelivered} by {dict(found.faults)}"
    )
    inboxed = await rig.bus.inboxed()
    assert inboxed or "kill function" not in found.faults, "no call that failed was kept"
    dead = (await rig.left()).dead
    assert not dead, f"{dead} dead letters"
    done = ", ".join(f"{name} {times}x" for name, times in sorted(found.faults.items()))
    counted = f"{redelivered} redelivered (at most {found.most_redelivered}), "
    return (
        f"{rig.bus.name}: {len(feed.wanted)} of {feed.count} events through in "
        f"{time.monotonic() - began:.0f} s, the last {settled:.0f} s after the last record; "
        f"{done}; {inboxed} through the inbox; {counted if repeats.counted else ''}"
        f"{published} published twice (at most {found.most_published}), {found.duplicates} "
        f"duplicates (at most {found.most + published})"
    )


async def _written(rig: Rig, feed: Feed) -> None:
    """See that Kafka holds each record once; it may be slow to answer."""
    written = 0

    async def told() -> bool:
        nonlocal written
        written = await rig.lag.written()
        return written > 0

    await until(told, seconds=AFTER, what="Kafka says how many records it holds")
    assert written == feed.count, f"of {feed.count} records Kafka holds {written}"


async def _arrived(rig: Rig, feed: Feed) -> None:
    """Wait until every matching event has, as long as there is always one that does."""
    missing = feed.wanted - rig.function.accepted().keys()
    while missing:
        before = len(missing)

        async def fewer(before: int = before) -> bool:
            nonlocal missing
            await asyncio.sleep(0.2)
            missing = feed.wanted - rig.function.accepted().keys()
            return len(missing) < before

        try:
            await until(fewer, seconds=AFTER, what=f"one more of {before} events has arrived")
        except TimeoutError as error:
            error.add_note(f"{sorted(missing)[:5]} are missing; {(await rig.left()).told}")
            raise
