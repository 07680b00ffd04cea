"""What the survival tests share: a source's worker, its rig's world, and each fault in turn.

`survive` is used by `test_sources_survive`, and judges nothing but that all comes in the
end; `full` by `test_cron_survives`, too, whose world is the time.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

from ofevents import registry
from ofevents.api.resolved import HttpTarget, ResolvedBus, ResolvedSource
from ofevents.bus import open_bus, topics
from ofevents.clock import SystemClock
from ofevents.conformance.source_rig import SourceRig
from ofevents.event import Event
from ofevents.ports import Bus, SourceIdentity
from tests.e2e.processes import Ofevents, get
from tests.servers import until
from tests.servers.nats import NatsServer

QUIET: Final = 1.5
"""Seconds in which a worker takes nothing more, after which its hand is full."""
FULL: Final = 60.0
"""Seconds within which its hand is full."""
BACK: Final = 120.0
"""Seconds within which a fault is over: a worker's start, an ack wait of 30 s and the longest pause
between two tries are far less, and one that is stuck is so for good."""


@dataclass(frozen=True, slots=True)
class Survived:
    """What a run has shown.

    Attributes:
        keys: what was fed.
        came: how often each of them is on the bus.
        held: events that the worker had in hand with a full window.
        poison: what is on the bus, or among the dead letters, of no key.
        down: seconds from the return of what was taken away until an event came.
    """

    keys: frozenset[str]
    came: Mapping[str, int]
    held: int
    poison: int
    down: tuple[float, ...]

    @property
    def again(self) -> int:
        """How many came that had come before."""
        return sum(count - 1 for count in self.came.values())


def resolved(
    rig: SourceRig,
    kind: str,
    fields: Mapping[str, Any],
    *,
    bus: ResolvedBus | None = None,
    target: HttpTarget | None = None,
) -> ResolvedSource:
    """The spec that the rig gives to its workers, of that kind of source, with further fields;
    its events go to the bus, or to the function."""
    given: list[Any] = []
    adapter = registry.load("ofevents.sources", kind)
    real = adapter.__init__

    def spied(self: object, spec: Any, identity: SourceIdentity, **more: Any) -> None:
        given.extend((spec, identity))
        real(self, spec, identity, **more)

    with mock.patch.object(adapter, "__init__", spied):
        rig.make()
    spec, identity = given
    namespace, name, entry = identity.namespace, identity.name, identity.entry
    return ResolvedSource(
        namespace=namespace,
        name=name,
        source=identity.kind,
        entry=entry,
        spec={**spec.model_dump(mode="json", by_alias=True, exclude_unset=True), **fields},
        bus=bus,
        topic=topics.event(namespace, name, entry) if bus else "",
        dead_topic=topics.dead(namespace, f"source/{name}") if bus else "",
        target=target,
    )


async def stored(bus: Bus, topic: str) -> list[Event]:
    """What has come to the bus."""
    return [one.body async for one in bus.browse([topic]) if isinstance(one.body, Event)]


async def in_hand(worker: Ofevents) -> int:
    """Events that an emit of the worker has and the bus has not."""
    _, status = await get(f"{worker.probes}/status")
    return sum(map(int, re.findall(r'"in_?flight": ?(\d+)', status, re.I)))


async def full(worker: Ofevents, least: int = 0) -> int:
    """What the worker has in hand, once it takes no more; silence before `least` tells nothing.

    It may be nothing: what waits to write its position into the store emits nothing.
    """
    held, since = 0, time.monotonic()

    async def quiet() -> bool:
        nonlocal held, since
        now = await in_hand(worker)
        if now != held:
            held, since = now, time.monotonic()
        await asyncio.sleep(0.05)
        return held >= least and time.monotonic() - since > QUIET

    await until(quiet, seconds=FULL, what="the worker's hand is full")
    return held


async def survive(
    folder: Path,
    rig: SourceRig,
    kind: str,
    *,
    each: int,
    fields: Mapping[str, Any],
    breaks: int,
    least: int = 1,
    buries: bool = False,
    told: Callable[[], bool] = lambda: True,
) -> Survived:
    """Kill the worker, break its server so often, feed poison, and freeze the bus.

    Args:
        each: records of each part of the run.
        fields: of the spec, beside the rig's.
        least: events that the worker has in hand at least with a full window.
        buries: its poison is kept, as an event or a dead letter.
        told: whether everybody knows that theirs is stored, who may hear of it later; with
            the last worker nobody is left to say so.

    Raises:
        TimeoutError: a record that was fed has not come, nor the poison where it is kept, or
            nothing after a fault.
    """
    async with NatsServer(folder / "bus") as server:
        jetstream = ResolvedBus(driver="jetstream", options={"url": server.url})
        spec = resolved(rig, kind, fields, bus=jetstream)
        topic, dead_topic = spec.topic, spec.dead_topic
        path = folder / "spec.json"
        path.write_text(spec.model_dump_json())
        worker = Ofevents(folder / "worker", "source", "-f", path, worker=True)
        async with worker, open_bus(jetstream, clock=SystemClock()) as bus:
            keys: list[str] = []
            down: list[float] = []

            async def feed() -> int:
                """Feed a part, and return how many were stored before it."""
                before = len(await stored(bus, topic))
                keys.extend(await rig.feed(each))
                return before

            async def some(before: int) -> None:
                async def came() -> bool:
                    return len(await stored(bus, topic)) > before

                await until(came, seconds=BACK, what="an event of this part is stored")

            async def back(mend: Callable[[], Awaitable[None]]) -> None:
                """Mend it, and see that what is fed after it comes, which is seen by its keys."""
                await mend()
                began = time.monotonic()
                keys.extend(new := await rig.feed(each))

                async def came() -> bool:
                    return not {rig.key(one) for one in await stored(bus, topic)}.isdisjoint(new)

                await until(came, seconds=BACK, what="an event that was fed after it is stored")
                down.append(time.monotonic() - began)

            await worker.ready(BACK)
            for _ in range(2):  # its worker
                await some(await feed())
                await worker.kill()
                keys.extend(await rig.feed(each))
                await back(worker.start)
                await worker.ready(BACK)
            for _ in range(breaks):  # its server
                await some(await feed())
                await rig.break_()
                await back(rig.restart)
            if rig.poisonable:
                await rig.poison()
            before = await feed()
            await server.freeze()  # and the window fills up: no source reads twice its hand ahead
            keys.extend(await rig.feed(2 * rig.in_flight + each))
            held = await full(worker, least)
            server.thaw()
            await some(before)

            async def all_there() -> bool:
                return set(keys) <= {rig.key(one) for one in await stored(bus, topic)}

            await until(all_there, seconds=BACK, what=f"all {len(keys)} records are events")
            await until(told, seconds=BACK, what="everybody is told")

            async def poison() -> int:
                dead = [one async for one in bus.browse([dead_topic])]
                return len(dead) + sum(not rig.key(one) for one in await stored(bus, topic))

            async def buried() -> bool:
                return await poison() > 0

            if buries:  # it may be tried again later than what came behind it
                await until(buried, seconds=BACK, what="the poison is kept")
            kept = await poison()
            came = Counter(rig.key(one) for one in await stored(bus, topic))
    came.pop("", None)
    return Survived(frozenset(keys), came, held, kept, tuple(down))
