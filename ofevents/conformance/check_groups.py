"""What a bus owes to groups: positions, counts, removal, and reading without one.

Part of the suite in `check_bus`.
"""

from __future__ import annotations

import asyncio
import time

from ofevents.conformance.bus_rig import (
    GROUP,
    GROUP_2,
    INBOX,
    OTHER,
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
    once,
    owed,
    raises,
    within,
)
from ofevents.conformance.verdict import require
from ofevents.errors import OfeventsError
from ofevents.ports import DONE, Bus, Consumer


async def shares_a_group_and_gives_each_group_all(rig: BusRig) -> None:
    """Consumers of one group compete, in several processes; each group gets everything."""
    groups = (Consumer(GROUP, (TOPIC,)), Consumer(GROUP_2, (TOPIC,)))
    one, two, other = Taken(), Taken(), Taken()
    async with ensured(rig, *groups) as bus, rig.make() as second:
        one.gate.clear()
        two.gate.clear()
        async with (
            consuming(bus, one, in_flight=10),
            consuming(second, two, in_flight=10),
            consuming(second, other, TOPIC, GROUP_2),
        ):
            wanted = ids(200)
            await bus.publish(TOPIC, *messages(*wanted))
            await within(lambda: bool(one.seen and two.seen), "both of a group get messages")
            one.gate.set()
            two.gate.set()
            await within(lambda: set(wanted) <= {*one.ids, *two.ids}, "the group gets everything")
            await other.gets(wanted)
    if not rig.features.holds:
        return  # while the consumers of a group change, one may get what another one has
    require(sorted(one.ids + two.ids) == sorted(wanted), "a group got a message twice")
    require(sorted(other.ids) == sorted(wanted), "another group got a message twice")


async def spans_topics(rig: BusRig) -> None:
    """One group over several topics, events and users' own; a later `ensure` adds one."""
    async with ensured(rig, Consumer(GROUP, (TOPIC, USER))) as bus:
        taken = Taken()
        await bus.publish(TOPIC, *messages("1"))
        await bus.publish(USER, *messages("2"))
        await bus.publish(OTHER, *messages("no"))
        async with consuming(bus, taken, [TOPIC, USER]):
            await taken.gets(["1", "2"])
        await bus.ensure([], [Consumer(GROUP, (TOPIC, USER, OTHER))])
        await bus.publish(OTHER, *messages("3"))
        async with consuming(bus, taken, [TOPIC, USER, OTHER]):
            await taken.gets(["3"])
    require(sorted({one.topic for one in taken.seen}) == sorted([TOPIC, USER, OTHER]), "topics")
    came = [id_of(one) for one in once(rig.features, taken.seen)]
    require(sorted(came)[:2] == ["1", "2"], f"each once: {came}")


async def starts_where_it_should(rig: BusRig) -> None:
    """`now` is the moment of creation, `earliest` all that is there; `ensure` again keeps
    the position, whatever `start` says."""
    late = Consumer(GROUP_2, (TOPIC,), start="earliest")
    async with ensured(rig, Consumer(USER, (USER,))) as bus:
        await bus.publish(TOPIC, *messages("old"))
        await bus.ensure([TOPIC], [Consumer(GROUP, (TOPIC,)), late])
        await bus.publish(TOPIC, *messages("new"))
        got = await drained(bus, wanted=["new"])
        require(got == ["new"], f"start now is the moment of creation: {got}")
        await bus.publish(TOPIC, *messages("newer"))
        again = Consumer(GROUP, (TOPIC,), start="earliest"), Consumer(GROUP, (TOPIC,), start="now")
        for one in again:
            await bus.ensure([TOPIC], [one])
        got = await drained(bus, wanted=["newer"])
        require(got == ["newer"], f"ensure keeps the position of a group: {got}")
        everything = ["new", "newer", "old"]
        got = await drained(bus, TOPIC, GROUP_2, wanted=everything)
        require(sorted(got) == everything, f"start earliest is all that is there: {got}")


