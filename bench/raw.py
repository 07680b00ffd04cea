"""The raw loops: nats-py, confluent-kafka and pyreqwest, no framework.

They do what a careful person would write by hand for the same job, and are the
yardstick that the framework is held against in the same run:

    python -m bench.raw source  BROKERS KAFKA_TOPIC NATS_URL SUBJECT
    python -m bench.raw trigger NATS_URL STREAM DURABLE SUBJECT [SINK_URL]

`trigger` without a sink only fetches and acknowledges.
"""

from __future__ import annotations

import asyncio
import sys

import nats
import orjson
import uvloop
from confluent_kafka import Consumer, TopicPartition
from nats.aio.msg import Msg
from pyreqwest.client import Client, ClientBuilder

BATCH = 256


async def source(brokers: str, topic: str, url: str, subject: str) -> None:
    """Kafka -> JetStream: publish a batch, wait for its acknowledgements, commit."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": f"raw-{topic}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    connection = await nats.connect(url)
    stream = connection.jetstream(publish_async_max_pending=4096)
    while True:
        records = await asyncio.to_thread(consumer.consume, BATCH, 0.1)
        futures = [
            await stream.publish_async(
                subject,
                record.value() or b"",
                headers={"Nats-Msg-Id": f"{record.partition()}/{record.offset()}"},
            )
            for record in records
            if not record.error()
        ]
        await asyncio.gather(*futures)
        if records:
            ends = {r.partition(): (r.offset() or 0) + 1 for r in records if not r.error()}
            offsets = [TopicPartition(topic, p or 0, o) for p, o in ends.items()]
            consumer.commit(offsets=offsets, asynchronous=True)


async def trigger(url: str, stream: str, durable: str, subject: str, sink: str | None) -> None:
    """JetStream -> filter -> HTTP: one task per match, 32 connections."""
    connection = await nats.connect(url)
    subscription = await connection.jetstream().pull_subscribe_bind(durable, stream)
    slots = asyncio.Semaphore(32)
    async with ClientBuilder().max_connections(32).build() as client, asyncio.TaskGroup() as group:
        while True:
            try:
                messages = await subscription.fetch(BATCH, timeout=1)
            except TimeoutError:
                continue
            for message in messages:
                if sink is None:
                    await message.ack()
                    continue
                parsed = orjson.loads(message.data)
                if not parsed["data"]["amount"] > 100:
                    await message.ack()
                    continue
                await slots.acquire()
                group.create_task(_deliver(client, sink, message, parsed, slots))


async def _deliver(
    client: Client, sink: str, message: Msg, event: dict[str, object], slots: asyncio.Semaphore
) -> None:
    headers = {f"ce-{k}": str(v) for k, v in event.items() if k != "data"}
    try:
        response = await (
            client.post(sink)
            .headers(headers)
            .body_bytes(orjson.dumps(event["data"]))
            .build()
            .send()
        )
        if response.status == 200:
            await message.ack()
    finally:
        slots.release()


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    if kind == "source":
        uvloop.run(source(*rest))
    else:
        uvloop.run(trigger(rest[0], rest[1], rest[2], rest[3], rest[4] if len(rest) > 4 else None))
