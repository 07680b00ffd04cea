"""The load of the benchmarks: the events, Kafka pre-filled or paced, a bus pre-filled.

The event is the one the peers were measured with: a structured CloudEvent of
about 300 bytes; every second one has `amount` over 100 and so matches.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from ofevents.event import Event
from ofevents.ports import Bus, Message

PARTITIONS = 4
FILTER = "event.data.amount > 100"


def event(number: int) -> Event:
    """Event `number`; it matches `FILTER` when the number is odd."""
    data = {
        "amount": 150 if number % 2 else 50,
        "country": "NL",
        "customer": f"customer-{number:08d}",
        "note": "x" * 24,
    }
    return Event.create(
        id=f"evt-{number}-{time.time_ns()}",
        source="/bench",
        type="bench.order",
        time="2026-01-01T00:00:00Z",
        datacontenttype="application/json",
        data=orjson.dumps(data),
    )


def create_topic(brokers: str, topic: str) -> None:
    """A Kafka topic with four partitions."""
    admin = AdminClient({"bootstrap.servers": brokers})
    for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1)]).values():
        future.result(30)


def _produce(producer: Producer, topic: str, number: int) -> None:
    producer.produce(
        topic,
        event(number).to_json(),
        partition=number % PARTITIONS,
        headers=[("content-type", b"application/cloudevents+json")],
    )


def fill_kafka(brokers: str, topic: str, count: int) -> None:
    """Produce `count` events as fast as it goes and wait until Kafka has them."""
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 5})
    for number in range(count):
        _produce(producer, topic, number)
        if number % 1000 == 0:
            producer.poll(0)
    left = producer.flush(60)
    assert left == 0, f"{left} events were not stored by Kafka"


async def pace_kafka(brokers: str, topic: str, *, per_second: int, seconds: float) -> int:
    """Produce at an even pace; returns how many were sent."""
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0})
    start = time.monotonic()
    count = int(per_second * seconds)
    for number in range(count):
        wait = start + number / per_second - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        _produce(producer, topic, number)
        producer.poll(0)
    producer.flush(30)
    return count


async def fill_bus(bus: Bus, topic: str, count: int) -> None:
    """Publish `count` events on a topic of the bus."""
    for start in range(0, count, 500):
        messages = [Message(event(n), "bench") for n in range(start, min(start + 500, count))]
        await bus.publish(topic, *messages)


def row(
    name: str, figure: float, unit: str, *, least: float | None = None, most: float | None = None
) -> dict[str, Any]:
    """One printed figure; `least` or `most` is the bound that fails the run."""
    ok = (least is None or figure >= least) and (most is None or figure <= most)
    bound = f">= {least:g}" if least is not None else f"<= {most:g}" if most is not None else ""
    return {"name": name, "figure": figure, "unit": unit, "bound": bound, "ok": ok}
