"""What a bus owes to those who consume; part of the suite in `check_bus`."""

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
    ids,
    messages,
    never,
    owed,
    raises,
    require,
    within,
)
from ofevents.errors import OfeventsError
from ofevents.ports import DONE, Bus, Consumer, Received, retry


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
            await within(lambda: len(one.seen + two.seen) >= 200, "the group gets everything")
            await other.gets(wanted)
    require(sorted(one.ids + two.ids) == sorted(wanted), "a group got a message twice")
    require(sorted(other.ids) == sorted(wanted), "another group got a message twice")


async def keeps_the_order(rig: BusRig) -> None:
    """One consumer alone gets a topic's messages in their order."""
    async with ensured(rig) as bus:
        taken = Taken()
        async with consuming(bus, taken, in_flight=64):
            wanted = ids(500)
            for at in range(0, 500, 50):
                await bus.publish(TOPIC, *messages(*wanted[at : at + 50]))
            await taken.gets(wanted)
    require(taken.ids == wanted, "one consumer alone gets messages out of order")
    positions = [int(one.position) for one in taken.seen]
    require(positions == sorted(positions), "positions rise with the order")


async def hands_out_again_after_the_delay(rig: BusRig) -> None:
    """RETRY after a delay comes again after it, with its attempt counted; DONE never."""
    async with ensured(rig) as bus:
        taken = Taken(retry(1.0), retry())
        began = time.monotonic()
        async with consuming(bus, taken):
            await bus.publish(TOPIC, *messages("1"))
            await within(lambda: len(taken.seen) >= 3, "a retried message comes again")
            await never(lambda: len(taken.seen) > 3, "a message that is DONE came again", 0.5)
    require([one.attempt for one in taken.seen] == [1, 2, 3], "attempts are counted from 1")
    require(time.monotonic() - began >= 1.0, "it came again before its delay")


async def settles_each_on_its_own(rig: BusRig) -> None:
    """In any order; a second settling does nothing."""
    async with ensured(rig) as bus:
        await bus.publish(TOPIC, *messages(*ids(10)))
        taken = Taken()
        taken.gate.clear()
        async with consuming(bus, taken):
            await taken.gets(ids(10))
            for one in reversed(taken.seen):
                one.settle(retry(0.2) if one.body.id == "e4" else DONE)  # type: ignore[union-attr]
                one.settle(retry())
            taken.gate.set()
            await within(lambda: len(taken.seen) == 11, "the retried one comes again")
        require(taken.ids[-1] == "e4", f"{taken.ids[-1]} came again, not e4")
        require(await drained(bus) == [], "everything is settled")


async def hands_out_again_what_a_handler_leaves(rig: BusRig) -> None:
    """A raise is RETRY for what is not settled, and so is a return without settling."""
    async with ensured(rig) as bus:
        taken = Taken()
        taken.failures = [RuntimeError("a bug"), ValueError("another")]
        async with consuming(bus, taken):
            await bus.publish(TOPIC, *messages("1"))
            await within(lambda: len(taken.seen) >= 3, "it comes again after a raise")

    seen: list[int] = []

    async def careless(received: list[Received]) -> None:
        seen.extend(one.attempt for one in received)
        if len(seen) > 1:
            received[0].settle(DONE)

    async with ensured(rig) as bus:
        await bus.publish(TOPIC, *messages("3"))
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                bus.consume(
                    [TOPIC],
                    GROUP,
                    careless,
                    in_flight=5,
                    started=lambda: None,
                    stop=stop,
                )
            )
            await within(lambda: seen == [1, 2], "what was left unsettled comes again")
            stop.set()


async def gives_back_when_cancelled(rig: BusRig) -> None:
    """Cancelled: the handlers are cancelled, and another consumer gets it at once."""
    async with ensured(rig) as bus:
        taken = Taken()
        taken.gate.clear()
        async with consuming(bus, taken):
            await bus.publish(TOPIC, *messages(*ids(20)))
            await taken.gets(ids(20))
        require(taken.calls == 0, "the handlers are cancelled")
        again = Taken()
        async with consuming(bus, again):
            await again.gets(ids(20), seconds=min(5.0, rig.ack_wait / 2))


async def drains_when_stopped(rig: BusRig) -> None:
    """Stopped: no more is handed out, and it returns when what is in hand is settled."""
    async with ensured(rig) as bus:
        taken = Taken()
        taken.gate.clear()
        async with consuming(bus, taken, in_flight=5) as running:
            await bus.publish(TOPIC, *messages(*ids(20)))
            await within(lambda: len(taken.seen) == 5, "its share is handed out")
            running.stop.set()
            task = running.task
            assert task is not None
            await never(task.done, "it returned before what is in hand was settled", 0.3)
            taken.gate.set()
            await within(task.done, "it returns when all is settled")
        require(len(taken.seen) == 5, "after stop it handed out more")
        rest = await drained(bus)
        require(sorted(taken.ids + rest) == sorted(ids(20)), "a message is lost or came twice")


