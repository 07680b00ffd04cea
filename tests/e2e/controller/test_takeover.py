"""Two controllers, one at work: after a kill -9 the other takes over, and nothing is torn."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ofevents.cluster import kinds
from tests.e2e.controller.rig import IMAGE, SYSTEM, TOKEN, Cluster, cron
from tests.e2e.controller.test_leaving import gone
from tests.e2e.processes import OFEVENTS, Program, get
from tests.servers import free_port, until
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

WITHIN = 15.0
"""Seconds until the lease has another holder: 9 s of the lease and a look for it are 11 s."""


async def acquired(cluster: Cluster) -> float:
    """When the lease got the holder that it has."""
    lease = await cluster.get(kinds.LEASE, "ofevents-controller", SYSTEM)
    assert lease is not None
    return datetime.fromisoformat(lease["spec"]["acquireTime"]).timestamp()


async def holder(cluster: Cluster) -> str:
    lease = await cluster.get(kinds.LEASE, "ofevents-controller", SYSTEM)
    return str(lease["spec"]["holderIdentity"]) if lease else ""


@asynccontextmanager
async def pauses() -> AsyncIterator[list[float]]:
    """The seconds that this machine stands still meanwhile, which nobody can take over in."""
    found: list[float] = []

    async def look() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.1)
            if (late := time.monotonic() - began - 0.1) > 0.5:
                found.append(late)

    looking = asyncio.create_task(look())
    try:
        yield found
    finally:
        looking.cancel()


def controller(cluster: Cluster, folder: Path, port: int) -> Program:
    config = cluster.api.kubeconfig(folder / f"{port}.kubeconfig", TOKEN)
    command: list[Any] = [OFEVENTS, "controller", "--image", IMAGE, "--kubeconfig", config]
    return Program(folder, *command, "--port", str(port), POD_NAME=f"controller-{port}")


async def test_another_takes_over_after_kill_9(
    cluster: Cluster, bus: NatsServer, tmp_path: Path
) -> None:
    ports = free_port(), free_port()
    first, second = (controller(cluster, tmp_path, port) for port in ports)
    async with first:

        async def held(by: int) -> bool:
            return (await holder(cluster)).startswith(f"controller-{by}_")

        await until(lambda: held(ports[0]), seconds=90, what="the first leads")
        async with second:
            await cluster.apply(cron("first-clock"))
            await cluster.have("first-clock", 1)
            await cluster.becomes(kinds.EVENT_SOURCE, "first-clock", "Ready", "Starting")

            async def stands_by() -> bool:
                status, text = await get(f"http://127.0.0.1:{ports[1]}/status")
                ready, _ = await get(f"http://127.0.0.1:{ports[1]}/readyz")
                return status == ready == 200 and "Standby" in text

            await until(stands_by, seconds=90, what="the second stands by")
            before = await cluster.versions()

            async with pauses() as paused:
                first.process.send_signal(signal.SIGKILL)
                killed = time.time()
                await first.process.wait()
                await cluster.apply(cron("later-clock"))
                await cluster.have("later-clock", 1, seconds=60)
            took = await acquired(cluster) - killed
            sys.stdout.write(f"taken over after {took:.1f} s, {sum(paused):.1f} s of a pause\n")
            assert 0 < took < WITHIN + sum(paused)
            assert await held(ports[1])
            after = await cluster.versions()
            assert {name: after[name] for name in before} == before

            # One that ends in good order lets go at once.
            second.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(second.process.wait(), 40) == 0
            assert await holder(cluster) == ""


async def test_one_that_was_frozen_ends_and_writes_nothing(
    cluster: Cluster, bus: NatsServer, tmp_path: Path
) -> None:
    ports = free_port(), free_port()
    first, second = (controller(cluster, tmp_path, port) for port in ports)

    async def held(by: int) -> bool:
        return (await holder(cluster)).startswith(f"controller-{by}_")

    async with first:
        await until(lambda: held(ports[0]), seconds=90, what="the first leads")
        async with second:
            await cluster.apply(cron("thaws"))
            (deployment,) = await cluster.have("thaws", 1)
            first.process.send_signal(signal.SIGSTOP)
            try:
                # What it would write the moment that it goes on.
                await cluster.delete(kinds.EVENT_SOURCE, "thaws")
                await cluster.apply(cron("thaws-later"))
                await until(lambda: held(ports[1]), seconds=90, what="the second leads")
                await cluster.have("thaws-later", 1)
                # It has written all that there is to write.
                await cluster.becomes(kinds.EVENT_SOURCE, "thaws-later", "Ready", "Starting")
                await gone(cluster, kinds.EVENT_SOURCE, "thaws")
                before = await cluster.versions()
            finally:
                first.process.send_signal(signal.SIGCONT)
            assert await asyncio.wait_for(first.process.wait(), 60) != 0
            assert "so that one alone writes" in first.log
            assert await cluster.versions() == before
            assert await held(ports[1])
            assert await second.terminate() == 0
    name = deployment["metadata"]["name"]
    if await cluster.get(kinds.DEPLOYMENT, name) is not None:  # Nobody here takes children along.
        await cluster.delete(kinds.DEPLOYMENT, name)
