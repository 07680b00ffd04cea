"""Bounded memory (promise 7): a backlog of 200,000 events before a function that takes 1 s.

What bounds the worker is what it has in hand: with one subscriber the rest stays on
the bus, with a fast one beside it the slow one's deliveries go to its inbox.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.e2e.faults.figures import Figures
from tests.e2e.faults.orders import (
    AUDITED,
    INBOX,
    bus_at,
    checkout,
    fill,
    jetstream,
    stored,
    unread,
)
from tests.e2e.processes import Ofevents
from tests.servers import until
from tests.servers.function import Function
from tests.servers.nats import NatsServer

pytestmark = pytest.mark.timeout(1200)

BACKLOG = 200_000
IN_HAND = 1024
"""Messages that a worker has in hand at most, as the resolved spec says."""
RATE = 250
"""Events a second of the fast subscriber at least. At the slow one's pace it would have 32."""
ROOM = 60 * 1024 * 1024
"""Bytes that the worker may take beyond what it takes with nothing to do."""


@dataclass(slots=True)
class Memory:
    """Resident sizes of a process, in bytes, one each 50 ms from its first to its last."""

    sizes: list[int] = field(default_factory=list)

    @property
    def peak(self) -> int:
        return max(self.sizes)


@asynccontextmanager
async def watched(pid: int) -> AsyncIterator[Memory]:
    """Samples the process until it ends, or the block does."""
    memory, process = Memory(), psutil.Process(pid)
    memory.sizes.append(process.memory_info().rss)

    async def sample() -> None:
        with suppress(psutil.NoSuchProcess):  # it ends between two questions
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                memory.sizes.append(process.memory_info().rss)
                await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        sampling = group.create_task(sample())
        yield memory
        sampling.cancel()


async def idle_size(worker: Ofevents) -> int:
    """What the worker takes when it is ready and has nothing to do; stops it."""
    async with watched(worker.process.pid) as memory:
        await worker.ready()
        await asyncio.sleep(2)  # let what it does at its start come to rest
        size = memory.sizes[-1]  # and not while it ends
    assert await worker.interrupt() == 0
    return size


def mebibytes(size: float) -> float:
    return size / 1024 / 1024


async def test_one_slow_function_leaves_its_backlog_on_the_bus(tmp_path: Path) -> None:
    async with (
        NatsServer(tmp_path / "nats") as server,
        Function(tmp_path / "charge") as charge,
        bus_at(server.url) as bus,
    ):
        charge.mode(delay=1.0)
        spec = await checkout(
            tmp_path, jetstream(server.url), f"{{name: charge, sink: {{uri: '{charge.url}'}}}}"
        )
        async with Ofevents(tmp_path, "trigger", "-f", spec, worker=True) as worker:
            idle = await idle_size(worker)
            await fill(bus, [f"order-{n}" for n in range(BACKLOG)])
            await worker.start()
            async with watched(worker.process.pid) as memory:
                # All that it took first has been accepted: from here on it is a round.
                await until(
                    lambda: len(charge.accepted()) > IN_HAND + 64,
                    seconds=150,  # 34 of them are the function's
                    what="everything in hand was replaced once",
                )
                left, inboxed = await unread(bus), await stored(bus, INBOX)
                charge.mode(delay=0.0)  # it has to accept what is in hand before it stops
                assert await worker.interrupt() == 0
            with Figures() as figures:
                figures.at_least("left on the bus", left, BACKLOG - 3 * IN_HAND, "events")
                figures.at_most("moved to the inbox", inboxed, IN_HAND, "deliveries")
                figures.at_most("peak RSS", mebibytes(memory.peak), mebibytes(idle + ROOM), "MiB")


async def test_a_fast_neighbour_sends_the_backlog_to_the_inbox(tmp_path: Path) -> None:
    async with (
        NatsServer(tmp_path / "nats") as server,
        Function(tmp_path / "charge") as charge,
        bus_at(server.url) as bus,
    ):
        charge.mode(delay=1.0)
        spec = await checkout(
            tmp_path,
            jetstream(server.url),
            f"{{name: charge, sink: {{uri: '{charge.url}'}}}}",
            "{name: audit, topic: audited}",
        )
        async with Ofevents(tmp_path, "trigger", "-f", spec, worker=True) as worker:
            idle = await idle_size(worker)
            await fill(bus, [f"order-{n}" for n in range(BACKLOG)])
            await worker.start()
            async with watched(worker.process.pid) as memory:
                began = time.monotonic()

                async def all_audited() -> bool:
                    await asyncio.sleep(0.5)
                    return await stored(bus, AUDITED) >= BACKLOG and await unread(bus) == 0

                await until(
                    all_audited, seconds=BACKLOG / RATE, what="the fast subscriber has got all"
                )
                rate = BACKLOG / (time.monotonic() - began)
                settled = len(charge.accepted())
                await until(
                    lambda: len(charge.accepted()) > settled + 200,
                    seconds=90,
                    what="the inbox is being served",
                )
                # A longer run has more of them served.
                waiting = await stored(bus, INBOX) + len(charge.accepted())
                charge.mode(delay=0.0)
                assert await worker.interrupt() == 0
            with Figures() as figures:
                figures.at_least("the fast subscriber's rate", rate, RATE, "events/s")
                figures.at_least(
                    "served, or in the inbox", waiting, BACKLOG - 5 * IN_HAND, "deliveries"
                )
                figures.at_most("peak RSS", mebibytes(memory.peak), mebibytes(idle + ROOM), "MiB")
