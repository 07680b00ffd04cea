"""What holds the flow back: suspend, limits, a slow bus, a full one; and nothing is lost.

Every worker is a process, the functions are in the test's own loop. `test_full_bus`
has the full bus on a server of its own, with Kafka as the source.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.orders import Calls, bus, caller, functions, posting, source, trigger, write
from tests.e2e.processes import Ofevents, get, idle, specs
from tests.servers import free_port, until
from tests.servers.nats import NatsServer
from tests.servers.sink import Answer

pytestmark = pytest.mark.timeout(400)

RATE, CONCURRENCY, ORDERS = 150, 4, 700
"""More orders than a subscriber may have in hand beside another one: some go by its inbox."""


def subscriber(calls: Calls, path: str, **delivery: Any) -> dict[str, Any]:
    return {"name": path[1:], "sink": calls.target(path), "delivery": delivery}


@asynccontextmanager
async def stall() -> AsyncIterator[list[float]]:
    """How late, in seconds, this event loop was each time it looked; on a busy machine."""
    late = [0.0]

    async def look() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.01
            await asyncio.sleep(0.01)
            late.append(loop.time() - due)

    looking = asyncio.create_task(look())
    yield late
    looking.cancel()


async def test_rate_and_concurrency_hold_and_are_used(tmp_path: Path) -> None:
    port = free_port()
    async with NatsServer(tmp_path / "nats") as server, functions() as calls:
        calls.answers = {"/few": Answer(delay=0.02)}
        limited = trigger(
            subscriber(calls, "/rate", rateLimit=f"{RATE}/s"),
            subscriber(calls, "/few", concurrency=CONCURRENCY),
        )
        resources = write(tmp_path / "all.yaml", bus(server.url), source(port), limited)
        made = await specs(resources, tmp_path / "specs")
        async with Ofevents(tmp_path, "source", "-f", made["shop/orders"], worker=True) as shop:
            await shop.ready()
            async with caller(port) as posted:
                while len(posted.accepted) < ORDERS:
                    assert await posted.order() == 202
        async with (
            stall() as stalled,  # from before the first call, which is there before it is ready
            Ofevents(tmp_path, "trigger", "-f", made["checkout"], worker=True) as worker,
        ):
            await worker.ready()
            await calls.all_of("/few", set(range(ORDERS)))
            await calls.all_of("/rate", set(range(ORDERS)))
            inboxed = await worker.metric("ofevents_inboxed_total")
        assert sorted(calls.numbers("/rate")) == list(range(ORDERS))
        assert sorted(calls.numbers("/few")) == list(range(ORDERS))
    assert inboxed > 0, "nothing went by the inbox"
    most = max(call.at_once for call in calls.of("/few"))
    times = [call.time for call in calls.of("/rate")]
    span = times[-1] - times[0]
    rate = (ORDERS - 1) / span
    per_second = max(sum(begin <= t < begin + 1 for t in times) for begin in times)
    # A tenth of a second's calls may follow each other at once; and what comes while this
    # process stands still is seen at once, the first ones so much too late. The same goes for
    # the worker's, between its turn and its call; nobody here knows how long that was.
    late = max(stalled) + 0.3
    assert per_second <= RATE * (1.1 + late), f"{rate:.0f}/s in all, {max(stalled)} s"
    assert (ORDERS - 1) / (span + max(stalled)) <= 1.1 * RATE, f"at most {per_second} in a second"
    # In its best second: a worker that waits for its turn does not catch up later.
    assert per_second >= 0.6 * RATE, f"{rate:.0f}/s in all"
    assert most == CONCURRENCY


async def test_suspended_triggers_and_sources_lose_nothing(tmp_path: Path) -> None:
    port = free_port()
    async with NatsServer(tmp_path / "nats") as server, functions() as calls:

        async def resolved(name: str, **suspended: bool) -> dict[str, Path]:
            resources = write(
                tmp_path / "all.yaml",
                bus(server.url),
                source(port, suspend=suspended.get("source", False)),
                trigger(
                    subscriber(calls, "/charge"),
                    startFrom="now",
                    suspend=suspended.get("trigger", False),
                ),
            )
            return await specs(resources, tmp_path / name)

        def checkout(made: dict[str, Path]) -> Ofevents:
            return Ofevents(tmp_path, "trigger", "-f", made["checkout"], worker=True)

        def shop(made: dict[str, Path]) -> Ofevents:
            return Ofevents(tmp_path, "source", "-f", made["shop/orders"], worker=True)

        running, away = await resolved("running"), await resolved("away", trigger=True)
        closed = await resolved("closed", source=True)
        async with shop(running) as hooks, caller(port) as posted:
            async with checkout(running) as worker:
                await hooks.ready()
                await worker.ready()
                for _ in range(20):
                    assert await posted.order() == 202
                await calls.all_of("/charge", set(range(20)))
                await idle(server.url)
                assert await worker.terminate() == 0
            async with checkout(away) as worker:
                await until(lambda: _suspended(worker), seconds=60, what="it is suspended")
                for _ in range(20):
                    assert await posted.order() == 202
                assert len(calls.of("/charge")) == 20
                assert await worker.terminate() == 0
            assert await hooks.terminate() == 0
            async with checkout(running) as worker, shop(closed) as shut:
                await calls.all_of("/charge", set(range(40)))  # it goes on where it was
                await until(lambda: _suspended(shut), seconds=60, what="it is suspended")
                assert await posted.order() == 503
                assert posted.retry_after == ["60"]
                assert await shut.terminate() == 0
                async with shop(running) as hooks:
                    await hooks.ready()
                    assert await posted.order() == 202
                    await calls.all_of("/charge", {41})
                await idle(server.url)
        assert sorted(calls.numbers("/charge")) == [*range(40), 41]


async def _suspended(worker: Ofevents) -> bool:
    return '"suspended"' in (await get(f"{worker.probes}/status"))[1]


async def test_a_bus_that_hangs_is_no_reason_to_hang(tmp_path: Path) -> None:
    """The server is stopped in the stream: every caller has its answer, and 202 is kept."""
    port = free_port()
    async with NatsServer(tmp_path / "nats") as server, functions() as calls:
        made = await specs(
            write(
                tmp_path / "all.yaml",
                bus(server.url),
                source(port),
                trigger(subscriber(calls, "/charge")),
            ),
            tmp_path / "specs",
        )
        async with (
            Ofevents(tmp_path, "source", "-f", made["shop/orders"], worker=True) as shop,
            Ofevents(tmp_path, "trigger", "-f", made["checkout"], worker=True) as worker,
        ):
            await shop.ready()
            await worker.ready()
            async with posting(port, expected=(202, 503)) as posted:
                await posted.some(20)
                os.kill(server.pid, signal.SIGSTOP)
                try:
                    await until(
                        lambda: bool(posted.retry_after), seconds=30, what="a caller hears of it"
                    )
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                await posted.some(20)
            await calls.all_of("/charge", set(posted.accepted))
            await idle(server.url)
        slowest = max(seconds for _, seconds in posted.answered.values())
        assert slowest < 25, "the caller's patience is 30 s or less"
        assert all(int(one) >= 1 for one in posted.retry_after)
        # What was answered 503 may have been stored all the same; nothing else may be there.
        assert set(posted.accepted) <= set(calls.numbers("/charge")) <= set(posted.answered)


async def test_an_embedded_bus_that_is_full_drains(tmp_path: Path) -> None:
    """A stuck function fills a small bus: callers get 503, and 202 was no promise too much."""
    port = free_port()
    folder = tmp_path / "resources"
    folder.mkdir()
    async with functions() as calls:
        calls.answers["/charge"] = Answer(how="hang")
        write(
            folder / "all.yaml",
            bus("", maxBytes="1Mi"),
            source(port),
            trigger(
                subscriber(calls, "/charge", timeout="2s", backoff="100ms", maxBackoff="1s",
                           retries=1000),
                subscriber(calls, "/audit"),
            ),
        )  # fmt: skip
        pad = "x" * 20_000
        async with Ofevents(tmp_path, "run", "-f", folder, "--watch") as run:
            await run.says(f"http://127.0.0.1:{port}/orders")
            async with caller(port) as posted:
                while (status := await posted.order(pad=pad)) == 202:
                    assert len(posted.accepted) < 1000, "the bus takes far more than it has"
                assert status == 503
                assert int(posted.retry_after[0]) >= 1
                status, _ = await get(posted.url)
                assert status == 405, "it no longer answers at all"
                stored = set(posted.accepted)
                assert len(stored) >= 30
                assert not calls.of("/charge")
                calls.answers.clear()
                await calls.all_of("/charge", stored)

                async def room() -> bool:
                    return await posted.order(pad=pad) == 202

                await until(room, seconds=60, what="there is room again")
            await calls.all_of("/charge", set(posted.accepted))
            await calls.all_of("/audit", set(posted.accepted))
            assert await run.interrupt() == 0
        assert set(calls.numbers("/charge")) <= set(range(posted.begun))
