"""The suite that judges a Source; shipped, free of pytest.

    for check in CHECKS:
        if check.applies(rig):
            await check.run(rig)        # a new rig for each

Our own sources pass it against real servers (`tests/conformance`). What a source
does not promise in its Features is not asked of it, and `applies` says so.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ofevents.conformance.source_rig import PATIENCE, Emitted, SourceRig, within, working
from ofevents.conformance.verdict import NotConformant, require
from ofevents.errors import Disconnected, TemporaryError

__all__ = ["CHECKS", "Check", "NotConformant", "SourceRig"]

STOP = 15.0
"""Seconds in which a cancelled worker has ended (Ctrl-C in `ofevents run`): the two or three that
closing a connection may take, and a busy machine's pause."""


async def delivers(rig: SourceRig) -> None:
    """`started` once per live connection; every record once, in order where promised."""
    emit = Emitted(rig)
    async with working(rig, emit) as worker:
        keys = await rig.feed(50)
        await emit.settles(keys)
    require(len(worker.started) == 1, f"started was called {len(worker.started)} times, not once")
    require(bool(worker.started[0]), "started was called without an address to show")
    got = emit.keys(emit.settled)
    require(len(got) == len(set(got)), "a record was emitted twice although nothing failed")
    if rig.features.ordered:
        _in_order(rig, emit, list(keys))


def _in_order(rig: SourceRig, emit: Emitted, keys: list[str]) -> None:
    lanes: dict[str | None, list[str]] = {}
    for event in emit.settled:
        lanes.setdefault(event.partitionkey, []).append(rig.key(event))
    for lane, got in lanes.items():
        require(
            got == sorted(got, key=keys.index),
            f"the records of partition key {lane} were not emitted in their order",
        )


async def redelivers_after_a_failed_emit(rig: SourceRig) -> None:
    """emit raises: the record is kept and comes again, with the same id."""
    emit = Emitted(rig)
    emit.failures = [TemporaryError("the bus is full"), Disconnected("the bus is away")]
    async with working(rig, emit):
        keys = await rig.feed(5)
        await emit.settles(keys)
    require(not emit.failures, "emit was not called again after it had raised")
    require(len(emit.offered) > len(emit.settled), "a record was given up after emit raised")
    _same_ids(rig, emit)


async def acknowledges_nothing_before_emit_returns(rig: SourceRig) -> None:
    """Cancelled inside emit: the next worker gets every record that was not settled."""
    emit = Emitted(rig)
    async with working(rig, emit):
        first = await rig.feed(5)
        await emit.settles(first)
        emit.gate.clear()
        second = await rig.feed(5)
        await within(lambda: emit.inside > 0, "a record came to emit")
    require(not set(second) & set(emit.keys(emit.settled)), "emit was not cancelled")
    emit.gate.set()
    async with working(rig, emit):
        await emit.settles(second)
    _same_ids(rig, emit)


def _same_ids(rig: SourceRig, emit: Emitted) -> None:
    if rig.features.stable_ids:
        several = {key: ids for key, ids in emit.ids().items() if key and len(ids) > 1}
        require(not several, f"a record that came again had another id: {several}")


async def survives_a_restart_of_the_server(rig: SourceRig) -> None:
    """The server crashes: Disconnected, and after its return everything comes."""
    emit = Emitted(rig)
    async with working(rig, emit) as worker:
        before = await rig.feed(20)
        await emit.settles(before)
        await rig.break_()
        await within(lambda: bool(worker.lost), "Disconnected was raised for the lost server")
        lives = len(worker.started)
        await rig.restart()
        await within(lambda: len(worker.started) > lives, "started was called again")
        after = await rig.feed(20)
        await emit.settles([*before, *after])
    _same_ids(rig, emit)


async def waits_for_an_unreachable_server(rig: SourceRig) -> None:
    """No server at the start: Disconnected with a sentence, not a crash, and then it works."""
    emit = Emitted(rig)
    await rig.break_()
    async with working(rig, emit, live=False) as worker:
        await within(lambda: bool(worker.lost), "Disconnected was raised for the missing server")
        require(not worker.started, "started was called although there is no server")
        require(len(str(worker.lost[0])) > 10, "Disconnected says nothing that helps")
        await rig.restart()
        await within(lambda: bool(worker.started), "started was called")
        await emit.settles(await rig.feed(5))