async def counts_what_is_there(rig: BusRig) -> None:
    """inspect: messages and bytes of topics, pending and in flight of groups."""
    async with ensured(rig, Consumer(GROUP, (TOPIC,)), Consumer(INBOX, (INBOX,))) as bus:
        await bus.publish(TOPIC, *messages(*ids(10)))
        await bus.publish(INBOX, owed(event("owed")))
        taken = Taken()
        taken.gate.clear()
        async with consuming(bus, taken, in_flight=3):
            await within(lambda: len(taken.seen) == 3, "its share is handed out")
            report = await bus.inspect()
        topics = {one.topic: one for one in report.topics}
        groups = {one.group: one for one in report.consumers}
        require(topics[TOPIC].messages == 10 and topics[INBOX].messages == 1, f"{report.topics}")
        require(topics[TOPIC].size > 500, f"size is in bytes: {topics[TOPIC].size}")
        require(groups[GROUP].pending == 7, f"pending is 7, not {groups[GROUP].pending}")
        require(groups[GROUP].in_flight == 3, f"in_flight is 3, not {groups[GROUP].in_flight}")
        require(groups[GROUP].topics == (TOPIC,), f"its topics: {groups[GROUP].topics}")
        require(groups[INBOX].pending == 1, "a delivery in the inbox is its group's lag")


async def removes(rig: BusRig) -> None:
    """remove deletes messages (those not due yet too) and groups; nothing there is no error."""
    async with ensured(rig, Consumer(GROUP, (TOPIC,)), Consumer(INBOX, (INBOX,))) as bus:
        await bus.publish(TOPIC, *messages("1"))
        await bus.publish(INBOX, owed(event("1")))
        if rig.features.delayed:
            await bus.publish(INBOX, owed(event("2"), due=time.time() + 600))
        for _ in range(2):
            await bus.remove(topics=[TOPIC, INBOX], groups=[GROUP, INBOX, "none"])
        report = await bus.inspect()
        require(not any(one.messages for one in report.topics), f"{report.topics} are left")
        require(not report.consumers, f"{report.consumers} are left")
        call = bus.consume([TOPIC], GROUP, Taken(), in_flight=1, started=lambda: None)
        await raises(OfeventsError, call, "a group that does not exist is an error")


async def browses(rig: BusRig) -> None:
    """browse reads all topics in order from a time on, follows, and moves no position."""
    async with ensured(rig) as bus:
        await bus.publish(TOPIC, *messages("1"))
        await bus.publish(USER, *messages("2"))
        await asyncio.sleep(0.05)
        middle = time.time()
        await bus.publish(TOPIC, *messages("3"))
        both = [one.body.id async for one in bus.browse([TOPIC, USER])]  # type: ignore[union-attr]
        require(both == ["1", "2", "3"], f"browse reads all, in order: {both}")
        late = [one.body.id async for one in bus.browse([TOPIC, USER], since=middle)]  # type: ignore[union-attr]
        require(late == ["3"], f"browse reads from a time on: {late}")
        many = ids(600)
        await bus.publish(OTHER, *messages(*many))
        pages = [one.body.id async for one in bus.browse([OTHER])]  # type: ignore[union-attr]
        require(pages == many, f"browse reads all of many: {len(pages)} of {len(many)}")
        live = await _followed(bus)
        everything = ["1", "3", *live]
        got = await drained(bus, wanted=everything)
        require(got == everything, f"browse changes no position: {got}")


async def _followed(bus: Bus) -> list[str]:
    """Follow from now on while publishing; what was published."""
    seen: list[str] = []

    async def follow() -> None:
        async for one in bus.browse([TOPIC], since=None, follow=True):
            one.settle(DONE)
            seen.append(one.body.id)  # type: ignore[union-attr]

    task = asyncio.create_task(follow(), name="browse")
    try:
        live: list[str] = []
        while len(seen) < 5:
            live.append(f"live{len(live)}")
            await bus.publish(TOPIC, *messages(live[-1]))
            await asyncio.sleep(0.05)
            require(len(live) < 400, "browse follows what is published")
        await within(lambda: seen[-1:] == live[-1:], "browse follows to the last")
    finally:
        task.cancel()
        await asyncio.wait([task])
    require(seen == live[-len(seen) :], f"from now on, each once and in order: {seen}")
    return live


async def says_when_its_group_is_removed(rig: BusRig) -> None:
    """A group that is removed under a consumer: an error, so that it is ensured anew."""
    async with ensured(rig) as bus:

        async def run() -> None:
            async with consuming(bus, Taken()) as running:
                await bus.remove(groups=[GROUP])
                assert running.task is not None
                await within(running.task.done, "consume ends when its group is removed")

        await raises(OfeventsError, run(), "consume says that its group was removed")


GROUPS = (
    Check(shares_a_group_and_gives_each_group_all, lambda rig: rig.features.groups),
    Check(spans_topics, lambda rig: rig.features.keeps),
    Check(starts_where_it_should, lambda rig: rig.features.keeps),
    Check(counts_what_is_there, lambda rig: rig.features.counts),
    Check(removes, lambda rig: rig.features.removes),
    Check(browses, lambda rig: rig.features.browse),
    Check(says_when_its_group_is_removed, lambda rig: rig.features.removes),
)
