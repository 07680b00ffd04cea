"""A bus without room refuses and says so: sources wait, webhooks answer 503, none is lost."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from tests.e2e.flow import flow, post, write
from tests.e2e.processes import Ofevents, get, idle
from tests.servers import until
from tests.servers.octokit import Webhook

pytestmark = pytest.mark.timeout(180)


async def test_a_full_bus_loses_nothing(tmp_path: Path) -> None:
    large = [b'{"number": %d, "pad": "%s"}' % (n, b"x" * 1000) for n in range(2000)]
    call = Webhook(id="late", name="push", action="", body=b'{"pad": "%s"}' % (b"x" * 20_000))
    async with (
        flow(tmp_path, filter="true", max_bytes="1Mi") as made,
        Ofevents(tmp_path, "trigger", "-f", made.specs["reviews"], worker=True) as trigger,
        Ofevents(tmp_path, "source", "-f", made.specs["github/records"], worker=True) as source,
        Ofevents(tmp_path, "source", "-f", made.specs["github/hooks"], worker=True) as hooks,
    ):
        for worker in (trigger, source, hooks):
            await worker.ready()
        await trigger.kill()  # its position stays: what it has not settled may not go
        ids = await write(made.kafka, large)

        async def full() -> bool:
            return "BusFull" in (await get(f"{source.probes}/status"))[1]

        await until(full, seconds=30, what="the source says that the bus is full")
        assert source.process.returncode is None
        assert await post(made.hook, call) == 503
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"{hooks.probes}/healthz")
            assert answer.status == 200, "a full bus is no reason for a restart"
        await trigger.start()

        async def all_there() -> bool:
            return set(ids) <= set(await made.sink.ids())

        await until(all_there, seconds=90, what="every record, once there is room again")
        assert await post(made.hook, call) == 202
        await idle(made.bus.url)
        assert set(await made.sink.ids()) == {*ids, "late"}