async def holds_few_while_emit_blocks(rig: SourceRig) -> None:
    """Memory is bounded: a blocked emit is not handed more than `in_flight` events."""
    emit = Emitted(rig)
    emit.gate.clear()
    async with working(rig, emit):
        keys = await rig.feed(2 * rig.in_flight + 10)
        await within(lambda: emit.inside > 0, "a record came to emit")
        await _quiet(emit)
        require(
            emit.most_inside <= rig.in_flight,
            f"{emit.most_inside} events were in emit at once, more than {rig.in_flight}",
        )
        emit.gate.set()
        await emit.settles(keys)


async def _quiet(emit: Emitted) -> None:
    """Return when no further event has come to emit for half a second."""
    count, since = -1, time.monotonic()
    while time.monotonic() - since < 0.5:
        if len(emit.offered) != count:
            count, since = len(emit.offered), time.monotonic()
        await asyncio.sleep(0.02)


async def goes_on_after_poison(rig: SourceRig) -> None:
    """A malformed record does not hold up those behind it."""
    emit = Emitted(rig)
    async with working(rig, emit):
        before = await rig.feed(2)
        becomes_event = await rig.poison()
        after = await rig.feed(3)
        await emit.settles([*before, *after])
        if becomes_event:
            await within(
                lambda: any(not rig.key(event) for event in emit.settled),
                "the malformed record was emitted too: it may not be lost",
            )


async def stops_and_leaks_nothing(rig: SourceRig) -> None:
    """Cancelled with a blocked emit it ends in time, and leaves no task and no thread."""
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    emit = Emitted(rig)
    async with working(rig, emit):
        await emit.settles(await rig.feed(3))
        emit.gate.clear()
        await rig.feed(3)
        await within(lambda: emit.inside > 0, "a record came to emit")
        began = time.monotonic()
    took = time.monotonic() - began
    require(took <= STOP, f"a cancelled worker took {took:.1f} s to end, more than {STOP:.0f} s")
    require(emit.inside == 0, "emit was left running")
    emit.gate.set()
    await within(
        lambda: not (set(threading.enumerate()) - threads),
        f"no thread is left (there is {set(threading.enumerate()) - threads})",
        STOP,
    )
    own = asyncio.all_tasks() - tasks
    left = {task for task in own if not task.get_name().startswith("feed")}
    require(not left, f"tasks are left: {left}")


async def shares_work(rig: SourceRig) -> None:
    """Two workers of one entry both get records and lose none; one that leaves gives back."""
    one, two = Emitted(rig), Emitted(rig)

    def got() -> list[str]:
        return one.keys(one.settled) + two.keys(two.settled)

    async def all_of(keys: Sequence[str]) -> None:
        await within(lambda: set(keys) <= set(got()), "two workers emit every record")

    async with working(rig, one):
        await all_of(await rig.feed(20))
        async with working(rig, two):
            deadline = time.monotonic() + 2 * PATIENCE
            while not (one.settled and two.settled):
                require(time.monotonic() < deadline, "one of two workers got nothing")
                await all_of(await rig.feed(20))
            keys = await rig.feed(100)
            await all_of(keys)
            # What was fed while the second one joined may come twice, and late.
            twice = [key for key in set(keys) if got().count(key) > 1]
            require(not twice, f"two workers that both run emitted a record twice: {twice}")
        if not _at_least_once(rig):
            await _alone(rig, one)
        await one.settles(await rig.feed(50))


async def _alone(rig: SourceRig, emit: Emitted) -> None:
    """Feed until a worker gets all: what another one, which has just left, is still dealt
    is lost where no more than at most once is promised."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        wanted = set(await rig.feed(10))
        with suppress(NotConformant):
            await within(lambda few=wanted: few <= set(emit.keys(emit.settled)), "all come", 2.0)  # type: ignore[misc]
            return


@dataclass(frozen=True, slots=True)
class Check:
    """One check: `run` raises NotConformant; `applies` says whether it is asked."""

    run: Callable[[SourceRig], Awaitable[None]]
    applies: Callable[[SourceRig], bool] = lambda rig: True

    @property
    def name(self) -> str:
        return self.run.__name__


def _at_least_once(rig: SourceRig) -> bool:
    return rig.features.guarantee == "at-least-once"


CHECKS = (
    Check(delivers),
    Check(redelivers_after_a_failed_emit, _at_least_once),
    Check(acknowledges_nothing_before_emit_returns, _at_least_once),
    Check(survives_a_restart_of_the_server, lambda rig: rig.breakable),
    Check(waits_for_an_unreachable_server, lambda rig: rig.breakable),
    Check(holds_few_while_emit_blocks),
    Check(goes_on_after_poison, lambda rig: rig.poisonable),
    Check(stops_and_leaks_nothing),
    Check(shares_work, lambda rig: rig.features.scales),
)
