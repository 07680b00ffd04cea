"""Many resources: time, requests and memory grow with their count, and no faster."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from ofevents.cluster import kinds
from ofevents.cluster.client import Api
from tests.e2e.controller.rig import (
    IMAGE,
    SYSTEM,
    TOKEN,
    Cluster,
    cron,
    open_bus,
    open_cluster,
    trigger,
)
from tests.e2e.processes import OFEVENTS, Program, get
from tests.servers import free_port, until

RATIO = 5.5
"""500 against 100."""
MEMORY = 250.0
"""MiB of the controller's process."""
REQUESTS = 16.0
"""Of a resource: a look and a write for each child, finalizer, status."""


@dataclass
class Figures:
    """Of one run with `count` EventSources and as many Triggers."""

    count: int
    seconds: float
    work: float
    """Seconds of the processor: what a busy machine does not change."""
    resync: float
    requests: float
    memory: float

    def __str__(self) -> str:
        return (
            f"{self.count} + {self.count}: {self.seconds:.1f} s until all is there "
            f"({self.work:.1f} s of work), {self.requests:.1f} requests a resource, "
            f"full resync {self.resync:.2f} s, {self.memory:.0f} MiB"
        )


async def metric(port: int, name: str) -> float:
    _, text = await get(f"http://127.0.0.1:{port}/metrics")
    found = re.findall(rf"^{name}(?:{{.*}})? ([0-9.e+]+)$", text, re.M)
    return sum(map(float, found))


async def declare(cluster: Cluster, count: int) -> None:
    gate = asyncio.Semaphore(16)
    async with Api(cluster.api.kubeconfig(cluster.folder / "admin.kubeconfig")) as api:

        async def one(number: int) -> None:
            async with gate:
                for each in cron(f"clock-{number}"), trigger(f"audit-{number}", f"clock-{number}"):
                    await api.apply(each, manager="kubectl")

        await asyncio.gather(*map(one, range(count)))


async def measure(count: int, folder: Path) -> Figures:
    """Declare them, start a controller, and look until it has nothing to do."""
    async with open_cluster(folder / "kube") as cluster, open_bus(folder / "nats", cluster):
        await declare(cluster, count)
        port = free_port()
        config = cluster.api.kubeconfig(folder / "kubeconfig", TOKEN)
        command: list[Any] = [OFEVENTS, "controller", "--image", IMAGE, "--kubeconfig", config]
        program = Program(folder, *command, "--port", str(port), "--lease-namespace", SYSTEM)
        began = time.monotonic()
        async with program:
            expected = 2 * count + 1

            async def settled() -> bool:
                await asyncio.sleep(0.2)  # Each look takes time from what is measured.
                done = await metric(port, "ofevents_controller_reconciled_total")
                waiting = await metric(port, "ofevents_controller_queued")
                return done >= expected and waiting == 0

            await until(settled, seconds=300, what="all is reconciled")
            seconds = time.monotonic() - began
            assert len(await cluster.all(kinds.DEPLOYMENT)) == 2 * count
            requests = await metric(port, "ofevents_kubernetes_requests_total")
            times = psutil.Process(program.process.pid).cpu_times()
            memory = psutil.Process(program.process.pid).memory_info().rss / 2**20
            await program.terminate()
        restarted = Program(folder, *command, "--port", str(port), "--lease-namespace", SYSTEM)
        before = await cluster.versions()
        began = time.monotonic()
        async with restarted:
            await until(settled, seconds=300, what="all is looked at again")
            resync = time.monotonic() - began
        assert await cluster.versions() == before
        work = times.user + times.system
        return Figures(count, seconds, work, resync, requests / (2 * count), memory)


def judge(small: Figures, large: Figures) -> None:
    """Bounds of all figures; the ratio is that of 500 to 100 where the counts are others."""
    sys.stdout.write(f"{small}\n{large}\n")
    factor = RATIO * large.count / small.count / 5
    assert large.seconds <= factor * small.seconds
    assert large.work <= factor * small.work
    assert large.resync <= factor * small.resync
    assert max(small.requests, large.requests) <= REQUESTS
    assert large.memory <= MEMORY


@pytest.mark.timeout(120)
async def test_thirty(tmp_path: Path) -> None:
    found = await measure(30, tmp_path)
    sys.stdout.write(f"{found}\n")
    assert found.requests <= REQUESTS
    assert found.memory <= MEMORY
    assert max(found.seconds, found.resync) <= 50
    assert found.work <= 10


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_a_hundred_and_five_hundred(tmp_path: Path) -> None:
    judge(await measure(100, tmp_path / "small"), await measure(500, tmp_path / "large"))
