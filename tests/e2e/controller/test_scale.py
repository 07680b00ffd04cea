"""Many resources: time, requests and memory grow with their count, and no faster.

Times are as on a machine of its own: what other processes have taken of the processors
meanwhile is not counted, so that a ratio of two runs means something while they are busy.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable
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
    """Seconds of the processor that the controller has taken."""
    resync: float
    requests: float
    memory: float
    waited: float
    """Seconds of the clock on the wall."""

    def __str__(self) -> str:
        return (
            f"{self.count} + {self.count}: {self.seconds:.1f} s until all is there "
            f"({self.work:.1f} s of work, {self.waited:.1f} s with what else the machine did), "
            f"{self.requests:.1f} requests a resource, full resync {self.resync:.2f} s, "
            f"{self.memory:.0f} MiB"
        )


class Stopwatch:
    """The time since it was made, without what others have taken of the processors.

    Args:
        own: seconds of the processors that are ours, so far.
    """

    def __init__(self, own: Callable[[], float]) -> None:
        self._own = own
        self._began = time.monotonic(), _busy(), own()

    @property
    def waited(self) -> float:
        return time.monotonic() - self._began[0]

    def seconds(self) -> float:
        others = (_busy() - self._began[1]) - (self._own() - self._began[2])
        return self.waited - max(0.0, others) / (psutil.cpu_count() or 1)


def _busy() -> float:
    """Seconds of all processors that have been used."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice


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
        command += ["--port", str(port), "--lease-namespace", SYSTEM]
        program, again = Program(folder, *command), Program(folder, *command)

        def work(program: Program) -> float:
            times = psutil.Process(program.process.pid).cpu_times()
            return times.user + times.system

        async def settled() -> bool:
            await asyncio.sleep(0.2)  # Each look takes time from what is measured.
            done = await metric(port, "ofevents_controller_reconciled_total")
            waiting = await metric(port, "ofevents_controller_queued")
            return done > 2 * count and waiting == 0

        async def whole() -> bool:
            """Nothing waits any more; the last ones may still be worked on."""
            return len(await cluster.all(kinds.DEPLOYMENT)) == 2 * count

        async with program:
            watch = Stopwatch(lambda: work(program) + cluster.api.work())
            await until(settled, seconds=300, what="all is reconciled")
            seconds, waited = watch.seconds(), watch.waited
            await until(whole, seconds=60, what=f"{2 * count} Deployments")
            requests = await metric(port, "ofevents_kubernetes_requests_total")
            memory = psutil.Process(program.process.pid).memory_info().rss / 2**20
            taken = work(program)
            await program.terminate()
        before = await cluster.versions()
        async with again:
            watch = Stopwatch(lambda: work(again) + cluster.api.work())
            await until(settled, seconds=300, what="all is looked at again")
            resync = watch.seconds()
        assert await cluster.versions() == before
        each = requests / (2 * count)
        return Figures(count, seconds, taken, resync, each, memory, waited)


def judge(small: Figures, large: Figures) -> None:
    """Bounds of all figures; the ratio is that of 500 to 100 where the counts are others."""
    sys.stdout.write(f"{small}\n{large}\n")
    factor = RATIO * large.count / small.count / 5
    assert large.seconds <= factor * small.seconds
    assert large.work <= factor * small.work
    assert large.resync <= factor * small.resync
    assert max(small.requests, large.requests) <= REQUESTS
    assert large.memory <= MEMORY
    assert large.waited <= 280


@pytest.mark.timeout(360)
async def test_thirty(tmp_path: Path) -> None:
    found = await measure(30, tmp_path)
    sys.stdout.write(f"{found}\n")
    assert found.requests <= REQUESTS
    assert found.memory <= MEMORY
    assert max(found.seconds, found.resync) <= 20
    assert found.waited <= 60
    assert found.work <= 10


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_a_hundred_and_five_hundred(tmp_path: Path) -> None:
    judge(await measure(100, tmp_path / "small"), await measure(500, tmp_path / "large"))
