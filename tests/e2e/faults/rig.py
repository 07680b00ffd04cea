"""The chain that the fault suite breaks: every link a process of its own.

    Kafka -> EventSource shop -> bus -> Trigger charge (two workers) -> function

`rig` starts it on any `FaultBus`; a `Part` is what the suite may kill, with the way to
start it again and the question whether it has work in hand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from tests.e2e.faults.buses import FaultBus, Left
from tests.e2e.faults.feed import GROUP, PARTITIONS, TOPIC, Lag
from tests.e2e.processes import Ofevents, specs
from tests.servers import ServerFailed, until
from tests.servers.faketime import FakeClock
from tests.servers.function import Function
from tests.servers.kafka import KafkaServer

TRIGGERS: Final = 2
SPECS: Final = {"source": "shop/orders", "trigger": "charge"}
"""Of each kind of worker: the resolved spec's name."""
BACK: Final = 150.0
"""Seconds within which whatever was killed is ready again. A worker whose broker is down
waits for up to half a minute before it tries again."""
_JUST_NOW: Final = 0.1
"""Seconds since a call came whose successor is there, while the function is called at all."""

RESOURCES: Final = """
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {{name: default}}
spec: {bus}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {{name: shop}}
spec:
  eventBus: default
  kafka:
    orders:
      brokers: {brokers}
      topic: {topic}
      authRequired: false
      consumerGroup: {group}
      config: {{session.timeout.ms: "1500", heartbeat.interval.ms: "300"}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {{name: charge}}
spec:
  eventBus: default
  startFrom: earliest
  inputs:
    orders: {{eventSource: shop, event: orders, filter: event.data.wanted}}
  subscribers:
  - name: charge
    sink: {{uri: "{sink}"}}
    delivery: {{timeout: 5s, concurrency: {concurrency}, backoff: {backoff}}}
"""


async def _never() -> None:
    raise NotImplementedError("this part is only killed")


def _nothing() -> None:
    """For a part that never stands still."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a worker of the Trigger may have in hand, as its spec says.

    Attributes:
        concurrency: calls that are open at once.
        in_flight: messages of its inputs. The default of 1024 would hold the whole
            backlog of a run, and the bound of duplicates would bound nothing.
        backoff: bound of the first wait of a call that failed. The bus may hold an event
            for 10 s, so that half of them wait in the worker's hand, half in the inbox.
    """

    concurrency: int = 16
    in_flight: int = 32
    backoff: str = "20s"

    @property
    def in_hand(self) -> int:
        """Messages of one worker at most, those of the inbox with them."""
        return self.in_flight + min(self.in_flight, max(64, 2 * self.concurrency))


DEFAULT: Final = Bounds()


@dataclass(slots=True)
class Part:
    """A link of the chain.

    Attributes:
        kind: `source`, `trigger` (two of them), `sidecar` (one of each worker, where the
            bus has them), `bus`, `function`, `kafka`.
        end: kills it with SIGKILL.
        begin: starts it; returns when it is ready.
        owed: unsettled events that concern it, asked of the broker beside it.
        freeze: lets it stand still, and `thaw` go on, where the suite does that to it.
        down: it was killed, and is not ready again.
        alone: held by whoever breaks it, until it is whole again.
    """

    kind: str
    end: Callable[[], Awaitable[None]]
    begin: Callable[[], Awaitable[None]]
    owed: Callable[[], Awaitable[int]]
    freeze: Callable[[], Awaitable[None]] = _never
    thaw: Callable[[], None] = _nothing
    down: bool = False
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def kill(self) -> None:
        self.down = True
        await self.end()

    async def start(self) -> None:
        await self.begin()
        self.down = False


@dataclass(frozen=True, slots=True)
class Rig:
    """What runs. `workers` are the source and then the Trigger's."""

    kafka: KafkaServer
    bus: FaultBus
    function: Function
    workers: tuple[Ofevents, ...]
    parts: tuple[Part, ...]
    lag: Lag
    bounds: Bounds
    resources: Path

    async def watch(self) -> None:
        """Runs until cancelled; raises ServerFailed when a worker ends by itself."""
        ours = [part for part in self.parts if part.kind in ("source", "trigger")]
        while True:
            await asyncio.sleep(0.1)
            for part, worker in zip(ours, self.workers, strict=True):
                code = worker.process.returncode
                if code is not None and not part.down:
                    raise ServerFailed(f"the {part.kind} ended with {code}:\n{worker.log[-4000:]}")

    async def left(self) -> Left:
        """What is on the bus."""
        return await self.bus.left(self.resources)

    async def settled(self, seconds: float) -> None:
        """Wait until nothing is owed anywhere: Kafka's group, the bus's, the inboxes."""
        left: Left | None = None

        async def nothing_owed() -> bool:
            nonlocal left
            if not await self.lag.at_end():
                return False
            left = await self.left()
            return not left.owed

        try:
            await until(nothing_owed, seconds=seconds, what="nothing is owed anywhere")
        except TimeoutError as error:
            error.add_note(left.told if left else "Kafka's group is not at its end")
            raise


