"""What goes with a deleted Trigger, and what stays."""

from __future__ import annotations

from ofevents.api.resolved import ResolvedTrigger
from ofevents.bus import topics
from ofevents.ports import Bus
from ofevents.trigger import remove
from tests.unit.trigger.rig import (
    DEAD,
    A,
    Functions,
    event,
    inputs,
    running,
    subscriber,
    trigger,
)


def spec(**more: object) -> ResolvedTrigger:
    return trigger(
        subscriber("one", condition="a && event.data.missing"),
        subscriber("two", condition="a && b", delivery={"ordered": True}),
        subscriber("three", condition="a", delivery={"deliver_after": 3600.0}),
        inputs=inputs(a=None, b=None),
        **more,
    )


async def left(bus: Bus) -> tuple[set[str], int, int]:
    """Groups of the Trigger, messages in its inboxes and dead letters, entries in the store."""
    report = await bus.inspect()
    groups = {one.group for one in report.consumers}
    kept = sum(t.messages for t in report.topics if topics.split(t.topic)[0] in ("inbox", "dead"))
    return groups, kept, len([key async for key, _ in bus.store.list("")])


async def test_a_deleted_trigger_leaves_nothing(functions: Functions) -> None:
    async with running(spec()) as worker:
        await worker.publish(A, event("1"))
        await worker.idle_inputs()
        groups, kept, entries = await left(worker.bus)
        assert (len(groups), kept) == (4, 2)
        assert entries >= 2
        await worker.end()
        await remove(spec(), worker.bus)
        assert await left(worker.bus) == (set(), 0, 0)
        # The events are the EventSource's, not the Trigger's.
        assert len(await worker.messages(A)) == 1
        await remove(spec(), worker.bus)


async def test_retain_keeps_position_inboxes_and_dead_letters(functions: Functions) -> None:
    kept = spec(deletion_policy="Retain")
    async with running(kept) as worker:
        await worker.publish(A, event("1"))
        await worker.idle_inputs()
        await worker.end()
        before = await left(worker.bus)
        await remove(kept, worker.bus)
        assert await left(worker.bus) == before
        assert len(await worker.messages(DEAD)) == 1
