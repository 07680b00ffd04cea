"""What stage "sources" reads: real servers in which the events wait, twice.

Called by `bench.sources`. Each feed starts its server, puts some thousand events of about
300 bytes into it for ours and for the raw loop, and tells how either reads them.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
import nats
import paho.mqtt.client as paho
from pyreqwest.client import ClientBuilder
from redis.asyncio import Redis

from bench import load
from ofevents.api import dapr as components
from ofevents.api.platform import DaprComponent
from ofevents.ports import SourceIdentity
from tests.servers import free_port, listening, until
from tests.servers.daprd import Daprd
from tests.servers.kafka import KafkaServer
from tests.servers.kube_api import ADMIN, KubeApi
from tests.servers.mosquitto import Mosquitto
from tests.servers.nats import NatsServer
from tests.servers.rabbitmq import RabbitmqServer
from tests.servers.redis import RedisServer

NAMESPACE, NAME, ENTRY = "bench", "orders", "created"
"""Of the source that reads them."""


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
        kind: of the source, where it is not the feed's name.
        env: of the worker, beside what is there.
        probe: of a source that begins with what comes after its first start: makes one
            event, until ours has seen one. Ours is ended then, and `fill` makes the others.
    """

    spec: dict[str, Any]
    raw: list[str]
    send: Callable[[], Awaitable[None]] = _nothing
    send_raw: Callable[[], Awaitable[None]] = _nothing
    module: str = "bench.raw_sources"
    kind: str = ""
    env: dict[str, str] = field(default_factory=dict)
    probe: Callable[[], Awaitable[None]] | None = None
    fill: Callable[[], Awaitable[None]] = _nothing


def _bodies(count: int) -> list[bytes]:
    return [load.event(number).data or b"" for number in range(count)]


@asynccontextmanager
async def _filled_kafka(count: int) -> AsyncIterator[KafkaServer]:
    """Kafka with a topic of events for ours, and one for the raw loop."""
    async with KafkaServer() as server:
        for topic in ("ours", "raw"):
            load.create_topic(server.brokers, topic)
            load.fill_kafka(server.brokers, topic, count)
        yield server


@asynccontextmanager
async def kafka(folder: Path, count: int) -> AsyncIterator[Feed]:
    async with _filled_kafka(count) as server:
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
    async with Mosquitto(folder, durable=False) as server:
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
    await until(lambda: listening(port), seconds=90, what=f"something listens on {port}")
    waiting = iter(bodies)
    url = f"http://127.0.0.1:{port}/"
    async with ClientBuilder().max_connections(64).build() as client:

        async def post() -> None:
            for body in waiting:
                sending = client.post(url).header("content-type", "application/json")
                response = await sending.body_bytes(body).build().send()
                assert response.status == 202, f"{url} answered {response.status}"

        await asyncio.gather(*(post() for _ in range(64)))


@asynccontextmanager
async def dapr(folder: Path, count: int) -> AsyncIterator[Feed]:
    """A topic of Kafka behind a sidecar for each, which calls the worker with batches."""
    async with _filled_kafka(count) as server:
        settings = {"brokers": server.brokers, "authType": "none"}
        component = {
            "type": "pubsub.kafka",
            "metadata": [{"name": key, "value": value} for key, value in settings.items()],
        }
        read = DaprComponent.model_validate(component)
        group = SourceIdentity(NAMESPACE, NAME, "dapr", ENTRY).group
        name = components.name_of(NAMESPACE, NAME, ENTRY)
        ours, raw = (
            Daprd(
                folder / whose,
                [components.input_component(name, read, of)],
                app_id=whose,
                app_port=free_port(),
            )
            for whose, of in (("ours", group), ("raw", "raw"))
        )
        async with ours, raw:
            spec = {
                "component": component,
                "topic": "ours",
                "sidecar": ours.address,
                "appPort": ours.app_port,
            }
            yield Feed(spec, ["dapr", str(raw.app_port), name, "raw"])


@asynccontextmanager
async def kubernetes(folder: Path, count: int) -> AsyncIterator[Feed]:
    """ConfigMaps, made while nobody watches; the API server remembers their changes."""
    async with KubeApi(folder) as api:
        path = "/api/v1/namespaces/default/configmaps"
        version = (await api.call("GET", f"{path}?limit=1"))["metadata"]["resourceVersion"]
        names = (f"order-{number}" for number in itertools.count())
        data = {"order": (load.event(0).data or b"").decode()}
        trust = ssl.create_default_context(cafile=str(api.ca))

        async def create(session: aiohttp.ClientSession, some: Iterator[str]) -> None:
            for name in some:
                body = {"metadata": {"name": name}, "data": data}
                async with session.post(api.url + path, json=body) as answer:
                    assert answer.status == 201, await answer.text()

        async def make(number: int) -> None:
            some = (next(names) for _ in range(number))
            connector = aiohttp.TCPConnector(ssl=trust)
            headers = {"Authorization": f"Bearer {ADMIN}"}
            async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
                await asyncio.gather(*(create(session, some) for _ in range(32)))

        config = api.kubeconfig(folder / "config")
        yield Feed(
            {"apiVersion": "v1", "kind": "ConfigMap", "namespace": "default"},
            ["kubernetes", api.url + path, str(api.ca), ADMIN, version],
            env={"KUBECONFIG": str(config)},
            probe=lambda: make(1),
            fill=lambda: make(count),
        )


FEEDS = {
    "kafka": kafka,
    "dapr": dapr,
    "nats": jetstream,
    "redis": redis,
    "rabbitmq": rabbitmq,
    "mqtt": mqtt,
    "file": file,
    "webhook": webhook,
    "kubernetes": kubernetes,
}
