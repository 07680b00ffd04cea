"""What the workers need is on the bus before any of them starts.

A Trigger with `startFrom: now` gets what is published from the creation of its
consumer on, so a source that is quicker than the Trigger would lose its first events.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path

from ofevents.bus import open_bus
from ofevents.clock import SystemClock
from ofevents.health import Health
from ofevents.local import folder
from ofevents.local.buses import Buses
from ofevents.local.deployment import Deployment
from ofevents.local.screen import JsonScreen
from ofevents.local.workers import Key, Spec, Workers, key
from tests.servers import until
from tests.unit.local.runs import Folder

CHECKOUT = {"trigger.default.checkout", "inbox.default.checkout.charge"}
LATER = {"trigger.default.later", "inbox.default.later.charge"}


async def test_positions_are_there_before_a_worker_starts(tmp_path: Path) -> None:
    files = Folder(tmp_path)
    clock = SystemClock()
    health, screen = Health(clock), JsonScreen(io.StringIO())
    found: dict[Key, set[str]] = {}

    async def run(spec: Spec, stop: asyncio.Event) -> None:
        """A worker that makes nothing: it only looks at what is there."""
        assert spec.bus is not None
        async with open_bus(spec.bus, clock=clock) as bus:
            found[key(spec)] = {one.group for one in (await bus.inspect()).consumers}
        await stop.wait()

    def looked(count: int) -> Callable[[], bool]:
        return lambda: len(found) == count

    async with Buses(tmp_path / "data", health, clock) as buses, asyncio.TaskGroup() as group:
        workers = Workers(group, run, health=health, screen=screen)
        deployment = Deployment(group, buses, workers, health=health, screen=screen, clock=clock)
        resolution = folder.read([tmp_path], [])
        await deployment.prepare(resolution)
        await deployment.start(resolution)
        await until(looked(2), seconds=20, what="a source and a Trigger have started")
        assert all(groups >= CHECKOUT for groups in found.values()), found
        text = (tmp_path / "trigger.yaml").read_text()
        (tmp_path / "later.yaml").write_text(text.replace("checkout", "later"))
        sources = (tmp_path / "sources.yaml").read_text()
        (tmp_path / "sources.yaml").write_text(sources.replace(str(files.webhook), "1"))
        found.clear()
        await deployment.apply(folder.read([tmp_path], []), "later.yaml")
        await until(looked(2), seconds=20, what="the changed source and the new Trigger")
        assert all(groups >= CHECKOUT | LATER for groups in found.values()), found
        deployment.close()
        await workers.stop(list(workers.specs), within=1.0)
