"""Joins through the worker's own steps, with a crash between any two of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import ManualClock
from ofevents.errors import Conflict, TooLarge
from ofevents.event import Event
from ofevents.health import WorkerHealth
from ofevents.ports import DONE, Delivery, Entry, Verdict
from ofevents.trigger.evaluator import Evaluator, Joining
from ofevents.trigger.inputs import Inputs
from ofevents.trigger.join import SLACK, Joins
from ofevents.trigger.joinstate import Match, Waits, decode, token_of
from ofevents.trigger.steps import Steps
from ofevents.trigger.suspects import Suspects
from tests.unit.trigger.rig import A, B, event, inputs, subscriber, trigger

SPEC = trigger(subscriber(condition="a && b"), inputs=inputs(a=None, b=None), window=10.0)
KEY = "join/shop/trg/one/-"


class Crash(BaseException):
    """The process is gone; no `except Exception` sees it."""


@dataclass
class World:
    """What survives a crash: the store, what the subscriber got, what is acknowledged."""

    clock: ManualClock = field(default_factory=ManualClock)
    broker: Broker = field(default_factory=lambda: Broker(max_bytes=1 << 30, window=120))
    got: list[Delivery] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)
    fuse: int = -1
    """Steps until the crash; negative: none comes."""

    def step(self) -> None:
        """Every step burns the fuse, before and after its effect."""
        if self.fuse == 0:
            raise Crash
        self.fuse -= 1

    def worker(self) -> Inputs:
        """A new process on this world."""
        store = CrashingStore(self)
        bus: Any = SimpleNamespace(store=store, max_size=1 << 20, hold=10.0)
        evaluator = Evaluator(SPEC)
        joins = Joins(
            bus,
            evaluator,
            namespace="shop",
            trigger="trg",
            subscribers=("one",),
            window=SPEC.window,
            clock=self.clock,
        )
        sink: Any = Sink(self)
        stopping = asyncio.Event()
        stopping.set()  # what fails goes back to the bus, which this test plays
        steps = Steps(
            SPEC,
            evaluator=evaluator,
            joins=joins,
            handovers=[sink],
            clock=self.clock,
            stop=asyncio.Event(),
            trace=None,
        )
        return Inputs(
            SPEC,
            evaluator=evaluator,
            steps=steps,
            dead_letters=sink,
            suspects=Suspects(store, "g"),
            worker=WorkerHealth("Trigger", "shop/trg", self.clock),
            clock=self.clock,
            stop=stopping,
            trace=None,
        )


class CrashingStore(MemoryStore):
    def __init__(self, world: World) -> None:
        super().__init__(world.broker, world.clock)
        self._world = world

    async def get(self, key: str) -> Entry | None:
        self._world.step()
        await asyncio.sleep(0)
        return await super().get(key)

    async def put(self, key: str, value: bytes, **more: Any) -> int:
        self._world.step()
        await asyncio.sleep(0)
        old = await super().get(key)
        revision = await super().put(key, value, **more)
        self._count(decode(old.value) if old else None, value)
        self._world.step()
        return revision

    def _count(self, before: Any, value: bytes) -> None:
        """Note each event at the moment at which it counts."""
        after = decode(value)
        held = {h.event.id for h in before.held} if before else set()
        owed = {m.token for m in before.owed} if before else set()
        self._world.counted += [h.event.id for h in after.held if h.event.id not in held]
        self._world.counted += [f"!{m.token}" for m in after.owed if m.token not in owed]


@dataclass
class Sink:
    """Stands for the handover: takes a delivery in one step."""

    world: World
    name: str = "one"

    async def settle(self, delivery: Delivery, stored: float) -> None:
        self.world.step()
        await asyncio.sleep(0)
        self.world.got.append(delivery)
        self.world.step()


@dataclass
class Handed:
    """A message in hand."""

    topic: str
    body: Event
    stored: float
    world: World
    attempt: int = 1
    settled: bool = False

    def settle(self, verdict: Verdict) -> None:
        self.world.step()
        self.settled = self.settled or verdict is DONE


def message(world: World, name: str, number: int, at: float) -> Handed:
    return Handed({"a": A, "b": B}[name], event(f"{name}{number}"), at, world)


async def play(plan: list[tuple[str, float]], choices: list[tuple[int, int, bool]]) -> World:
    """Hand out the messages in a drawn order, each call with a fuse, until all are settled."""
    world = World()
    waiting = [message(world, n, i, at) for i, (n, at) in enumerate(plan)]
    again: list[Handed] = []
    worker, drawn = world.worker(), iter(choices)
    while waiting:
        at, world.fuse, repeat = next(drawn, (0, -1, False))
        one = waiting[at % len(waiting)]
        try:
            await worker.handle([one])  # type: ignore[list-item]
        except Crash:
            worker = world.worker()
        world.fuse = -1
        if one.settled:
            waiting.remove(one)
            # A settled message comes again all the same: the acknowledgement was lost.
            if repeat and one not in again:
                again.append(one)
                one.settled = False
                waiting.append(one)
    return world


plans = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 30)), max_size=8)
choices = st.lists(st.tuples(st.integers(0, 7), st.integers(-1, 9), st.booleans()), max_size=30)


@settings(max_examples=300, deadline=None)
@given(plans, choices)
def test_crashes_redeliveries_and_any_order_lose_nothing_and_repeat_nothing(
    plan: list[tuple[str, float]], choices: list[tuple[int, int, bool]]
) -> None:
    world = asyncio.run(play(plan, choices))
    stored = {f"{name}{i}": at for i, (name, at) in enumerate(plan)}
    matches: dict[str, tuple[str, ...]] = {}
    for delivery in world.got:
        ids = tuple(one.id for one in delivery.events)
        # The same completing event: the same delivery, however often.
        assert matches.setdefault(ids[-1], ids) == ids
        # Never without all, and within the window.
        assert sorted(id[0] for id in ids) == ["a", "b"]
        assert abs(stored[ids[0]] - stored[ids[1]]) <= SPEC.window
    consumed = [id for ids in matches.values() for id in ids]
    assert len(consumed) == len(set(consumed))
    assert set(matches) == set(expected(world, stored))
    entry = world.broker.entries.get(KEY)
    assert entry is None or decode(entry[0]).owed == ()


def expected(world: World, stored: Mapping[str, float]) -> list[str]:
    """What a plain reading of the design fires, events counted in the order they did."""
    ids = {f"!{token_of(event(id))}": id for id in stored}
    held: dict[str, str] = {}
    fired = []
    for id in (ids.get(one, one) for one in world.counted):
        other = held.get("b" if id[0] == "a" else "a")
        if other is not None and abs(stored[other] - stored[id]) <= SPEC.window:
            fired.append(id)
            del held[other[0]]
        elif id[0] not in held or stored[held[id[0]]] <= stored[id]:
            held[id[0]] = id
    return fired


def test_the_fuse_does_burn() -> None:
    """The crashes of the test above do happen: at least eight steps make a match."""
    for fuse in range(12):
        world = asyncio.run(play([("a", 0), ("b", 1)], [(0, -1, False), (0, fuse, False)]))
        assert {tuple(e.id for e in one.events) for one in world.got} == {("a0", "b1")}


def test_a_half_met_condition_is_stored_before_its_event_is_acknowledged() -> None:
    """Wherever the worker dies with the first half in hand, the second half finds it."""
    for fuse in range(12):
        world = asyncio.run(play([("a", 0), ("b", 1)], [(0, fuse, False), (0, -1, False)]))
        assert {frozenset(e.id for e in one.events) for one in world.got} == {
            frozenset(("a0", "b1"))
        }


def joins_of(world: World, *, max_size: int = 1 << 20) -> Joins:
    store = MemoryStore(world.broker, world.clock)
    bus: Any = SimpleNamespace(store=store, max_size=max_size, hold=10.0)
    return Joins(
        bus,
        Evaluator(SPEC),
        namespace="shop",
        trigger="trg",
        subscribers=("one",),
        window=SPEC.window,
        clock=world.clock,
    )


async def test_two_workers_agree_by_compare_and_set() -> None:
    """Many events of one key, in two workers at once: each counts exactly once."""
    world = World()
    workers = [world.worker(), world.worker()]
    messages = [message(world, "ab"[i % 2], i, 0.0) for i in range(40)]
    task = asyncio.gather(
        workers[0].handle(messages[::2]),  # type: ignore[arg-type]
        workers[1].handle(messages[1::2]),  # type: ignore[arg-type]
    )
    while not task.done():
        await world.clock.advance(0.01)
    await task
    assert all(one.settled for one in messages)
    ids = [one.id for delivery in world.got for one in delivery.events]
    assert len(ids) == len(set(ids)) > 0
    stored = {one.body.id: one.stored for one in messages}
    assert len(world.counted) == 40
    assert {one.events[-1].id for one in world.got} == set(expected(world, stored))


async def test_bug_16_two_workers_see_each_others_half_and_a_restart_keeps_it() -> None:
    world = World()
    await world.worker().handle([message(world, "a", 1, 0.0)])  # type: ignore[list-item]
    await world.worker().handle([message(world, "b", 2, 1.0)])  # type: ignore[list-item]
    assert [[e.id for e in one.events] for one in world.got] == [["a1", "b2"]]


async def test_an_entry_goes_away_after_the_window_and_the_slack() -> None:
    world = World()
    joins = joins_of(world)
    joining = Joining(0, "", ("a",))
    assert await joins.arrive(joining, event("a1"), world.clock.now()) is Waits.HELD
    await world.clock.advance(SPEC.window + SLACK - 1)
    store = MemoryStore(world.broker, world.clock)
    assert await store.get(KEY) is not None
    await world.clock.advance(2)
    assert await store.get(KEY) is None


async def test_what_is_owed_does_not_expire_with_the_window() -> None:
    world = World()
    joins = joins_of(world)
    await joins.arrive(Joining(0, "", ("a",)), event("a1"), 0.0)
    match = await joins.arrive(Joining(0, "", ("b",)), event("b1"), 1.0)
    assert isinstance(match, Match)
    await world.clock.advance(SPEC.window + SLACK + 1000)
    assert await joins.arrive(Joining(0, "", ("b",)), event("b1"), 1.0) == match


async def test_keys_do_not_meet() -> None:
    joins = joins_of(World())
    assert await joins.arrive(Joining(0, "k1", ("a",)), event("a1"), 0.0) is Waits.HELD
    assert await joins.arrive(Joining(0, "k2", ("b",)), event("b1"), 1.0) is Waits.HELD
    assert isinstance(await joins.arrive(Joining(0, "k1", ("b",)), event("b2"), 1.0), Match)


async def test_an_entry_stays_within_what_the_bus_takes() -> None:
    joins = joins_of(World(), max_size=8192)
    big = event("a1", b'{"x": "%s"}' % (b"x" * 8190))
    with pytest.raises(TooLarge, match="half-met"):
        await joins.arrive(Joining(0, "", ("a",)), big, 0.0)
    assert await joins.arrive(Joining(0, "", ("a",)), event("a2"), 0.0) is Waits.HELD


async def test_a_key_that_never_stands_still_is_given_back() -> None:
    world = World()
    joins = joins_of(world)

    async def put(*args: Any, **more: Any) -> int:
        raise Conflict("changed")

    joins._store.put = put  # type: ignore[method-assign]
    task = asyncio.create_task(joins.arrive(Joining(0, "", ("a",)), event("a1"), 0.0))
    while not task.done():
        await world.clock.advance(1)
    with pytest.raises(Conflict, match="changed all the time"):
        await task
