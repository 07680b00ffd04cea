"""A lease has one owner at a time, whatever happens to workers and clocks."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import ManualClock
from ofevents.errors import Disconnected
from ofevents.ports import Entry
from ofevents.ports.lease import Lease

TTL = 9.0


def make() -> tuple[ManualClock, Broker, MemoryStore]:
    clock = ManualClock()
    broker = Broker(max_bytes=1_000_000, window=60)
    return clock, broker, MemoryStore(broker, clock)


def lease(store: MemoryStore, owner: str, clock: ManualClock) -> Lease:
    return Lease(store, "lane/0", owner, ttl=TTL, clock=clock)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.integers(0, 3)),
        st.tuples(st.just("renew"), st.integers(0, 3)),
        st.tuples(st.just("release"), st.integers(0, 3)),
        st.tuples(st.just("sleep"), st.floats(0.1, 2 * TTL)),
        st.tuples(st.just("break"), st.just(0)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(STEPS)
def test_never_two_owners_and_tokens_only_rise(steps: list[tuple[str, Any]]) -> None:
    asyncio.run(_walk(steps))


async def _walk(steps: list[tuple[str, Any]]) -> None:
    clock, broker, store = make()
    leases = [lease(store, f"worker-{n}", clock) for n in range(4)]
    highest = 0
    for step, argument in steps:
        if step == "sleep":
            await clock.advance(argument)
        elif step == "break":
            broker.down = "" if broker.down else "away"
        else:
            one = leases[argument]
            try:
                answer = await getattr(one, step)()
            except Disconnected:
                answer = None
            if step == "acquire" and answer:
                assert one.token >= highest, "a later owner has the larger token"
                highest = one.token
        holders = [one for one in leases if one.held]
        assert len(holders) <= 1, f"two owners: {[one.owner for one in holders]}"
        if holders:
            assert holders[0].token == highest, "the holder's token is the highest given"


async def test_it_is_renewed_while_held_and_handed_over_at_the_end() -> None:
    clock, _, store = make()
    first, second = lease(store, "one", clock), lease(store, "two", clock)
    async with first:
        waiting = asyncio.create_task(second.__aenter__())
        await clock.advance(10 * TTL)
        assert first.held and not second.held
    await clock.advance(1.0)
    assert waiting.done(), "who waits for it looks often: a roll-out is no long pause"
    await waiting
    assert second.held and second.token > first.token
    await second.__aexit__(None, None, None)
    assert await store.get("lane/0") is None, "given up at once"


async def test_an_owner_that_cannot_renew_stops_before_another_starts() -> None:
    clock, broker, store = make()
    first, second = lease(store, "one", clock), lease(store, "two", clock)
    async with first:
        broker.fail("the bus is away")
        await clock.advance(TTL + 0.1)
        assert not first.held
        broker.heal()
        assert await second.acquire()
        await clock.advance(TTL / 2)
        assert first.lost.is_set(), "it is told"
        assert second.held and not first.held
    assert await store.get("lane/0") is not None, "the old owner does not give up another's"


class Forgetful:
    """A store whose answers to writes are lost, although it wrote."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.lose = False

    async def put(self, *arguments: Any, **options: Any) -> int:
        revision = await self._store.put(*arguments, **options)
        if self.lose:
            raise Disconnected("the answer was lost")
        return revision

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_a_write_whose_answer_was_lost_is_its_own() -> None:
    clock, _, inner = make()
    store = Forgetful(inner)
    one = Lease(store, "lane/0", "one", ttl=TTL, clock=clock)  # type: ignore[arg-type]
    store.lose = True
    try:
        await one.acquire()
    except Disconnected:
        pass
    assert not one.held
    store.lose = False
    assert await one.acquire(), "its own entry does not lock it out"
    store.lose = True
    try:
        await one.renew()
    except Disconnected:
        pass
    store.lose = False
    assert await one.renew() and one.held
    assert await one.renew(), "and goes on from the revision that is there"


class Slow(MemoryStore):
    """A store whose answers to writes are a second on their way."""

    async def put(self, *arguments: Any, **options: Any) -> int:
        revision = await super().put(*arguments, **options)
        await self._clock.sleep(1.0)
        return revision


async def test_it_is_given_up_at_once_also_while_a_renewal_is_on_its_way() -> None:
    clock, broker, _ = make()
    store = Slow(broker, clock)
    one = lease(store, "one", clock)
    entering = asyncio.create_task(one.__aenter__())
    await clock.advance(1.0)
    await entering
    entered = await store.get("lane/0")
    await clock.advance(TTL / 3)
    renewed = await store.get("lane/0")
    assert entered is not None and renewed is not None and renewed.revision > entered.revision
    await one.__aexit__(None, None, None)
    assert await store.get("lane/0") is None, "nobody waits for its time to end"


class Distant(MemoryStore):
    """A store whose answers take a turn of the loop, so that others act in between."""

    async def get(self, key: str) -> Entry | None:
        entry = await super().get(key)
        await asyncio.sleep(0)
        return entry


async def test_of_several_that_try_at_once_one_gets_it() -> None:
    """Each has seen that nobody holds it: only comparing at the write tells them apart."""
    clock, broker, _ = make()
    store = Distant(broker, clock)
    tried = [lease(store, f"worker-{n}", clock) for n in range(4)]
    got = await asyncio.gather(*(one.acquire() for one in tried))
    assert [one.held for one in tried] == got
    assert sum(got) == 1


async def test_a_renewal_never_overwrites_another_owner() -> None:
    clock, _, store = make()
    one = lease(store, "one", clock)
    assert await one.acquire()
    revision = await store.put("lane/0", b"another's")
    assert not await one.renew()
    assert one.lost.is_set() and not one.held
    assert await store.get("lane/0") == Entry(b"another's", revision)
    await one.release()
    assert await store.get("lane/0") == Entry(b"another's", revision)
