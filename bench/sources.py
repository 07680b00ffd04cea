"""Stage "sources": each source alone to the bus, beside a raw loop of the same client.

The events wait in the real server (`bench.feeds`; the webhook is posted to, 64 requests
at a time). A worker of ours, a process of its own, publishes them to JetStream, and so
does the raw loop (`bench.raw_sources`; Kafka's is in `bench.raw`), which makes no
CloudEvents. A rate counts from the first stored event to the last, the CPU from the start
of the process.

`dapr` is a topic of Kafka that a sidecar reads: ours and the raw loop are called by daprd
with the same batches. `kubernetes` goes on with a watch, behind which the changes of
ConfigMaps wait; the raw loop is a bare watch, which keeps no position. Of the sources only
`cron` is not here: it makes its events itself, each at its time, so that there is no rate.

Bounds: the share of the raw loop's rate in the same run.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import nats

from bench.feeds import ENTRY, FEEDS, NAME, NAMESPACE, Feed
from bench.load import row
from bench.processes import child, ofevents
from ofevents.api.resolved import ResolvedBus, ResolvedSource
from ofevents.bus import topics
from tests.servers import ServerMissing, until
from tests.servers.nats import NatsServer

Row = dict[str, Any]
TOPIC = topics.event(NAMESPACE, NAME, ENTRY)
SHARES = {
    "kafka": 0.6,
    "dapr": 0.4,
    "nats": 0.6,
    "redis": 0.5,
    "rabbitmq": 0.5,
    "mqtt": 0.6,
    "file": 0.3,
    "webhook": 0.5,
    "kubernetes": 0.25,
}
"""Of the raw loop's rate, at least."""
FEW = {"kubernetes": 3}
"""So many times fewer events of a feed whose server takes its time to make them."""


async def stored(url: str, stream: str, wanted: int, *, before: int = 0) -> float:
    """Events per second, from the first look that finds more than `before` to the last event."""
    connection = await nats.connect(url)
    first, found, messages, now = 0.0, 0, 0, 0.0

    async def there() -> bool:
        nonlocal first, found, messages, now
        messages = await _messages(connection, stream)
        now = time.monotonic()
        if messages > before and not first:
            first, found = now, messages
        await asyncio.sleep(0.01)
        return messages >= before + wanted

    try:
        await until(there, seconds=120, what=f"{wanted} events in stream {stream}")
    finally:
        await connection.close()
    return (messages - found) / max(now - first, 0.01)


async def _messages(connection: nats.NATS, stream: str) -> int:
    try:
        return int((await connection.jetstream().stream_info(stream)).state.messages)
    except nats.js.errors.NotFoundError:
        return 0


async def _begun(feed: Feed, url: str, stream: str) -> int:
    """Events in the stream once the worker, which runs, has seen a probe."""
    assert feed.probe is not None
    probe, connection = feed.probe, await nats.connect(url)

    async def seen() -> bool:
        await probe()
        return await _messages(connection, stream) > 0

    try:
        await until(seen, seconds=60, what=f"the first event in stream {stream}")
        return await _messages(connection, stream)
    finally:
        await connection.close()


async def measure(
    name: str, server: NatsServer, folder: Path, count: int, *, slack: float = 1
) -> list[Row]:
    """Ours and the raw loop, one after the other; each bound is `slack` times as wide."""
    log = folder / "children.log"
    async with FEEDS[name](folder / name, count) as feed:
        connection = await nats.connect(server.url)
        await connection.jetstream().add_stream(name=f"raw-{name}", subjects=[f"raw-{name}.>"])
        await connection.close()
        bus = ResolvedBus(
            name=name, driver="jetstream", options={"url": server.url, "stream": f"bench-{name}"}
        )
        spec = ResolvedSource(
            namespace=NAMESPACE,
            name=NAME,
            source=feed.kind or name,
            entry=ENTRY,
            spec=feed.spec,
            bus=bus,
            topic=TOPIC,
            dead_topic=topics.dead(NAMESPACE, f"source/{NAME}"),
        )
        path = folder / f"{name}.json"
        path.write_text(spec.model_dump_json())
        stream, command = f"bench-{name}-events", ofevents("source", "-f", str(path))
        before = 0
        if feed.probe is not None:
            async with child(name, command, log, env=feed.env):
                before = await _begun(feed, server.url, stream)
            await feed.fill()
        async with child(name, command, log, env=feed.env) as worker:
            ours, _ = await asyncio.gather(
                stored(server.url, stream, count, before=before), feed.send()
            )
            cpu = worker.cpu
        arguments = ["-m", feed.module, *feed.raw, server.url, f"raw-{name}.events"]
        async with child(f"raw {name}", arguments, log):
            raw, _ = await asyncio.gather(stored(server.url, f"raw-{name}", count), feed.send_raw())
    spent = cpu / count * 1000
    return [
        row(f"{name}, ours", ours, "events/s", least=500 / slack),
        row(f"{name}, raw loop", raw, "events/s"),
        row(f"{name}, ours / raw loop", ours / raw, "", least=SHARES[name] / slack),
        row(f"{name}, CPU with start-up", spent, "s/1,000 events", most=0.8 * slack),
    ]


async def _run(quick: bool) -> list[Row]:
    most = 3_000 if quick else 20_000
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ofevents-bench-")))
        server = await stack.enter_async_context(NatsServer(folder / "bus"))
        for name in FEEDS:
            print(f"sources: {name} ...", file=sys.stderr, flush=True)
            try:
                # Among few events one hiccup of the machine weighs much, and so does the start.
                slack = 8 if quick else 1
                count = most // FEW.get(name, 1)
                rows += await measure(name, server, folder, count, slack=slack)
            except ServerMissing as error:
                print(f"sources: {name} left out: {error}", file=sys.stderr, flush=True)
    return rows


def run(*, quick: bool = False) -> list[Row]:
    """All figures of the stage; what a server is missing for is left out and said."""
    return asyncio.run(_run(quick))
