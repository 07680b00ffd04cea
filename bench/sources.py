"""Stage "sources": each source alone to the bus, beside a raw loop of the same client.

Some thousand events of about 300 bytes wait in the real server (the webhook is posted
to, 64 requests at a time). A worker of ours, a process of its own, publishes them to
JetStream, and so does the raw loop (`bench.raw_sources`; Kafka's is in `bench.raw`), which
makes no CloudEvents. A rate counts from the first stored event to the last, the CPU from
the start of the process. `cron` makes its events itself, one at a time; `kubernetes` is
as fast as the API server lists; `dapr` has a stage of its own.

Bounds: the share of the raw loop's rate in the same run.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
import nats
import paho.mqtt.client as paho
from pyreqwest.client import ClientBuilder
from redis.asyncio import Redis

from bench import load
from bench.load import row
from bench.processes import child, ofevents
from ofevents.api.resolved import ResolvedBus, ResolvedSource
from ofevents.bus import topics
from tests.servers import ServerMissing, free_port, listening, until
from tests.servers.kafka import KafkaServer
from tests.servers.mosquitto import Mosquitto
from tests.servers.nats import NatsServer
from tests.servers.rabbitmq import RabbitmqServer
from tests.servers.redis import RedisServer

Row = dict[str, Any]
TOPIC = topics.event("bench", "orders", "created")
SHARES = {
    "kafka": 0.4,
    "nats": 0.4,
    "redis": 0.3,
    "rabbitmq": 0.3,
    "mqtt": 0.3,
    "file": 0.2,
    "webhook": 0.4,
}
"""Of the raw loop's rate, at least."""


async def _nothing() -> None:
    """What waits in a server comes by itself."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A server in which the events wait, once for ours and once for the raw loop.

    Attributes:
        spec: of the source's entry.
        raw: the command line of the raw loop, without where the events go.
        send: what is to be done once ours, or the raw loop, runs.
        module: that the raw loop is in.
    """

    spec: dict[str, Any]
    raw: list[str]
    send: Callable[[], Awaitable[None]] = _nothing
    send_raw: Callable[[], Awaitable[None]] = _nothing
    module: str = "bench.raw_sources"
    kind: str = ""


def _bodies(count: int) -> list[bytes]:
    return [load.event(number).data or b"" for number in range(count)]


@asynccontextmanager
async def kafka(folder: Path, count: int) -> AsyncIterator[Feed]:
    async with KafkaServer() as server:
        for topic in ("ours", "raw"):
            load.create_topic(server.brokers, topic)
            load.fill_kafka(server.brokers, topic, count)
        spec = {"brokers": server.brokers, "topic": "ours"}
        yield Feed(spec, ["source", server.brokers, "raw"], module="bench.raw")


@asynccontextmanager
async def jetstream(folder: Path, count: int) -> AsyncIterator[Feed]:
    async with NatsServer(folder) as server:
        connection = await nats.connect(server.url)
        stream = connection.jetstream(publish_async_max_pending=4096)
        for name in ("ours", "raw"):
            await stream.add_stream(name=name, subjects=[f"{name}.>"])
            for body in _bodies(count):
                await stream.publish_async(f"{name}.x", body)
            await stream.publish_async_completed()
        await connection.close()
        spec = {"url": server.url, "subject": "ours.>", "jetstream": {"stream": "ours"}}
        yield Feed(spec, ["jetstream", server.url, "raw"], kind="nats")


@asynccontextmanager
async def redis(folder: Path, count: int) -> AsyncIterator[Feed]:
    async with RedisServer(folder) as server:
        url = f"redis://{server.address}"
        async with Redis.from_url(url) as client:
            for name in ("ours", "raw"):
                pipe = client.pipeline(transaction=False)
                for body in _bodies(count):
                    pipe.xadd(name, {"data": body})
                await pipe.execute()
        spec = {"redisHost": server.address, "stream": "ours", "initialId": "0"}
        yield Feed(spec, ["redis", url, "raw"])


@asynccontextmanager
async def rabbitmq(folder: Path, count: int) -> AsyncIterator[Feed]:
    async with RabbitmqServer() as server:
        connection = await aio_pika.connect(server.url)
        async with connection:
            channel = await connection.channel(publisher_confirms=False)
            for name in ("ours", "raw"):
                await channel.declare_queue(name, durable=True)
                for body in _bodies(count):
                    message = aio_pika.Message(body, content_type="application/json")
                    await channel.default_exchange.publish(message, name)
        yield Feed({"url": server.url, "queue": "ours"}, ["rabbitmq", server.url, "raw"])


@asynccontextmanager
async def mqtt(folder: Path, count: int) -> AsyncIterator[Feed]:
    """The sessions exist before, so that the broker keeps the messages for them."""
    async with Mosquitto(folder) as server:
        await asyncio.to_thread(_keep_for, server.port, "ours")
        await asyncio.to_thread(_keep_for, server.port, "raw")
        await asyncio.to_thread(_publish, server.port, _bodies(count))
        spec = {"url": server.url, "topic": "events", "consumerID": "ours", "qos": 1}
        yield Feed(spec, ["mqtt", str(server.port), "events"])


