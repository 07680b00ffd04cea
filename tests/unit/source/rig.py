"""What the source tests share: resolved specs, an adapter that does as it is told, the bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from ofevents.api.resolved import ResolvedBus, ResolvedDelivery, ResolvedSource
from ofevents.bus.memory import MemoryBus
from ofevents.clock import Clock, ManualClock, SystemClock
from ofevents.event import Event
from ofevents.health import Health, Snapshot, WorkerHealth
from ofevents.ports import Delivery, Emit, SourceFeatures, SourceIdentity, Store
from ofevents.source import run
from ofevents.source.emit import BusEmit
from ofevents.source.letters import Letters
from ofevents.source.screen import Screen
from ofevents.source.standing import Standing
from ofevents.subscriber import DeadLetters
from tests.servers import until

TOPIC = "event.default.shop.orders"
DEAD = "dead.default.source=2Fshop"
IDENTITY = SourceIdentity("default", "shop", "cron", "orders")
FEATURES = SourceFeatures("at-least-once", stable_ids=True, ordered=True, scales=True)
REPLYING = SourceFeatures(
    "at-least-once", stable_ids=False, ordered=False, scales=True, replies=True
)
QUICK = ResolvedDelivery(timeout=0.5, retries=1, backoff=0.01, max_backoff=0.01)


def event(id: str = "1", data: Any = None, **rest: Any) -> Event:
    body = data if isinstance(data, bytes) or data is None else orjson.dumps(data)
    return Event.create(id=id, source="/s", type="t", data=body, **rest)


def spec(bus: ResolvedBus | None = None, **fields: Any) -> ResolvedSource:
    given: dict[str, Any] = {
        "namespace": "default",
        "name": "shop",
        "source": "cron",
        "entry": "orders",
        "spec": {"schedule": "@every 1s"},
    }
    if bus is not None:
        given |= {"bus": bus, "topic": TOPIC, "dead_topic": DEAD}
    return ResolvedSource(**{**given, **fields})


def memory(**options: Any) -> ResolvedBus:
    return ResolvedBus(driver="memory", options=options)


async def on(bus: MemoryBus, topic: str = TOPIC) -> list[Any]:
    """Bodies on that topic, oldest first."""
    return [received.body async for received in bus.browse([topic])]


async def dead(bus: MemoryBus) -> list[tuple[Event, dict[str, str]]]:
    """Dead letters: the event and the headers that say why, without their prefix."""
    found = []
    async for received in bus.browse([DEAD]):
        body = received.body
        assert isinstance(body, Delivery)
        said = {k.removeprefix("ofe-dead-"): v for k, v in received.headers.items()}
        found.append((body.events[0], said))
    return found


@dataclass
class Engine:
    """A BusEmit and what it works with."""

    bus: MemoryBus
    emit: BusEmit
    worker: WorkerHealth
    standing: Standing


@asynccontextmanager
async def engine(
    resolved: ResolvedSource,
    *,
    features: SourceFeatures = FEATURES,
    clock: Clock | None = None,
) -> AsyncIterator[Engine]:
    """An emit on a memory bus, as the worker builds it."""
    clock = clock or ManualClock()
    assert resolved.bus is not None
    worker = Health(clock).worker("EventSource", "default/shop/orders")
    standing = Standing(resolved, worker, clock, asyncio.Event())
    async with MemoryBus(resolved.bus, clock=clock) as bus:
        dead_letters = DeadLetters(
            bus=bus, target=None, dead_topic=resolved.dead_topic, owner="default/shop", clock=clock
        )
        standing.started("test")
        async with dead_letters:
            emit = BusEmit(
                resolved,
                identity=IDENTITY,
                features=features,
                bus=bus,
                screen=Screen(resolved),
                letters=Letters(resolved, dead_letters, standing),
                standing=standing,
            )
            yield Engine(bus, emit, worker, standing)


@dataclass
class Scripted:
    """An adapter that does what its `play` says; registered as the kind under test."""

    play: Callable[[Emit, Store | None, Callable[[str], None]], Awaitable[None]]
    features: SourceFeatures = FEATURES
    runs: int = 0
    built: list[tuple[Any, SourceIdentity]] = field(default_factory=list)

    def __call__(self, own: Any, identity: SourceIdentity, *, clock: Clock) -> Scripted:
        self.built.append((own, identity))
        return self

    async def run(self, emit: Emit, *, store: Store | None, started: Callable[[str], None]) -> None:
        self.runs += 1
        await self.play(emit, store, started)


@dataclass
class Running:
    """A worker that runs; `stop` asks it to end."""

    health: Health
    stop: asyncio.Event
    task: asyncio.Task[None]

    @property
    def snapshot(self) -> Snapshot:
        (one,) = self.health.snapshots()
        return one

    async def becomes(self, state: str, reason: str = "") -> Snapshot:
        """Wait for that state."""
        await until(
            lambda: (
                self.task.done()
                or (self.snapshot.state == state and reason in ("", self.snapshot.reason))
            ),
            seconds=10,
            what=f"{state} {reason}",
        )
        if self.task.done():
            self.task.result()
        return self.snapshot


@asynccontextmanager
async def working(resolved: ResolvedSource, clock: Clock | None = None) -> AsyncIterator[Running]:
    """The whole worker, stopped at the end."""
    clock = clock or SystemClock()
    health, stop = Health(clock), asyncio.Event()
    task = asyncio.ensure_future(run(resolved, health=health, clock=clock, stop=stop))
    running = Running(health, stop, task)
    try:
        await asyncio.sleep(0)
        yield running
    finally:
        stop.set()
        await asyncio.wait([task], timeout=10)
        task.cancel()
    task.result()
