"""`ofevents run` with dapr sources and sinks: it runs a daprd beside each worker.

Through Kafka, a topic and an input binding: nothing is lost when the sidecars are
killed in the stream, or the run itself, and the same event has the same id whenever it
comes. The events leave through an output binding.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.conformance.rigs.sinks import KafkaReader
from tests.e2e.processes import Ofevents
from tests.servers import daprd, until
from tests.servers.kafka import KafkaServer

pytestmark = pytest.mark.timeout(900)
COUNT = 200
"""Events of each source and part: before a kill, and meanwhile."""


def component(type: str, **settings: str) -> dict[str, Any]:
    return {"type": type, "metadata": [{"name": k, "value": v} for k, v in settings.items()]}


def write(folder: Path, brokers: str) -> None:
    """Two sources without a bus, and a sink that is an output binding."""
    kafka = {"brokers": brokers, "authType": "none", "sessionTimeout": "6s"}
    out = component("bindings.kafka", brokers=brokers, authType="none", publishTopic="out")
    spec = {
        "sink": {"dapr": {"component": out, "operation": "create"}},
        "dapr": {
            "topic": {"component": component("pubsub.kafka", **kafka), "topic": "orders"},
            "binding": {"component": component("bindings.kafka", topics="bound", **kafka)},
        },
    }
    document = {
        "apiVersion": "events.openfunction.io/v1alpha1",
        "kind": "EventSource",
        "metadata": {"name": "shop"},
        "spec": spec,
    }
    folder.mkdir()
    (folder / "all.yaml").write_text(yaml.safe_dump(document))


def sidecars(folder: Path) -> list[psutil.Process]:
    """The daprds that run for this folder."""
    found: list[psutil.Process] = []
    for one in psutil.process_iter(["cmdline"]):
        line = one.info["cmdline"] or [""]
        if Path(line[0]).name.startswith("daprd") and str(folder) in " ".join(line):
            found.append(one)
    return found


@pytest.fixture(autouse=True)
def _no_sidecar_is_left(tmp_path: Path) -> Iterator[None]:
    """A killed run leaves its sidecars to the next one, and a test that fails has none."""
    yield
    for one in sidecars(tmp_path):
        with suppress(psutil.NoSuchProcess):
            one.kill()


class Records:
    """What is put into both topics, numbered."""

    def __init__(self, kafka: KafkaServer) -> None:
        self.kafka = kafka
        self.sent: set[tuple[str, int]] = set()
        self._count = itertools.count()

    async def put(self, count: int) -> None:
        numbers = [next(self._count) for _ in range(count)]
        for topic in ("orders", "bound"):
            await self.kafka.produce(
                topic,
                [{"key": b"k%d" % (n % 7), "value": b'{"number":%d}' % n} for n in numbers],
            )
            self.sent |= {(topic, n) for n in numbers}


async def arrived(reader: KafkaReader) -> dict[tuple[str, int], set[str]]:
    """Which records came, each with its ids."""
    found: dict[tuple[str, int], set[str]] = {}
    for event in await reader():
        key = str(event.attributes["subject"]), int(event.value["number"])
        found.setdefault(key, set()).add(event.id)
    return found


async def settle(records: Records, reader: KafkaReader) -> None:
    async def all_of() -> bool:
        return records.sent <= set(await arrived(reader))

    await until(all_of, seconds=180, what=f"all {len(records.sent)} records arrive")


async def test_nothing_is_lost(tmp_path: Path) -> None:
    binary = await asyncio.to_thread(daprd.binary)
    async with KafkaServer() as kafka:
        for topic in ("orders", "bound"):
            await kafka.create_topic(topic, 4)
        await kafka.create_topic("out", 1)
        reader = KafkaReader(kafka.brokers, "out")
        write(tmp_path / "files", kafka.brokers)
        records = Records(kafka)
        await records.put(COUNT)
        run = Ofevents(tmp_path / "logs", "run", "-f", tmp_path / "files", "--daprd", binary)
        async with run:
            await settle(records, reader)
            # The sidecars die in the stream.
            before = len(await arrived(reader))
            await records.put(COUNT)
            await until(lambda: _more(reader, before), seconds=90, what="the stream goes on")
            found = sidecars(tmp_path)
            assert len(found) == 2, found
            for one in found:
                one.kill()
            await settle(records, reader)
            # And then the run itself, its sidecars left behind.
            before = len(await arrived(reader))
            await records.put(COUNT)
            await until(lambda: _more(reader, before), seconds=90, what="the stream goes on")
            await run.kill()
            await records.put(COUNT)
            await run.start()
            await settle(records, reader)
            assert len(sidecars(tmp_path)) == 2, "those of the killed run are ended"
            assert await run.interrupt() == 0
        several = {key: ids for key, ids in (await arrived(reader)).items() if len(ids) > 1}
        assert several == {}, "a record that comes again has the same id"
        assert sidecars(tmp_path) == []
        await asyncio.to_thread(reader.close)


async def _more(reader: KafkaReader, than: int) -> bool:
    return len(await arrived(reader)) > than


async def test_without_a_daprd_it_says_how_to_get_one(tmp_path: Path) -> None:
    write(tmp_path / "files", "127.0.0.1:1")
    run = Ofevents(tmp_path / "logs", "run", "-f", tmp_path / "files", "--daprd", tmp_path / "no")
    async with run:
        await until(
            lambda: "no program is there" in " ".join(run.log.split()),
            seconds=60,
            what="it says so",
        )
