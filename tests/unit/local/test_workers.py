"""Supervision: one worker's trouble is its own, stopping drains, then cuts off."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ofevents.api.resolved import ResolvedSource
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.health import Health
from ofevents.local import workers as module
from ofevents.local.screen import JsonScreen
from ofevents.local.workers import Run, Spec, Workers, key
from tests.servers import until


def spec(name: str) -> ResolvedSource:
    return ResolvedSource(namespace="default", name=name, source="cron", entry="e", spec={})


class Seen:
    def __init__(self) -> None:
        self.health = Health(SystemClock())
        self.out = io.StringIO()

    def states(self) -> dict[str, str]:
        return {one.resource: one.state for one in self.health.snapshots()}


@asynccontextmanager
async def running(run: Run) -> AsyncIterator[tuple[Workers, Seen]]:
    seen = Seen()
    async with asyncio.timeout(40), asyncio.TaskGroup() as group:
        workers = Workers(group, run, health=seen.health, screen=JsonScreen(seen.out))
        yield workers, seen
        await workers.stop(list(workers.specs), within=1.0)


async def test_a_port_in_use_stalls_one_and_leaves_the_others() -> None:
    seen_health: list[Health] = []

    async def run(spec: Spec, stop: asyncio.Event) -> None:
        if spec.name == "bad":
            raise ConfigError("port 8080 is in use")
        seen_health[0].worker(*key(spec)).ready()
        await stop.wait()

    async with running(run) as (workers, seen):
        seen_health.append(seen.health)
        workers.start([spec("bad"), spec("good")])
        want = {"default/bad/e": "stalled", "default/good/e": "ready"}
        await until(lambda: seen.states() == want, seconds=20, what="both states")
        bad = seen.health.snapshots()[0]
        assert (bad.reason, bad.message) == ("Misconfigured", "port 8080 is in use")


async def test_a_crash_is_told_with_its_traceback_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_BACKOFF", 0.05)
    runs: list[str] = []

    async def run(spec: Spec, stop: asyncio.Event) -> None:
        runs.append(spec.name)
        if len(runs) < 3:
            raise RuntimeError("a bug")
        await stop.wait()

    async with running(run) as (workers, seen):
        workers.start([spec("s")])
        await until(lambda: len(runs) == 3, seconds=20, what="the third run")
        assert "RuntimeError: a bug" in seen.out.getvalue()


async def test_stopping_waits_for_what_is_in_hand() -> None:
    finished: list[str] = []
    began = asyncio.Event()

    async def run(spec: Spec, stop: asyncio.Event) -> None:
        began.set()
        await stop.wait()
        await asyncio.sleep(0.05)
        finished.append(spec.name)

    async with running(run) as (workers, _):
        workers.start([spec("s")])
        await began.wait()
        assert await workers.stop([key(spec("s"))], within=30.0) == []
        assert finished == ["s"]
        assert workers.specs == {}


async def test_what_does_not_finish_is_cut_off_and_counted() -> None:
    cancelled: list[bool] = []
    health: list[Health] = []

    async def run(spec: Spec, stop: asyncio.Event) -> None:
        worker = health[0].worker(*key(spec))
        worker.in_flight = 3
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    async with running(run) as (workers, seen):
        health.append(seen.health)
        workers.start([spec("s")])
        await asyncio.sleep(0)
        told = await workers.stop([key(spec("s"))], within=0.05)
        assert cancelled == [True]
        assert told == [
            "3 events were still in flight at EventSource default/s/e: not acknowledged: "
            "what its origin keeps comes again at the next start"
        ]
