"""The fault suite's sidecars behave as a kubelet has them: up only with their broker, and kept up.

A daprd without its broker says for some milliseconds that it is healthy, and ends. A rig
that took such a one for started left the worker beside it alone for the rest of the run.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.faults.dapr_buses import Sidecar
from tests.servers import until
from tests.servers.daprd import component
from tests.servers.nats import NatsServer

pytestmark = pytest.mark.timeout(500)

ENDED = "daprd will exit gracefully"
TRIES = 4
"""Without its broker: every second one says that it is healthy."""


async def test_a_sidecar_is_up_when_its_broker_is_and_comes_back(tmp_path: Path) -> None:
    nats = NatsServer(tmp_path / "nats")
    pubsub = component("bus", "pubsub.jetstream", natsURL=nats.url)
    sidecar = Sidecar(tmp_path / "sidecar", [pubsub])
    starting = asyncio.create_task(sidecar.start())

    def tried() -> bool:
        return starting.done() or sidecar.log(1 << 20).count(ENDED) >= TRIES

    try:
        await until(tried, seconds=120, what="it has ended without its broker, again and again")
        assert not starting.done(), "it was taken for started"
        async with nats:
            await asyncio.wait_for(starting, 90)
            first = sidecar.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await until(lambda: sidecar.pid != first, seconds=60, what="it is started again")
            await until(sidecar.loaded, seconds=90, what="it is back by itself")
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await sidecar.kill()