def _keep_for(port: int, client_id: str) -> None:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, clean_session=False)
    client.on_connect = lambda *_: client.subscribe("events", 1)
    client.on_subscribe = lambda *_: client.disconnect()
    client.connect("127.0.0.1", port)
    client.loop_forever()


def _publish(port: int, bodies: list[bytes]) -> None:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(1000)
    client.connect("127.0.0.1", port)
    client.loop_start()
    sent = [client.publish("events", body, 1) for body in bodies]
    for one in sent:
        one.wait_for_publish(30)
    client.disconnect()
    client.loop_stop()


@asynccontextmanager
async def file(folder: Path, count: int) -> AsyncIterator[Feed]:
    path = folder.with_suffix(".log")
    _write(path, count)
    yield Feed({"path": str(path), "format": "json"}, ["file", str(path)])


def _write(path: Path, count: int) -> None:
    path.write_bytes(b"".join(body + b"\n" for body in _bodies(count)))


@asynccontextmanager
async def webhook(folder: Path, count: int) -> AsyncIterator[Feed]:
    ours, raw = free_port(), free_port()
    bodies = _bodies(count)
    yield Feed(
        {"port": ours, "path": "/"},
        ["webhook", str(raw)],
        lambda: _post(ours, bodies),
        lambda: _post(raw, bodies),
    )


async def _post(port: int, bodies: list[bytes]) -> None:
    await until(lambda: listening(port), seconds=30, what=f"something listens on {port}")
    waiting = iter(bodies)
    url = f"http://127.0.0.1:{port}/"
    async with ClientBuilder().max_connections(64).build() as client:

        async def post() -> None:
            for body in waiting:
                sending = client.post(url).header("content-type", "application/json")
                response = await sending.body_bytes(body).build().send()
                assert response.status == 202, f"{url} answered {response.status}"

        await asyncio.gather(*(post() for _ in range(64)))


FEEDS = {
    "kafka": kafka,
    "nats": jetstream,
    "redis": redis,
    "rabbitmq": rabbitmq,
    "mqtt": mqtt,
    "file": file,
    "webhook": webhook,
}


async def stored(url: str, stream: str, wanted: int) -> float:
    """Events per second, from the first look that finds some to the last event."""
    connection = await nats.connect(url)
    manager = connection.jetstream()
    first, before, messages, now = 0.0, 0, 0, 0.0

    async def there() -> bool:
        nonlocal first, before, messages, now
        try:
            messages = (await manager.stream_info(stream)).state.messages
        except nats.js.errors.NotFoundError:
            return False
        now = time.monotonic()
        if messages and not first:
            first, before = now, messages
        await asyncio.sleep(0.01)
        return messages >= wanted

    try:
        await until(there, seconds=120, what=f"{wanted} events in stream {stream}")
    finally:
        await connection.close()
    return (messages - before) / max(now - first, 0.01)


async def measure(
    name: str, server: NatsServer, folder: Path, count: int, *, least: float
) -> list[Row]:
    """Ours and the raw loop, one after the other; `least` is the bound of their ratio."""
    log = folder / "children.log"
    async with FEEDS[name](folder / name, count) as feed:
        connection = await nats.connect(server.url)
        await connection.jetstream().add_stream(name=f"raw-{name}", subjects=[f"raw-{name}.>"])
        await connection.close()
        bus = ResolvedBus(
            name=name, driver="jetstream", options={"url": server.url, "stream": f"bench-{name}"}
        )
        spec = ResolvedSource(
            namespace="bench",
            name="orders",
            source=feed.kind or name,
            entry="created",
            spec=feed.spec,
            bus=bus,
            topic=TOPIC,
            dead_topic=topics.dead("bench", "source/orders"),
        )
        path = folder / f"{name}.json"
        path.write_text(spec.model_dump_json())
        async with child(name, ofevents("source", "-f", str(path)), log) as worker:
            ours, _ = await asyncio.gather(
                stored(server.url, f"bench-{name}-events", count), feed.send()
            )
            cpu = worker.cpu
        arguments = ["-m", feed.module, *feed.raw, server.url, f"raw-{name}.events"]
        async with child(f"raw {name}", arguments, log):
            raw, _ = await asyncio.gather(stored(server.url, f"raw-{name}", count), feed.send_raw())
    return [
        row(f"{name}, ours", ours, "events/s", least=100),
        row(f"{name}, raw loop", raw, "events/s"),
        row(f"{name}, ours / raw loop", ours / raw, "", least=least),
        row(f"{name}, CPU with start-up", cpu / count * 1000, "s/1,000 events", most=2.5),
    ]


async def _run(quick: bool) -> list[Row]:
    count = 3_000 if quick else 20_000
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ofevents-bench-")))
        server = await stack.enter_async_context(NatsServer(folder / "bus"))
        for name in FEEDS:
            print(f"sources: {name} ...", file=sys.stderr, flush=True)
            try:
                # Among few events one hiccup of the machine weighs much.
                least = SHARES[name] / 2 if quick else SHARES[name]
                rows += await measure(name, server, folder, count, least=least)
            except ServerMissing as error:
                print(f"sources: {name} left out: {error}", file=sys.stderr, flush=True)
    return rows


def run(*, quick: bool = False) -> list[Row]:
    """All figures of the stage; what a server is missing for is left out and said."""
    return asyncio.run(_run(quick))
