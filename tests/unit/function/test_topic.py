"""Async functions on the memory bus: acknowledged by returning, again by raising."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import open_bus, topics
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.function import Context, Function, Rejected
from ofevents.function.app import bus_of_environment
from ofevents.ports import Bus, Delivery, Message
from tests.servers import until

METRICS = topics.user("default", "metrics")


def event(id: str) -> Event:
    return Event.create(id=id, source="/t", type="t", data=b"{}")


@asynccontextmanager
async def bus() -> AsyncIterator[Bus]:
    resolved = ResolvedBus(driver="memory", options={"name": str(uuid.uuid4())})
    async with open_bus(resolved, clock=SystemClock()) as opened:
        yield opened


@asynccontextmanager
async def running(function: Function, on: Bus) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(function.consume(on, stop))
        yield
        stop.set()


async def dead(on: Bus, function: str) -> list[Delivery]:
    topic = topics.dead("default", f"function/{function}")
    found = [received.body async for received in on.browse([topic])]
    return [body for body in found if isinstance(body, Delivery)]


async def dead_letters(on: Bus, function: str) -> list[Delivery]:
    """Waits for at least one."""
    async with asyncio.timeout(5):
        topic = topics.dead("default", f"function/{function}")
        async for _ in on.browse([topic], follow=True):
            break
    return await dead(on, function)


async def test_it_gets_what_was_there_before_its_first_start() -> None:
    function, seen = Function("audit"), list[str]()

    @function.on_topic("metrics")
    async def audit(event: Event) -> None:
        seen.append(event.id)

    async with bus() as on:
        await on.ensure([METRICS], [])
        await on.publish(METRICS, Message(event("1"), "w"))
        async with running(function, on):
            await until(lambda: seen == ["1"], seconds=5, what="the function")
        await on.publish(METRICS, Message(event("2"), "w"))
        async with running(function, on):
            await until(lambda: len(seen) > 1, seconds=5, what="the function")
    assert seen == ["1", "2"]


async def test_raising_hands_it_out_again_until_it_returns() -> None:
    function, attempts = Function("audit"), list[int]()

    @function.on_topic("metrics")
    async def audit(event: Event, context: Context) -> None:
        attempts.append(context.attempt)
        if context.attempt < 2:
            raise RuntimeError("not yet")

    async with bus() as on, running(function, on):
        await on.publish(METRICS, Message(event("1"), "w"))
        await until(lambda: attempts == [1, 2], seconds=5, what="the function")
        assert await dead(on, "audit") == []


async def test_a_rejected_event_is_a_dead_letter_at_once() -> None:
    function, calls = Function("audit"), list[str]()

    @function.on_topic("metrics")
    def audit(event: Event) -> None:
        calls.append(event.id)
        raise Rejected("never")

    async with bus() as on, running(function, on):
        await on.publish(METRICS, Message(event("1"), "w"))
        letters = await dead_letters(on, "audit")
    assert calls == ["1"]
    assert letters[0].events == (event("1"),)
    assert letters[0].subscriber == "default/audit/topic:default/metrics"


async def test_retries_used_up_is_a_dead_letter() -> None:
    function, calls = Function("audit"), list[str]()

    @function.on_topic("metrics", retries=0)
    async def audit(event: Event) -> None:
        calls.append(event.id)
        raise RuntimeError("bug")

    async with bus() as on, running(function, on):
        await on.publish(METRICS, Message(event("1"), "w"))
        assert len(await dead_letters(on, "audit")) == 1
    assert calls == ["1"]


async def test_what_a_function_sends_twice_is_stored_once() -> None:
    function, done = Function("audit"), list[int]()

    @function.on_topic("metrics")
    async def audit(event: Event, context: Context) -> None:
        await context.send("alerts", {"of": event.id})
        done.append(context.attempt)
        if context.attempt == 1:
            raise RuntimeError("after it was sent")

    async with bus() as on, running(function, on):
        await on.publish(METRICS, Message(event("1"), "w"))
        await until(lambda: done == [1, 2], seconds=5, what="the function")
        alerts = [one.body async for one in on.browse([topics.user("default", "alerts")])]
    assert len(alerts) == 1
    assert isinstance(alerts[0], Event)
    assert alerts[0].value == {"of": "1"}


def test_the_bus_of_the_environment(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("OFEVENTS_BUS", raising=False)
    monkeypatch.setenv("OFEVENTS_BUS_URL", "nats://127.0.0.1:4222")
    found = bus_of_environment()
    assert found is not None
    assert found.options == {"url": "nats://127.0.0.1:4222"}
    given = ResolvedBus(driver="memory", options={"name": "x"})
    monkeypatch.setenv("OFEVENTS_BUS", given.model_dump_json())
    assert bus_of_environment() == given
