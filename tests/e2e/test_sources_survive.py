"""Each source survives: its worker killed, its server killed, poison, a full window.

A real `ofevents source` on a real bus; the outside world is the source's conformance rig,
which goes on producing meanwhile. Nothing may be lost, poison neither, and what comes twice
is bounded by what a worker has in hand; where ids are the origin's, the bus knows it again.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from unittest import mock

import pytest

from ofevents.api.resolved import ResolvedBus, ResolvedSource
from ofevents.bus import open_bus, topics
from ofevents.clock import SystemClock
from ofevents.conformance.source_rig import SourceRig
from ofevents.event import Event
from ofevents.ports import Bus, SourceIdentity
from tests.e2e.processes import Ofevents, get
from tests.servers import until
from tests.servers.nats import NatsServer

SOURCES: Final = {
    "kafka": "open_rig",
    "nats": "open_jetstream",
    "redis": "open_stream",
    "rabbitmq": "open_rig",
    "mqtt": "open_qos1",
    "file": "open_lines",
    "kubernetes": "open_rig",
}
EACH: Final = {"kubernetes": 40}
"""Records of each part of a run, 300 where nothing is said."""
FIELDS: Final = {"redis": {"processingTimeout": "3s"}}
"""Of the spec, beside the rig's: what a killed worker had in hand comes after a minute else."""
QUIET: Final = 1.5
"""Seconds in which a worker takes nothing more, after which its hand is full."""
FULL: Final = 15.0
"""Seconds within which its hand is full."""
BACK: Final = 60.0


def entry(rig: SourceRig) -> tuple[dict[str, Any], SourceIdentity]:
    """The spec and the identity that the rig gives to its workers."""
    given: list[Any] = []
    kind = type(rig.make())
    real = kind.__init__

    def spied(self: object, spec: Any, identity: SourceIdentity, **more: Any) -> None:
        given.extend((spec, identity))
        real(self, spec, identity, **more)  # type: ignore[arg-type, call-arg]

    with mock.patch.object(kind, "__init__", spied):
        rig.make()
    spec, identity = given
    return spec.model_dump(mode="json", by_alias=True, exclude_unset=True), identity


async def stored(bus: Bus, topic: str) -> list[Event]:
    """What has come to the bus."""
    return [one.body async for one in bus.browse([topic]) if isinstance(one.body, Event)]


async def in_hand(worker: Ofevents) -> int:
    """Events that an emit of the worker has and the bus has not."""
    _, status = await get(f"{worker.probes}/status")
    return sum(map(int, re.findall(r'"in_?flight": ?(\d+)', status, re.I)))


async def full(worker: Ofevents) -> int:
    """What the worker has in hand, once it takes no more.

    It may be nothing: what waits to write its position into the store emits nothing.
    """
    held, since = 0, time.monotonic()

    async def quiet() -> bool:
        nonlocal held, since
        now = await in_hand(worker)
        if now != held:
            held, since = now, time.monotonic()
        await asyncio.sleep(0.05)
        return time.monotonic() - since > QUIET

    await until(quiet, seconds=FULL, what="the worker's hand is full")
    return held


@pytest.fixture(scope="module", autouse=True)
def shared_servers() -> Iterator[None]:
    """What the rigs of a module share is closed after the last test."""
    yield
    for name in SOURCES:
        close = getattr(importlib.import_module(f"tests.conformance.rigs.{name}"), "close", None)
        if close is not None:
            asyncio.run(close())


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", SOURCES)
async def test_a_source_survives(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"tests.conformance.rigs.{name}")
    each = EACH.get(name, 300)
    async with NatsServer(tmp_path / "bus") as server, getattr(module, SOURCES[name])() as rig:
        document, identity = entry(rig)
        topic = topics.event(identity.namespace, identity.name, identity.entry)
        resolved = ResolvedBus(driver="jetstream", options={"url": server.url})
        spec = ResolvedSource(
            namespace=identity.namespace,
            name=identity.name,
            source=identity.kind,
            entry=identity.entry,
            spec={**document, **FIELDS.get(name, {})},
            bus=resolved,
            topic=topic,
            dead_topic=topics.dead(identity.namespace, f"source/{identity.name}"),
        )
        path = tmp_path / "spec.json"
        path.write_text(spec.model_dump_json())
        worker = Ofevents(tmp_path / "worker", "source", "-f", path, worker=True)
        async with worker, open_bus(resolved, clock=SystemClock()) as bus:
            keys: list[str] = []
            down = 0.0

            async def feed() -> int:
                """Feed a part, and return how many were stored before it."""
                before = len(await stored(bus, topic))
                keys.extend(await rig.feed(each))
                return before

            async def some(before: int) -> None:
                async def came() -> bool:
                    return len(await stored(bus, topic)) > before

                await until(came, seconds=BACK, what="an event of this part is stored")

            await worker.ready(BACK)
            for _ in range(2):  # its worker
                await some(await feed())
                await worker.kill()
                keys.extend(await rig.feed(each))
                began = time.monotonic()
                await worker.start()
                await worker.ready(BACK)
                down += time.monotonic() - began
            if rig.breakable:  # its server
                await some(await feed())
                await rig.break_()
                began = time.monotonic()
                await rig.restart()
                await some(len(keys) - 1)  # all of it
                down += time.monotonic() - began
            if rig.poisonable:
                await rig.poison()
            before = await feed()
            await server.freeze()  # and the window fills up: no source reads twice its hand ahead
            keys.extend(await rig.feed(2 * rig.in_flight + each))
            held = await full(worker)
            server.thaw()
            await some(before)

            async def all_there() -> bool:
                return set(keys) <= {rig.key(one) for one in await stored(bus, topic)}

            await until(all_there, seconds=BACK, what=f"all {len(keys)} records are events")
            came = Counter(rig.key(one) for one in await stored(bus, topic))
            dead = [one.body async for one in bus.browse([spec.dead_topic or ""])]
    again = sum(count - 1 for key, count in came.items() if key)
    most = 0 if rig.features.stable_ids else 3 * rig.in_flight
    with capsys.disabled():
        sys.stdout.write(
            f"\n{name}: {len(keys)} records, 0 lost, {again} twice (at most {most}); {held} "
            f"in emit with a full window (at most {rig.in_flight}); {came[''] + len(dead)} of "
            f"poison kept; down {down:.1f} s in {2 + rig.breakable} faults "
            f"(at most {BACK:.0f} each)\n"
        )
    assert set(came) - {""} == set(keys)
    assert again <= most
    assert held <= rig.in_flight, "with a full window, more waits outside"
    # Dead letters have ids of their own: a poison that came again may be there twice.
    assert (came[""] + len(dead) > 0) == rig.poisonable, "poison is kept, and nothing else"
