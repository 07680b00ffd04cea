"""The raw loops of stage "sources": read, publish to JetStream, acknowledge.

Each does with its client library what a careful person would write by hand, a batch at a
time, and is the yardstick of ours in the same run:

    python -m bench.raw_sources KIND ARGUMENTS... NATS_URL SUBJECT
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aio_pika
import aiohttp
import nats
import orjson
import paho.mqtt.client as paho
import uvicorn
import uvloop
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.raw_dapr import Callback, bulk

BATCH = 256
Store = Callable[[Sequence[bytes]], Awaitable[None]]
"""Returns when JetStream has stored them."""


async def redis(url: str, stream: str, store: Store) -> None:
    client = Redis.from_url(url)
    await client.xgroup_create(stream, "raw", id="0")
    while True:
        found = await client.xreadgroup("raw", "one", {stream: ">"}, count=BATCH, block=1000)
        for _, entries in found:
            await store([orjson.dumps({k.decode(): v.decode() for k, v in f.items()})
                         for _, f in entries])  # fmt: skip
            await client.xack(stream, "raw", *[id for id, _ in entries])


async def rabbitmq(url: str, queue: str, store: Store) -> None:
    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    await channel.set_qos(100)
    came: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
    await (await channel.get_queue(queue)).consume(came.put)
    while True:
        batch = [await came.get()]
        while not came.empty():
            batch.append(came.get_nowait())
        await store([one.body for one in batch])
        await batch[-1].ack(multiple=True)


async def mqtt(port: str, topic: str, store: Store) -> None:
    loop = asyncio.get_running_loop()
    came: asyncio.Queue[paho.MQTTMessage] = asyncio.Queue()
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2, "raw", clean_session=False, manual_ack=True
    )
    client.on_connect = lambda *_: client.subscribe(topic, 1)
    client.on_message = lambda _, __, message: loop.call_soon_threadsafe(came.put_nowait, message)
    client.connect("127.0.0.1", int(port))
    client.loop_start()
    while True:
        batch = [await came.get()]
        while not came.empty():
            batch.append(came.get_nowait())
        await store([one.payload for one in batch])
        for one in batch:
            client.ack(one.mid, one.qos)


async def jetstream(url: str, stream: str, store: Store) -> None:
    connection = await nats.connect(url)
    subscription = await connection.jetstream().pull_subscribe(f"{stream}.>", "raw", stream)
    while True:
        try:
            batch = await subscription.fetch(BATCH, timeout=1)
        except TimeoutError:
            continue
        await store([one.data for one in batch])
        for one in batch:
            await one.ack()


async def file(path: str, store: Store) -> None:
    with Path(path).open("rb") as lines:  # noqa: ASYNC230 - a local file, as ours reads it
        while batch := lines.readlines(BATCH * 300):
            await store([one.rstrip() for one in batch])
    await asyncio.Event().wait()


async def webhook(port: str, store: Store) -> None:
    async def take(request: Request) -> Response:
        await store([await request.body()])
        return Response(status_code=202)

    app = Starlette(routes=[Route("/", take, methods=["POST"])])
    await uvicorn.Server(uvicorn.Config(app, port=int(port), log_level="error")).serve()


async def dapr(port: str, component: str, topic: str, store: Store) -> None:
    """Called by a sidecar, with batches as ours asks for them."""
    subscription = bulk(component, topic, most=100, wait_ms=20)
    async with Callback(store, subscription).listening(int(port)):
        await asyncio.Event().wait()


async def kubernetes(url: str, ca: str, token: str, version: str, store: Store) -> None:
    """A bare watch, which keeps no position."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca))
    headers = {"Authorization": f"Bearer {token}"}
    query = {"watch": "true", "resourceVersion": version}
    async with (
        aiohttp.ClientSession(connector=connector, headers=headers) as session,
        session.get(url, params=query) as answer,
    ):
        rest = b""
        async for chunk in answer.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            await store([orjson.dumps(orjson.loads(line)["object"]) for line in lines])


async def main(kind: str, *arguments: str) -> None:
    """The last two arguments are where the events go."""
    *arguments_of_kind, url, subject = arguments
    connection = await nats.connect(url)
    stream = connection.jetstream(publish_async_max_pending=4096)
    stored = 0

    async def store(bodies: Sequence[bytes]) -> None:
        nonlocal stored
        futures = []
        for body in bodies:
            stored += 1
            headers = {"Nats-Msg-Id": f"{kind}/{stored}"}
            futures.append(await stream.publish_async(subject, body, headers=headers))
        await asyncio.gather(*futures)

    await LOOPS[kind](*arguments_of_kind, store)


LOOPS: dict[str, Callable[..., Awaitable[None]]] = {
    "dapr": dapr,
    "file": file,
    "jetstream": jetstream,
    "kubernetes": kubernetes,
    "mqtt": mqtt,
    "rabbitmq": rabbitmq,
    "redis": redis,
    "webhook": webhook,
}

if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