async def bounds_what_is_in_flight(rig: BusRig) -> None:
    """Promise 7: never more open than asked for; the next call does not wait for the last."""
    async with ensured(rig) as bus:
        await bus.publish(TOPIC, *messages(*ids(100)))
        taken = Taken()
        taken.gate.clear()
        async with consuming(bus, taken, in_flight=8):
            await within(lambda: len(taken.seen) == 8, "as many as asked for are handed out")
            await never(lambda: len(taken.seen) > 8, "more were handed out than asked for", 0.5)
            taken.open[3].settle(DONE)
            await within(lambda: len(taken.seen) == 9, "a settled one makes room for another")
            taken.gate.set()
            await taken.gets(ids(100))
    require(taken.most <= 9, f"{taken.most} were open at once")  # the settled one counts here


async def holds_a_message_as_long_as_it_is_open(rig: BusRig) -> None:
    """While it is open nobody gets it again, also beyond the ack wait and while stopping."""
    async with ensured(rig) as bus, rig.make() as second:
        require(0 < bus.hold <= rig.ack_wait / 3, "hold is a third of the ack wait")
        slow, other = Taken(), Taken()
        slow.gate.clear()

        def twice() -> bool:
            return bool(other.seen) or len(slow.seen) > 1

        async with consuming(bus, slow) as running:
            await bus.publish(TOPIC, *messages("1"))
            await slow.gets(["1"])
            async with consuming(second, other):
                for _ in range(2):
                    await never(twice, "an open message came again", 1.7 * rig.ack_wait)
                    running.stop.set()
                slow.gate.set()
                await within(lambda: slow.calls == 0, "the handler ends")
                await never(twice, "a message that is DONE came again", 0.3)


async def goes_on_after_a_restart(rig: BusRig) -> None:
    """Promise 1: a consumer survives a crash of the bus and loses nothing."""
    groups = (Consumer(GROUP, (TOPIC,)), Consumer(GROUP_2, (TOPIC,)))
    async with ensured(rig, *groups) as bus:
        busy, idle = Taken(), Taken()
        async with consuming(bus, busy), consuming(bus, idle, TOPIC, GROUP_2):
            await bus.publish(TOPIC, *messages(*ids(20)))
            await busy.gets(ids(20))
            await idle.gets(ids(20))
            busy.gate.clear()
            await bus.publish(TOPIC, *messages(*ids(20, "open")))
            await busy.gets(ids(20, "open"))
            await rig.break_()
            await asyncio.sleep(0.2)
            await rig.restart()
            busy.gate.set()
            await within(lambda: bus.connection == "", "it connects again")
            await bus.publish(TOPIC, *messages(*ids(20, "after")))
            for taken in (busy, idle):
                await taken.gets([*ids(20, "open"), *ids(20, "after")])


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
    require(sorted(taken.ids)[:2] == ["1", "2"] and taken.ids.count("1") == 1, "each once")


async def starts_where_it_should(rig: BusRig) -> None:
    """`now` is the moment of creation, `earliest` all that is there; `ensure` again keeps
    the position, whatever `start` says."""
    late = Consumer(GROUP_2, (TOPIC,), start="earliest")
    async with ensured(rig, Consumer(USER, (USER,))) as bus:
        await bus.publish(TOPIC, *messages("old"))
        await bus.ensure([TOPIC], [Consumer(GROUP, (TOPIC,)), late])
        await bus.publish(TOPIC, *messages("new"))
        require(await drained(bus) == ["new"], "start now is the moment of creation")
        await bus.publish(TOPIC, *messages("newer"))
        again = Consumer(GROUP, (TOPIC,), start="earliest"), Consumer(GROUP, (TOPIC,), start="now")
        for one in again:
            await bus.ensure([TOPIC], [one])
        require(await drained(bus) == ["newer"], "ensure keeps the position of a group")
        require(
            await drained(bus, TOPIC, GROUP_2) == ["old", "new", "newer"],
            "start earliest is all that is there",
        )


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
        require(await drained(bus) == ["1", "3", *live], "browse changes no position")


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


async def leaks_nothing(rig: BusRig) -> None:
    """A closed bus leaves no task."""
    before = asyncio.all_tasks()
    async with ensured(rig) as bus:
        taken = Taken()
        async with consuming(bus, taken):
            await bus.publish(TOPIC, *messages("1"))
            await taken.gets(["1"])
            taken.gate.clear()
            await bus.publish(TOPIC, *messages("2"))
            await taken.gets(["2"])
        await drained(bus)
    await within(
        lambda: not (asyncio.all_tasks() - before),
        f"no task is left (there is {asyncio.all_tasks() - before})",
        5.0,
    )


CONSUME = (
    Check(shares_a_group_and_gives_each_group_all, lambda rig: rig.features.groups),
    Check(keeps_the_order, lambda rig: rig.features.ordered),
    Check(hands_out_again_after_the_delay),
    Check(settles_each_on_its_own),
    Check(hands_out_again_what_a_handler_leaves),
    Check(gives_back_when_cancelled),
    Check(drains_when_stopped),
    Check(bounds_what_is_in_flight),
    Check(holds_a_message_as_long_as_it_is_open),
    Check(goes_on_after_a_restart, lambda rig: rig.breakable),
    Check(spans_topics),
    Check(starts_where_it_should),
    Check(counts_what_is_there),
    Check(removes),
    Check(browses, lambda rig: rig.features.browse),
    Check(says_when_its_group_is_removed),
    Check(leaks_nothing),
)
