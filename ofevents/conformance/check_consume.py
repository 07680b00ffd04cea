"""What a bus owes to those who consume; part of the suite in `check_bus`."""

from __future__ import annotations

import asyncio

from ofevents.conformance.bus_rig import (
    GROUP,
    GROUP_2,
    TOPIC,
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
    never,
    once,
    width,
    within,
)
from ofevents.conformance.verdict import require
from ofevents.ports import DONE, Consumer, Message, Received, retry


async def keeps_the_order(rig: BusRig) -> None:
    """One consumer alone gets a topic's messages in their order, those of a key at least."""
    async with ensured(rig) as bus:
        taken = Taken()
        async with consuming(bus, taken, in_flight=64):
            wanted = ids(500)
            for at in range(0, 500, 50):
                events = [event(id).replace(partitionkey="k") for id in wanted[at : at + 50]]
                await bus.publish(TOPIC, *(Message(one, "writer") for one in events))
            await taken.gets(wanted)
    came = once(rig.features, taken.seen)
    require([id_of(one) for one in came] == wanted, "one consumer gets messages out of order")
    positions = [int(one.position) for one in came]
    require(positions == sorted(positions), "positions rise with the order")


async def hands_out_again_after_the_delay(rig: BusRig) -> None:
    """RETRY after a delay comes again after it, with its attempt counted; DONE never."""
    async with ensured(rig) as bus:
        taken = Taken(retry(1.0), retry())
        async with consuming(bus, taken):
            await bus.publish(TOPIC, *messages("1"))
            await within(lambda: len(taken.seen) >= 3, "a retried message comes again")
            await never(lambda: len(taken.seen) > 3, "a message that is DONE came again", 0.5)
    require([one.attempt for one in taken.seen] == [1, 2, 3], "attempts are counted from 1")
    require(taken.at[1] - taken.at[0] >= 1.0, "it came again before its delay")


async def never_gives_a_message_up(rig: BusRig) -> None:
    """Promise 1: what is not settled comes again, however often; only its reader ends that."""
    times = 25
    async with ensured(rig) as bus:
        taken = Taken(*[retry()] * times)
        async with consuming(bus, taken):
            await bus.publish(TOPIC, *messages("1"))
            await within(lambda: len(taken.seen) > times, f"it comes again after {times} retries")
    if rig.features.attempts:
        require(taken.seen[-1].attempt == times + 1, f"its attempt is {taken.seen[-1].attempt}")


async def settles_each_on_its_own(rig: BusRig) -> None:
    """In any order; a second settling does nothing."""
    count = width(rig, 10)
    async with ensured(rig) as bus:
        await bus.publish(TOPIC, *messages(*ids(count)))
        taken, again = Taken(), ids(count)[count // 2]
        taken.gate.clear()
        async with consuming(bus, taken):
            await taken.gets(ids(count))
            for one in reversed(taken.seen):
                one.settle(retry(0.2) if one.body.id == again else DONE)  # type: ignore[union-attr]
                one.settle(retry())
            taken.gate.set()
            await within(lambda: len(taken.seen) == count + 1, "the retried one comes again")
        require(taken.ids[-1] == again, f"{taken.ids[-1]} came again, not {again}")
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
        for one in received:
            if id_of(one) == "3":
                seen.append(one.attempt)
            if id_of(one) != "3" or len(seen) > 1:
                one.settle(DONE)

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
    """Cancelled: the handlers are cancelled, and another consumer gets it at once.

    At once is long before the ack wait, and long after whatever else holds a machine up.
    """
    wanted = ids(width(rig, 20))
    async with ensured(rig, ack_wait=30.0) as bus:
        taken = Taken()
        taken.gate.clear()
        async with consuming(bus, taken):
            await bus.publish(TOPIC, *messages(*wanted))
            await taken.gets(wanted)
        require(taken.calls == 0, "the handlers are cancelled")
        again = Taken()
        async with consuming(bus, again):
            await again.gets(wanted, seconds=20.0)


async def drains_when_stopped(rig: BusRig) -> None:
    """Stopped: no more is handed out, and it returns when what is in hand is settled."""
    async with ensured(rig) as bus:
        taken, share = Taken(), width(rig, 5)
        taken.gate.clear()
        async with consuming(bus, taken, in_flight=share) as running:
            await bus.publish(TOPIC, *messages(*ids(20)))
            await within(lambda: len(taken.seen) == share, "its share is handed out")
            running.stop.set()
            task = running.task
            assert task is not None
            await never(task.done, "it returned before what is in hand was settled", 0.3)
            taken.gate.set()
            await within(task.done, "it returns when all is settled")
        require(len(taken.seen) == share, "after stop it handed out more")
        rest = await drained(bus, wanted=set(ids(20)) - set(taken.ids))
        came = [*taken.ids, *rest]
        if not rig.features.holds:
            # A batch that its consumer has left comes again whole, with what was settled of it.
            came = list(set(came))
        require(
            sorted(came) == sorted(ids(20)),
            f"a message is lost or came twice: {taken.ids} then {rest}",
        )


async def bounds_what_is_in_flight(rig: BusRig) -> None:
    """Promise 7: never more open than asked for; the next call does not wait for the last."""
    share = width(rig, 8)
    async with ensured(rig) as bus:
        await bus.publish(TOPIC, *messages(*ids(100)))
        taken = Taken()
        taken.gate.clear()
        async with consuming(bus, taken, in_flight=share):
            await within(lambda: len(taken.seen) == share, "as many as asked for are handed out")
            await never(lambda: len(taken.seen) > share, "more were handed out than asked for", 0.5)
            taken.open[share // 2].settle(DONE)
            await within(
                lambda: len(taken.seen) == share + 1, "a settled one makes room for another"
            )
            taken.gate.set()
            await taken.gets(ids(100))
    require(
        taken.most <= share + 1, f"{taken.most} were open at once"
    )  # the settled one counts here


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
                    await never(twice, "an open message came again", 1.25 * rig.ack_wait)
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
            open = ids(width(rig, 20), "open")
            await bus.publish(TOPIC, *messages(*open))
            await busy.gets(open)
            await rig.break_()
            await asyncio.sleep(0.2)
            await rig.restart()
            busy.gate.set()
            await within(lambda: bus.connection == "", "it connects again")
            await bus.publish(TOPIC, *messages(*ids(20, "after")))
            for taken in (busy, idle):
                await taken.gets([*open, *ids(20, "after")])


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
        await drained(bus, wanted=["2"])
    await within(
        lambda: not (asyncio.all_tasks() - before),
        f"no task is left (there is {asyncio.all_tasks() - before})",
        15.0,
    )


CONSUME = (
    Check(keeps_the_order, lambda rig: rig.features.ordered),
    Check(hands_out_again_after_the_delay),
    Check(never_gives_a_message_up, lambda rig: rig.features.keeps),
    Check(settles_each_on_its_own, lambda rig: rig.features.keeps),
    Check(hands_out_again_what_a_handler_leaves, lambda rig: rig.features.keeps),
    Check(gives_back_when_cancelled),
    Check(drains_when_stopped, lambda rig: rig.features.keeps),
    Check(bounds_what_is_in_flight, lambda rig: rig.features.keeps),
    Check(
        holds_a_message_as_long_as_it_is_open,
        lambda rig: rig.features.holds and rig.features.groups,
    ),
    Check(goes_on_after_a_restart, lambda rig: rig.breakable),
    Check(leaks_nothing),
)
