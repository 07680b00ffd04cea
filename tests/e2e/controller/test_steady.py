"""Nothing changed, so nothing is written: over a resync, and over a controller's restart."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from ofevents.cluster import kinds
from tests.e2e.controller.rig import Cluster, Running, cron, resource, secret, trigger
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="session")]

PAUSE = 5.0


async def fill(cluster: Cluster, running: Running) -> None:
    """Some of everything, of which some does not work, and wait until all is told."""
    login = {"valueFrom": {"secretKeyRef": {"name": "steady-login", "key": "token"}}}
    sink = {"uri": "http://log.shop.svc/", "auth": {"bearer": login}}
    await cluster.apply(
        secret("steady-login", token="x"),
        cron("steady"),
        cron("with-sink", sink={"uri": "http://log.shop.svc/"}),
        trigger("reads-steady", "steady"),
        trigger("with-login", subscribers=[{"name": "log", "sink": sink}]),
        trigger("dangles", source="nowhere"),
        trigger("blocked", eventBus="nowhere"),
        resource("EventBus", "steady-embedded", {"jetstream": {}}),
        resource("EventBus", "steady-away", {"jetstream": {"url": "nats://127.0.0.1:1"}}),
        trigger("bus-away", eventBus="steady-away"),
    )
    expected = {"steady": 1, "with-sink": 2, "reads-steady": 1, "with-login": 1}
    for owner, count in expected.items():
        for deployment in await cluster.have(owner, count):
            await cluster.play(deployment)
    await cluster.becomes(kinds.TRIGGER, "bus-away", "Stalled", "Disconnected")
    for owner in expected:
        kind = kinds.EVENT_SOURCE if owner in ("steady", "with-sink") else kinds.TRIGGER
        await cluster.becomes(kind, owner, "Ready", "Running")
    await cluster.becomes(kinds.EVENT_BUS, "steady-away", "Stalled", "Disconnected")
    await running.idle()


@pytest.mark.parametrize(
    "seconds", [0, pytest.param(300, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
async def test_a_steady_state_is_not_written_to(
    cluster: Cluster, bus: NatsServer, seconds: float
) -> None:
    async with cluster.controller() as running:
        await fill(cluster, running)
        before, writes = await cluster.versions(), running.writes
        until_then, resyncs = time.monotonic() + seconds, 0
        while resyncs < 3 or time.monotonic() < until_then:
            running.resync()
            await running.idle()
            resyncs += 1
            # Timers of the controller's own have their turn, too.
            await asyncio.sleep(min(PAUSE, seconds))
        sys.stdout.write(f"no write in {resyncs} resyncs\n")
        assert running.writes - writes == 0
        assert await cluster.versions() == before
    async with cluster.controller() as restarted:
        await restarted.idle()
        # Once more, with all that the first look has found out.
        restarted.resync()
        await restarted.idle()
        assert restarted.writes == 0
    assert await cluster.versions() == before