@asynccontextmanager
async def rig(
    folder: Path,
    bus: FaultBus,
    *,
    delay: float,
    bounds: Bounds = DEFAULT,
    clocks: Sequence[FakeClock] = (),
) -> AsyncIterator[Rig]:
    """The chain, ready.

    Args:
        delay: how long the function takes for a call, in seconds.
        clocks: the wall clocks of the Trigger's workers. The source has the machine's:
            librdkafka's waits do not come back under libfaketime, and it asks for no time.
    """
    async with AsyncExitStack() as stack:
        kafka = await stack.enter_async_context(KafkaServer())
        await stack.enter_async_context(bus)
        function = await stack.enter_async_context(Function(folder / "function"))
        function.mode(delay=delay)
        await kafka.create_topic(TOPIC, PARTITIONS)
        lag = Lag(kafka.brokers)
        stack.callback(lag.close)
        resources = folder / "resources.yaml"
        resources.write_text(
            RESOURCES.format(
                bus=bus.spec,
                brokers=kafka.brokers,
                topic=TOPIC,
                group=GROUP,
                sink=function.url,
                concurrency=bounds.concurrency,
                backoff=bounds.backoff,
            )
        )
        made = await specs(resources, folder / "specs")
        _bound(made[SPECS["trigger"]], bounds.in_flight)
        kinds = ["source", *TRIGGERS * ["trigger"]]
        times = [{}, *([clock.environment for clock in clocks] or TRIGGERS * [{}])]
        beside = [
            bus.beside(folder / f"{kind}-{number}", made[SPECS[kind]])
            for number, kind in enumerate(kinds)
        ]
        for _, sidecar in beside:
            if sidecar is not None:
                stack.push_async_callback(sidecar.kill)
                await sidecar.start()
        workers = [
            Ofevents(folder, kind, "-f", spec, worker=True, **faked)
            for kind, (spec, _), faked in zip(kinds, beside, times, strict=True)
        ]
        for worker in workers:
            await stack.enter_async_context(worker)
        for worker in workers:
            await worker.ready(BACK)
        await bus.joined(TRIGGERS)
        asked = [lag.records, *TRIGGERS * [bus.unsettled]]
        parts = [
            Part(kind, worker.kill, _begin(worker), owed, worker.freeze, worker.thaw)
            for kind, worker, owed in zip(kinds, workers, asked, strict=True)
        ]
        parts += [
            Part("sidecar", sidecar.kill, sidecar.start, owed)
            for (_, sidecar), owed in zip(beside, asked, strict=True)
            if sidecar is not None
        ]
        parts += [
            Part("bus", bus.kill, bus.start, bus.unsettled, bus.freeze, bus.thaw),
            Part("function", function.kill, function.start, _called(function, bus, delay)),
            Part("kafka", kafka.kill, kafka.start, lag.records),
        ]
        yield Rig(kafka, bus, function, tuple(workers), tuple(parts), lag, bounds, resources)


def _bound(spec: Path, in_flight: int) -> None:
    """Write it into a Trigger's resolved spec."""
    told = yaml.safe_load(spec.read_text())
    told["in_flight"] = in_flight
    spec.write_text(yaml.safe_dump(told))


def _called(function: Function, bus: FaultBus, delay: float) -> Callable[[], Awaitable[int]]:
    """What the bus owes while calls are being made: a function that is killed when it has
    none loses nothing, as after a bus came back that has yet to hand anything out."""

    async def owed() -> int:
        unsettled = await bus.unsettled()
        latest = max((call.time for call in function.calls()[-50:]), default=0.0)
        return unsettled if time.time() - latest < delay + _JUST_NOW else 0

    return owed


def _begin(worker: Ofevents) -> Callable[[], Awaitable[None]]:
    async def begin() -> None:
        await worker.start()
        await worker.ready(BACK)

    return begin
