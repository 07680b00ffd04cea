"""A bus without room refuses and says so: sources wait, webhooks answer 503, none is lost."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.flow import flow, post, write
from tests.e2e.processes import Ofevents, get, idle
from tests.servers import until
from tests.servers.octokit import Webhook

pytestmark = pytest.mark.timeout(500)
CLIENTS = 4
"""Senders of webhooks, each with one request at a time."""


def push(id: str) -> Webhook:
    return Webhook(id=id, name="push", action="", body=b'{"pad": "%s"}' % (b"x" * 20_000))


async def post_until_refused(url: str, name: str) -> tuple[list[Webhook], Webhook, int]:
    """One after the other: those with a 202, the first without one, and what it was told."""
    taken: list[Webhook] = []
    while True:
        call = push(f"{name}-{len(taken)}")
        if (status := await post(url, call)) != 202:
            return taken, call, status
        taken.append(call)
        await asyncio.sleep(0.05)  # leaves the room to Kafka's records


async def test_a_full_bus_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = [b'{"number": %d, "pad": "%s"}' % (n, b"x" * 1000) for n in range(2000)]
    async with (
        flow(tmp_path, filter="true", max_bytes="1Mi") as made,
        Ofevents(tmp_path, "trigger", "-f", made.specs["reviews"], worker=True) as trigger,
        Ofevents(tmp_path, "source", "-f", made.specs["github/records"], worker=True) as source,
        Ofevents(tmp_path, "source", "-f", made.specs["github/hooks"], worker=True) as hooks,
    ):
        for worker in (trigger, source, hooks):
            await worker.ready()
        await trigger.kill()  # its position stays: what it has not settled may not go
        assert await post(made.hook, push("first")) == 202
        clients = [
            asyncio.create_task(post_until_refused(made.hook, f"client{n}")) for n in range(CLIENTS)
        ]
        ids = await write(made.kafka, large)

        async def full() -> bool:
            return "BusFull" in (await get(f"{source.probes}/status"))[1]

        await until(full, seconds=90, what="the source says that the bus is full")
        assert source.process.returncode is None
        async with asyncio.timeout(120):
            posted = await asyncio.gather(*clients)
        taken = ["first", *(call.id for calls, _, _ in posted for call in calls)]
        refused = [call for _, call, _ in posted]
        told = [status for _, _, status in posted]
        assert told == [503] * CLIENTS, "a client is told to come again"
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"{hooks.probes}/healthz")
            assert answer.status == 200, "a full bus is no reason for a restart"
        await trigger.start()

        async def all_there() -> bool:
            return {*ids, *taken} <= set(await made.sink.ids())

        await until(all_there, seconds=150, what="all that was taken, once there is room again")
        await idle(made.bus.url)  # what is accepted has its room until it is settled
        for call in refused:
            assert await post(made.hook, call) == 202
        await idle(made.bus.url)
        came = set(await made.sink.ids())
    sent = {*ids, *taken, *(call.id for call in refused)}
    with capsys.disabled():
        sys.stdout.write(
            f"\nfull bus: {len(ids)} records and {len(taken)} posts with a 202, "
            f"{len(sent - came)} lost (at most 0); {told.count(503)} of {CLIENTS} clients "
            f"told 503 (all)\n"
        )
    assert came == sent
