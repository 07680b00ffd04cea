"""/healthz, /readyz, /status and /metrics over a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from ofevents.clock import ManualClock
from ofevents.health import Health
from ofevents.local import admin


@asynccontextmanager
async def serving(health: Health) -> AsyncIterator[Any]:
    stop, url = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(
            admin.serve(health, host="127.0.0.1", port=0, stop=stop, started=url.set_result)
        )
        async with aiohttp.ClientSession(await url) as session:

            async def get(path: str) -> tuple[int, Any]:
                async with session.get(path) as response:
                    json = response.content_type == "application/json"
                    return response.status, await (response.json() if json else response.text())

            yield get
        stop.set()


async def test_health_is_progress() -> None:
    clock = ManualClock()
    health = Health(clock)
    worker = health.worker("Trigger", "default/t")
    worker.ready("2 topics")
    async with serving(health) as get:
        assert (await get("/healthz"))[0] == 200
        await clock.advance(admin.LIVE_LIMIT + 1)
        assert (await get("/healthz"))[0] == 503
        with worker.waiting("the bus"):
            assert (await get("/healthz"))[0] == 200


async def test_ready_names_who_is_not() -> None:
    health = Health(ManualClock())
    health.worker("EventSource", "default/a/x").ready()
    health.worker("EventSource", "default/b/y").stalled("Misconfigured", "port in use")
    async with serving(health) as get:
        status, answer = await get("/readyz")
        assert status == 503
        assert answer["notReady"] == [
            {"kind": "EventSource", "resource": "default/b/y", "reason": "Misconfigured"}
        ]
        _, shown = await get("/status")
        assert [row["state"] for row in shown["workers"]] == ["ready", "stalled"]
        assert shown["workers"][1]["message"] == "port in use"
        status, metrics = await get("/metrics")
        assert status == 200
        assert "ofevents_delivered" in metrics
