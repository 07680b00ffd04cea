"""What only the dapr source has: a worker dies and its sidecar lives on; bytes; a cron binding."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from ofevents.api import dapr as components
from ofevents.api.platform import DaprSpec
from ofevents.clock import SystemClock
from ofevents.conformance.source_rig import Emitted, Working, within, working
from ofevents.ports import SourceIdentity
from ofevents_adapters.dapr import DaprSource
from tests.conformance.rigs import dapr_source
from tests.servers import free_port, until
from tests.servers.daprd import Daprd

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", autouse=True)
def shared_servers() -> Iterator[None]:
    yield
    asyncio.run(dapr_source.close())


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


FAILS, GONE = "rror processing", "App entered un-healthy status"


@pytest.mark.parametrize("sees", [FAILS, GONE], ids=["soon_back", "long_gone"])
@pytest.mark.parametrize("variant", ["kafka", "kafka_binding", "jetstream", "redis"])
async def test_a_worker_that_dies_loses_nothing_though_its_sidecar_goes_on(
    variant: str, sees: str
) -> None:
    """Soon back, it takes events that come behind those whose calls have failed meanwhile."""
    async with getattr(dapr_source, f"open_{variant}")() as rig:
        rig.outlives = True
        emit, worker, source = Emitted(rig), Working(), rig.make()
        running = asyncio.create_task(worker.run(source, rig, emit))
        await within(lambda: bool(worker.started), "started was called")
        keys = list(await rig.feed(20))
        await emit.settles(keys)
        emit.gate.clear()
        keys += await rig.feed(20)
        await within(lambda: emit.inside > 0, "a record came to emit")
        await _end(running)
        keys += await rig.feed(20)
        await until(
            lambda: sees in source.daprd.log(100_000),
            seconds=60,
            what="the sidecar calls nobody",
        )
        emit.gate.set()
        running = asyncio.create_task(worker.run(source, rig, emit))
        keys += await rig.feed(20)
        await emit.settles(keys)
        await _end(running)


async def _asked_in_vain(daprd: Daprd, *, looks: bool) -> None:
    """Start it, and let it ask somebody on its app's port who gives no answer.

    Without a health check it asks until it gives up, with one it looks now and then.
    """
    calls = 0

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", daprd.app_port)
    async with server:
        await daprd.start()
        await until(
            lambda: calls >= 5 if looks else "error getting topic list" in daprd.log(100_000),
            seconds=120,
            what="it has asked in vain",
        )


@pytest.mark.parametrize("variant", ["jetstream", "kafka_binding"])
async def test_a_sidecar_that_has_asked_in_vain_asks_again(variant: str) -> None:
    async with getattr(dapr_source, f"open_{variant}")() as rig:
        emit, source = Emitted(rig), rig.make()
        rig.daprds.append(source.daprd)
        await _asked_in_vain(source.daprd, looks=True)
        keys = await rig.feed(5)
        running = asyncio.create_task(Working().run(source, rig, emit))
        await emit.settles(keys)
        await _end(running)


async def test_a_sidecar_that_does_not_ask_again_is_told_of() -> None:
    async with dapr_source.open_jetstream() as rig:
        rig.health_check = False
        source, worker = rig.make(), Working()
        rig.daprds.append(source.daprd)
        await _asked_in_vain(source.daprd, looks=False)
        running = asyncio.create_task(worker.run(source, rig, Emitted(rig)))
        await within(lambda: bool(worker.lost), "Disconnected was raised")
        assert "--enable-app-health-check" in str(worker.lost[0])
        assert not worker.started
        await _end(running)


@pytest.mark.parametrize("variant", ["kafka", "jetstream", "stream", "redis"])
async def test_a_cloudevent_arrives_byte_for_byte(variant: str) -> None:
    data = b'{"b": 9007199254740993, "a": 1.10, "c": "<&>"}'
    plain = (
        b'{"specversion":"1.0","id":"i","source":"/s","type":"t","time":"2024-01-02T03:04:05.678901'
        b'+02:00","traceparent":"00-1","count":3,"data":%b}' % data
    )
    binary = orjson.dumps(
        {
            **{"specversion": "1.0", "id": "j", "source": "/s", "type": "t"},
            **{"datacontenttype": "image/png", "data_base64": base64.b64encode(b"\x00\xff")},
        },
        default=bytes.decode,
    )
    async with getattr(dapr_source, f"open_{variant}")() as rig:
        emit = Emitted(rig)
        async with working(rig, emit):
            await rig.put([plain, binary], False)
            await within(lambda: {event.id for event in emit.settled} == {"i", "j"}, "both arrive")
    found = {event.id: event for event in emit.settled}
    assert found["i"].data == data
    assert found["i"].attributes["time"] == "2024-01-02T03:04:05.678901+02:00"
    assert found["i"].attributes["traceparent"] == "00-1"
    assert found["i"].attributes["count"] == 3
    assert found["j"].data == b"\x00\xff"


async def test_a_cron_binding_calls_the_worker(tmp_path: Path) -> None:
    port = free_port()
    identity = SourceIdentity("default", "shop", "dapr", "tick")
    daprd = Daprd(tmp_path, app_port=port)
    schedule = {"name": "schedule", "value": "@every 1s"}
    spec = DaprSpec.model_validate(
        {
            "component": {"type": "bindings.cron", "metadata": [schedule]},
            "sidecar": daprd.address,
            "appPort": port,
        }
    )
    assert spec.component is not None
    name = components.name_of("default", "shop", "tick")
    daprd.write(components.input_component(name, spec.component, identity.group))
    source = DaprSource(spec, identity, clock=SystemClock())
    assert source.features.guarantee == "at-most-once"
    seen = []

    async def emit(*events: object) -> None:
        seen.extend(events)

    async with daprd:
        running = asyncio.create_task(source.run(emit, store=None, started=lambda where: None))
        try:
            await until(lambda: len(seen) >= 2 or running.done(), seconds=60, what="it ticks twice")
        finally:
            await _end(running)
    first, second = seen[:2]
    assert first.attributes["subject"] == name
    assert first.id != second.id
    assert "daprreadtimeutc" in first.attributes
