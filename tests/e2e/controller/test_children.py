"""What runs follows what is declared: children appear, change and go, and nobody else's do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ofevents.cluster import kinds
from tests.e2e.controller.rig import (
    Cluster,
    cron,
    open_bus,
    open_cluster,
    trigger,
)

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with open_cluster(tmp_path / "kube") as one:
        yield one


async def test_children_follow_what_is_declared(cluster: Cluster, tmp_path: Path) -> None:
    async with open_bus(tmp_path, cluster), cluster.controller():
        await cluster.apply(cron(), trigger())
        (source,) = await cluster.have("clock", 1)
        (reader,) = await cluster.have("audit", 1)
        await cluster.becomes(kinds.TRIGGER, "audit", "Ready", "Starting")
        for each in (source, reader):
            await cluster.play(each)
        ready = await cluster.becomes(kinds.TRIGGER, "audit", "Ready", "Running")
        assert (ready["status"], ready["observedGeneration"]) == ("True", 1)
        await cluster.becomes(kinds.EVENT_SOURCE, "clock", "Ready", "Running")
        await cluster.becomes(kinds.EVENT_BUS, "default", "Ready", "Connected")

        more = {"tick": {"schedule": "@every 1h"}, "tock": {"schedule": "@every 2h"}}
        await cluster.apply(cron(cron=more))
        await cluster.have("clock", 2)
        await cluster.apply(cron(cron={"tock": {"schedule": "@every 2h"}}))
        (left,) = await cluster.have("clock", 1)
        assert left["metadata"]["name"] != source["metadata"]["name"]
