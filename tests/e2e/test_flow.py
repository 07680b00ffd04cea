"""Kafka and webhook to HTTP and a topic: every worker a process, counted at the end."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.flow import TOPIC, flow, opened, post, write
from tests.e2e.processes import ROOT, Ofevents, Program, idle
from tests.servers import until
from tests.servers.octokit import payloads

pytestmark = pytest.mark.timeout(500)


async def test_opened_pull_requests_reach_the_function_and_the_topic(tmp_path: Path) -> None:
    """GitHub's own payloads, by webhook and by Kafka: each match exactly once, nothing else."""
    calls = payloads()
    wanted = [opened(call) for call in calls]
    assert 0 < sum(wanted) < len(calls)
    read = tmp_path / "read"
    reader = [sys.executable, str(ROOT / "tests/e2e/reader.py"), "opened", str(read)]
    async with (
        flow(tmp_path) as made,
        Program(tmp_path, *reader, OFEVENTS_BUS_URL=made.bus.url),
        Ofevents(tmp_path, "trigger", "-f", made.specs["reviews"], worker=True) as trigger,
        Ofevents(tmp_path, "source", "-f", made.specs["github/hooks"], worker=True) as hooks,
        Ofevents(tmp_path, "source", "-f", made.specs["github/records"], worker=True) as records,
    ):
        for worker in (trigger, hooks, records):
            await worker.ready()
        assert await post(made.hook, calls[0], secret="another secret") == 401
        assert {await post(made.hook, call) for call in calls} == {202}
        ids = await write(made.kafka, [call.body for call in calls])
        expected = [call.id for call, hit in zip(calls, wanted, strict=True) if hit]
        expected += [id for id, hit in zip(ids, wanted, strict=True) if hit]

        async def all_there() -> bool:
            return len(await made.sink.ids()) >= len(expected) and len(lines(read)) >= len(expected)

        await until(all_there, seconds=120, what=f"{len(expected)} deliveries")
        # More, where its session ran out meanwhile: the bus knows what is read again.
        await until(
            lambda: _over(records, "ofevents_source_published_total", len(calls) - 1),
            seconds=60,
            what="every record of Kafka is on the bus",
        )
        await idle(made.bus.url)
        assert sorted(await made.sink.ids()) == sorted(expected)
        assert sorted(lines(read)) == sorted(expected)


async def _over(worker: Ofevents, metric: str, value: float) -> bool:
    return await worker.metric(metric) > value


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def numbered(count: int) -> list[bytes]:
    return [b'{"number": %d}' % n for n in range(count)]


async def test_two_trigger_processes_share_the_work(tmp_path: Path) -> None:
    async with (
        flow(tmp_path, filter="true", concurrency=8, delay=0.005) as made,
        Ofevents(tmp_path, "trigger", "-f", made.specs["reviews"], worker=True) as one,
        Ofevents(tmp_path, "trigger", "-f", made.specs["reviews"], worker=True) as two,
        Ofevents(tmp_path, "source", "-f", made.specs["github/records"], worker=True) as source,
    ):
        for worker in (one, two, source):
            await worker.ready()
        ids = await write(made.kafka, numbered(4000))

        async def all_there() -> bool:
            return len(await made.sink.ids()) >= len(ids)

        await until(all_there, seconds=150, what="all deliveries")
        await idle(made.bus.url)
        assert sorted(await made.sink.ids()) == sorted(ids)
        shares = [await worker.metric("ofevents_delivered_total") for worker in (one, two)]
        assert min(shares) > len(ids) / 10, f"of {len(ids)} deliveries (twice each): {shares}"


async def test_a_trigger_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    async with (
        flow(tmp_path, filter="true", concurrency=8, delay=0.005) as made,
        Ofevents(tmp_path, "trigger", "-f", made.specs["reviews"], worker=True) as trigger,
        Ofevents(tmp_path, "source", "-f", made.specs["github/records"], worker=True) as source,
    ):
        await trigger.ready()
        await source.ready()
        ids = await write(made.kafka, numbered(1500))
        for share in (0.2, 0.6):

            async def part(share: float = share) -> bool:
                return len(set(await made.sink.ids())) >= share * len(ids)

            await until(part, seconds=120, what=f"{share:.0%} of the deliveries")
            await trigger.kill()
            await trigger.start()

        async def all_there() -> bool:
            return set(ids) <= set(await made.sink.ids())

        await until(all_there, seconds=150, what="all deliveries")
        assert set(await made.sink.ids()) == set(ids)


async def test_a_source_that_is_killed_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    """What it had emitted and not committed comes again, and the bus knows it already."""
    async with (
        flow(tmp_path, filter="true") as made,
        Ofevents(tmp_path, "trigger", "-f", made.specs["reviews"], worker=True) as trigger,
        Ofevents(tmp_path, "source", "-f", made.specs["github/records"], worker=True) as source,
    ):
        await trigger.ready()
        await source.ready()
        ids: list[str] = []
        for _ in range(3):
            # In the middle of it: offsets are committed once a second. Each time there is more
            # to read, however late it was killed the last time.
            ids += await write(made.kafka, numbered(4000), first=len(ids))
            await until(
                lambda: _over(source, "ofevents_source_published_total", 1000),
                seconds=60,
                what="a thousand records on the bus",
            )
            await source.kill()
            await source.start()

        async def all_there() -> bool:
            return set(ids) <= set(await made.sink.ids())

        await until(all_there, seconds=150, what="all deliveries")
        await idle(made.bus.url)
        repeated = [id for id, times in Counter(await made.sink.ids()).items() if times > 1]
        assert repeated == []


async def test_kafka_goes_down_and_comes_back(tmp_path: Path) -> None:
    async with (
        flow(tmp_path, filter="true") as made,
        Ofevents(tmp_path, "trigger", "-f", made.specs["reviews"], worker=True) as trigger,
    ):
        await made.kafka.kill()
        spec = made.specs["github/records"]
        async with Ofevents(tmp_path, "source", "-f", spec, worker=True) as source:
            await source.says("cannot be reached")
            assert source.process.returncode is None
            await made.kafka.start()
            await trigger.ready()
            await source.ready()
            ids = await write(made.kafka, numbered(100))
            await made.kafka.restart()
            ids += await write(made.kafka, numbered(100), first=100)

            async def all_there() -> bool:
                return set(ids) <= set(await made.sink.ids())

            await until(all_there, seconds=120, what=f"all records of {TOPIC}")
