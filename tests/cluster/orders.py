"""Numbered orders of the flows: their topic, their records, and which have arrived."""

from __future__ import annotations

import json
import uuid

from tests.servers import until
from tests.servers.kafka import KafkaServer
from tests.servers.sink import Sink


def orders(count: int, start: int = 0) -> list[dict[str, bytes]]:
    """Records for Kafka."""
    return [
        {"value": json.dumps({"number": number, "amount": number}).encode()}
        for number in range(start, start + count)
    ]


async def topic(kafka: KafkaServer, partitions: int = 1, event: str = "orders") -> str:
    """A new Kafka topic, whose name begins with that of its event and a "-"."""
    name = f"{event}-{uuid.uuid4().hex[:8]}"
    await kafka.create_topic(name, partitions)
    return name


def seen(sink: Sink) -> set[int]:
    """Which orders have arrived."""
    return {event.value["number"] for event in sink.events}


async def numbers(sink: Sink, count: int, seconds: float = 120) -> list[int]:
    """Wait until that many different orders have arrived; which.

    One that was dealt to a worker that has gone comes only after the ack wait of 30 s, and
    one for a function that was not up yet at a probe, once it is.
    """
    try:
        await until(lambda: len(seen(sink)) >= count, seconds=seconds, what=f"{count} orders")
    except TimeoutError as error:
        raise AssertionError(f"{error}; there are {len(seen(sink))}") from None
    return sorted(seen(sink))
