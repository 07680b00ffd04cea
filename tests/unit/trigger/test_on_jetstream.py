"""The Trigger on a real nats-server: what the memory bus cannot show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ofevents.api.resolved import ResolvedBus, ResolvedInput, TopicTarget
from ofevents.errors import Misconfigured, Rejected, Unavailable
from ofevents.ports import Delivery, Reply
from ofevents.trigger import remove
from tests.servers import until
from tests.servers.nats import NatsServer
from tests.unit.trigger.rig import (
    DEAD,
    A,
    B,
    Functions,
    event,
    inputs,
    running,
    subscriber,
    trigger,
)

pytestmark = [pytest.mark.server("nats"), pytest.mark.timeout(120)]
INBOX = "inbox.shop.trg.one"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path) as running:
        yield running


def on(server: NatsServer, **options: Any) -> ResolvedBus:
    """A message may be held for a second, and is not dealt anew where a machine pauses for two."""
    return ResolvedBus(driver="jetstream", options={"url": server.url, "ack_wait": 3.0, **options})


async def test_every_way_through_the_trigger(server: NatsServer, functions: Functions) -> None:
    out = "topic.shop.out"
    spec = trigger(
        subscriber("one", condition="a && event.data.n > 1"),
        subscriber("two", condition="a && b", payload="[events.a.data.n, events.b.data.n]"),
        subscriber("three", condition="b", target=TopicTarget(topic=out)),
        subscriber("later", condition="b", delivery={"deliver_after": 1.5}),
        inputs=(
            ResolvedInput(name="a", topic=A, join_by="event.data.key"),
            ResolvedInput(name="b", topic=B, join_by="event.data.key"),
        ),
        bus=on(server),
    )

    async def refuse(delivery: Delivery) -> Reply | None:
        if delivery.events[0].id == "a3":
            raise Rejected("400", status=400)
        return None

    functions["one"].answer = refuse
    async with running(spec) as worker:
        await worker.publish(A, *(event(f"a{n}", f'{{"n": {n}, "key": "k{n}"}}') for n in range(5)))
        await worker.publish(
            B, event("b2", '{"n": 20, "key": "k2"}'), event("b9", '{"n": 9, "key": 1}')
        )
        await worker.idle(20)
        assert sorted(functions["one"].ids) == ["a2", "a3", "a4"]
        (joined,) = functions["two"].given
        assert [one.id for one in joined.events] == ["a2", "b2"]
        assert joined.event.data == b"[2,20]"
        bodies = [one.body for one in await worker.messages(out)]
        assert {one.id for one in bodies if not isinstance(one, Delivery)} == {"b2", "b9"}
        (letter,) = await worker.messages(DEAD)
        assert isinstance(letter.body, Delivery) and letter.body.events[0].id == "a3"
        assert sorted(functions["later"].ids) == ["b2", "b9"]
        assert all(one.generation == 1 for one in functions["later"].given)
        await worker.end()
        await remove(spec, worker.bus)
        report = await worker.bus.inspect()
        assert report.consumers == ()
        keys = [key async for key, _ in worker.bus.store.list("")]
        assert [key for key in keys if not key.startswith("ofevents/")] == []


async def test_a_late_retry_is_kept_back_by_the_server(
    server: NatsServer, functions: Functions
) -> None:
    functions["one"].script = [Unavailable("503", delay=1.2)]
    async with running(trigger(inputs=inputs(a=None), bus=on(server))) as worker:
        await worker.publish(A, event("1"))
        began = asyncio.get_running_loop().time()
        await until(lambda: len(functions["one"].given) == 2, seconds=20, what="the second call")
        assert asyncio.get_running_loop().time() - began >= 1.0
    assert [(one.attempt, one.generation) for one in functions["one"].given] == [(0, 0), (1, 1)]


async def test_a_killed_server_loses_and_repeats_little(
    server: NatsServer, functions: Functions
) -> None:
    async def slow(delivery: Delivery) -> Reply | None:
        await asyncio.sleep(0.01)
        return None

    functions["one"].answer = slow
    spec = trigger(inputs=inputs(a=None), bus=on(server), in_flight=64)
    async with running(spec) as worker:
        await worker.publish(A, *(event(str(i)) for i in range(400)))
        await until(lambda: len(functions["one"].given) >= 100, seconds=20, what="some work")
        await server.kill()
        await until(
            lambda: worker.health.snapshots()[0].state == "stalled", seconds=20, what="stalled"
        )
        given = len(functions["one"].ids)
        await server.start()
        await until(lambda: len(set(functions["one"].ids)) == 400, seconds=60, what="every event")
        await worker.idle(20)
        await until(lambda: worker.health.snapshots()[0].state == "ready", seconds=20, what="ready")
    # The server writes acknowledgements down a little later: what it had not is repeated.
    assert len(functions["one"].ids) <= 400 + given


async def test_a_server_that_comes_late_is_waited_for(
    server: NatsServer, functions: Functions
) -> None:
    spec = trigger(inputs=inputs(a=None), bus=on(server), start="now")
    async with running(spec) as worker:
        await worker.end()
    await server.kill()

    async def later() -> None:
        await asyncio.sleep(0.5)
        await server.start()

    async with asyncio.TaskGroup() as group:
        group.create_task(later())
        async with running(spec) as worker:
            assert worker.health.live(30)
            await worker.publish(A, event("1"))
            await until(lambda: functions["one"].ids == ["1"], seconds=20, what="the event")


async def test_order_is_kept_over_the_death_of_the_owner(
    server: NatsServer, functions: Functions
) -> None:
    """Two workers; the owner stops renewing and settling in the middle of the stream."""
    stuck = asyncio.Event()

    async def slow(delivery: Delivery) -> Reply | None:
        if len(functions["one"].given) == 30:
            stuck.set()
        if stuck.is_set() and leading.is_set():
            await asyncio.Event().wait()
        await asyncio.sleep(0.002)
        return None

    leading = asyncio.Event()
    leading.set()
    functions["one"].answer = slow
    spec = trigger(subscriber(delivery={"ordered": True}), inputs=inputs(a=None), bus=on(server))
    async with running(spec) as first:
        await first.publish(A, *(event(str(i), partitionkey="k") for i in range(100)))
        await asyncio.wait_for(stuck.wait(), 20)
        await first.kill()
        leading.clear()
        dropped = len(functions["one"].given)
        async with running(spec) as second:
            await second.idle(40)
    ids = [int(id) for id in functions["one"].ids]
    assert ids[:dropped] == list(range(dropped))
    # What was in hand comes again, then everything else, in order.
    assert ids[dropped:] == list(range(dropped - 1, 100))


async def test_a_misconfigured_subscriber_keeps_its_events_over_a_restart(
    server: NatsServer, functions: Functions
) -> None:
    async def refuse(delivery: Delivery) -> Reply | None:
        raise Misconfigured("answered 403", status=403)

    functions["one"].answer = refuse
    spec = trigger(inputs=inputs(a=None), bus=on(server))
    async with running(spec) as worker:
        await worker.publish(A, *(event(str(i)) for i in range(20)))
        await worker.idle_inputs()
        assert worker.health.snapshots()[0].reason == "SubscriberMisconfigured"
        await worker.end()
    functions["one"].answer = None
    async with running(spec) as worker:
        await worker.idle(30)
        assert await worker.messages(DEAD) == []
        assert {one[0] for one in worker.lines if one[3] == "delivered"} == {
            str(i) for i in range(20)
        }
