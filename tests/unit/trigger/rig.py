"""What the tests of the trigger share: specs, a running worker, scripted subscribers.

The bus is the memory bus, the wrappers around a subscriber are the real ones; only
the function at the end is scripted, so that a test says how each call ends.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from ofevents.api.resolved import (
    HttpTarget,
    ResolvedBus,
    ResolvedDelivery,
    ResolvedInput,
    ResolvedSubscriber,
    ResolvedTrigger,
    Target,
)
from ofevents.bus import open_bus
from ofevents.clock import Clock, SystemClock
from ofevents.event import Event
from ofevents.health import Health
from ofevents.ports import Bus, Delivery, Message, Received, Reply
from ofevents.subscriber import Backoff
from ofevents.telemetry import REGISTRY
from ofevents.trigger import run
from tests.servers import until

A, B, C = "event.shop.src.a", "event.shop.src.b", "event.shop.src.c"
DEAD = "dead.shop.trg"
TOPICS = {"a": A, "b": B, "c": C}


def event(id: str = "1", data: bytes | str | None = b'{"n": 1}', **more: Any) -> Event:
    return Event.create(**{"id": id, "source": "/src", "type": "t", "data": data, **more})


def inputs(**filters: str | None) -> tuple[ResolvedInput, ...]:
    """Inputs a, b, c with their filters."""
    return tuple(ResolvedInput(name=n, topic=TOPICS[n], filter=f) for n, f in filters.items())


def subscriber(
    name: str = "one", *, target: Target | None = None, **more: Any
) -> ResolvedSubscriber:
    delivery = {"backoff": 0.01, "max_backoff": 0.05, **more.pop("delivery", {})}
    return ResolvedSubscriber(
        name=name,
        target=target or HttpTarget(uri=f"http://{name}"),
        inbox=f"inbox.shop.trg.{name}",
        delivery=ResolvedDelivery(**delivery),
        **more,
    )


def trigger(
    *subscribers: ResolvedSubscriber, inputs: tuple[ResolvedInput, ...], **more: Any
) -> ResolvedTrigger:
    bus = more.pop("bus", ResolvedBus(driver="memory"))
    return ResolvedTrigger(
        **{
            "namespace": "shop",
            "name": "trg",
            "bus": bus,
            "inputs": inputs,
            "subscribers": subscribers or (subscriber(),),
            "start": "earliest",
            "group": "trigger.shop.trg",
            "dead_topic": DEAD,
            **more,
        }
    )


Answer = Callable[[Delivery], Awaitable[Reply | None]]


@dataclass
class Scripted:
    """A function that keeps what it was given and does as its `answer` says."""

    given: list[Delivery] = field(default_factory=list)
    answer: Answer | None = None
    script: list[Exception] = field(default_factory=list)

    async def deliver(self, delivery: Delivery) -> Reply:
        self.given.append(delivery)
        if self.script:
            raise self.script.pop(0)
        reply = await self.answer(delivery) if self.answer else None
        return reply or Reply(200)

    @property
    def ids(self) -> list[str]:
        return [one.events[-1].id for one in self.given]


class Functions:
    """The scripted functions behind all HTTP subscribers, by subscriber name."""

    def __init__(self) -> None:
        self._made: dict[str, Scripted] = {}

    def __getitem__(self, name: str) -> Scripted:
        return self._made.setdefault(name, Scripted())


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> Functions:
    """Replaces the calls over HTTP; topics and all wrappers stay what they are.

    Waits have no jitter: each is the longest that its backoff allows.
    """
    made = Functions()
    way = importlib.import_module("ofevents.subscriber.pipeline")
    real, wait = way.open_subscriber, Backoff.wait

    @asynccontextmanager
    async def scripted(name: str) -> AsyncIterator[Any]:
        yield made[name]

    def open_subscriber(target: Any, *, subscriber_id: str, **more: Any) -> Any:
        if isinstance(target, HttpTarget):
            return scripted(subscriber_id.rpartition("/")[2])
        return real(target, subscriber_id=subscriber_id, **more)

    monkeypatch.setattr(way, "open_subscriber", open_subscriber)
    monkeypatch.setattr(Backoff, "wait", lambda self, n, least, _: wait(self, n, least, 1.0))
    return made


@dataclass
class Running:
    """A worker that runs, and a connection of its own to look at the bus."""

    bus: Bus
    health: Health
    stop: asyncio.Event
    task: asyncio.Task[None]
    lines: list[tuple[str, str, str, str, str]]

    async def publish(self, topic: str, *events: Event) -> None:
        await self.bus.publish(topic, *(Message(one, "test") for one in events))

    async def messages(self, topic: str) -> list[Received]:
        return [one async for one in self.bus.browse([topic])]

    async def idle(self, seconds: float = 5.0) -> None:
        """Wait until nothing is pending or in hand on any consumer."""

        async def quiet() -> bool:
            report = await self.bus.inspect()
            return not any(one.pending or one.in_flight for one in report.consumers)

        await until(quiet, seconds=seconds, what="every consumer is idle")

    async def idle_inputs(self, group: str = "trigger.shop.trg") -> None:
        """As `idle`, for the inputs alone: what waits in an inbox may wait."""

        async def quiet() -> bool:
            (one,) = [c for c in (await self.bus.inspect()).consumers if c.group == group]
            return not (one.pending or one.in_flight)

        await until(quiet, seconds=5, what="the inputs are read")

    async def end(self) -> None:
        self.stop.set()
        await asyncio.wait_for(self.task, 5)

    async def kill(self) -> None:
        """End it without settling anything, as a crash would."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def outcomes(self, id: str) -> list[str]:
        return [line[3] for line in self.lines if line[0] == id]


@asynccontextmanager
async def running(
    spec: ResolvedTrigger, clock: Clock | None = None, *, health: Health | None = None
) -> AsyncIterator[Running]:
    """A worker of that Trigger until the end of the block, then stopped in good order."""
    clock = clock or SystemClock()
    health = health or Health(clock)
    stop = asyncio.Event()
    lines: list[tuple[str, str, str, str, str]] = []
    async with open_bus(spec.bus, clock=clock) as bus:
        task = asyncio.create_task(
            run(spec, health=health, clock=clock, stop=stop, trace=lambda *line: lines.append(line))
        )
        try:
            await until(
                lambda: task.done() or _state(health) != "starting",
                seconds=30,
                what="the worker has started",
            )
            if task.done():
                task.result()
            yield Running(bus, health, stop, task, lines)
        finally:
            stop.set()
            if not task.done():
                _, late = await asyncio.wait([task], timeout=5)
                for one in late:
                    one.cancel()
        if not task.cancelled():
            task.result()


def _state(health: Health) -> str:
    return "".join(one.state for one in health.snapshots()) or "starting"


def metric(name: str, /, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0
