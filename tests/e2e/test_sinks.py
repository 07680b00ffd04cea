"""Kafka to Kafka: over a bus and a Trigger, and without a bus; over kill -9 of the workers."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.e2e.processes import Ofevents, idle, specs
from tests.servers import until
from tests.servers.kafka import KafkaServer
from tests.servers.nats import NatsServer

pytestmark = pytest.mark.timeout(500)

PARTITIONS = 4
COUNT = 3000
KEYS = 50

SOURCE = """
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {{name: shop}}
spec:
  {way}
  kafka:
    orders:
      brokers: {brokers}
      topic: orders
      {filter}
      config: {{session.timeout.ms: "1500", heartbeat.interval.ms: "300"}}
"""

TRIGGER = """---
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {{name: default}}
spec:
  jetstream: {{url: "{bus}", maxBytes: 256Mi}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {{name: even}}
spec:
  eventBus: default
  startFrom: earliest
  inputs:
    orders: {{eventSource: shop, event: orders, filter: "event.data.number % 2 == 0"}}
  subscribers:
  - name: out
    payload: '{{"number": event.data.number, "customer": event.data.customer}}'
    sink:
      kafka: {{brokers: {brokers}, topic: out, key: event.data.customer}}
    delivery: {{ordered: true}}
"""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A record of the topic `out`."""

    partition: int
    key: str
    number: int


def first_of(brokers: str, topic: str) -> tuple[dict[str, bytes], bytes | None]:
    """Headers and value of the topic's first record."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "first"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    record = consumer.poll(60)
    consumer.close()
    assert record is not None and record.error() is None, f"nothing is in {topic}"
    return dict(record.headers() or ()), record.value()  # type: ignore[arg-type]


class Out:
    """The records of `out` so far, in each partition's order."""

    def __init__(self, brokers: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": brokers, "group.id": "out"})
        self._consumer.assign([TopicPartition("out", n, 0) for n in range(PARTITIONS)])
        self.records: list[Arrived] = []

    async def numbers(self) -> set[int]:
        await asyncio.to_thread(self._read)
        return {record.number for record in self.records}

    def _read(self) -> None:
        while (record := self._consumer.poll(0.1)) is not None:
            if record.error() is None:
                number = json.loads(record.value() or b"")["number"]
                key = (record.key() or b"").decode()
                self.records.append(Arrived(record.partition() or 0, key, number))

    async def more_than(self, count: int, seconds: float = 120) -> None:
        async def enough() -> bool:
            return len(await self.numbers()) > count

        await until(enough, seconds=seconds, what=f"more than {count} records")

    async def all_of(self, expected: set[int], seconds: float = 150) -> None:
        async def there() -> bool:
            return expected <= await self.numbers()

        await until(there, seconds=seconds, what=f"all {len(expected)} records")

    def close(self) -> None:
        self._consumer.close()

    def judge(self, expected: set[int]) -> None:
        """Nothing but what is expected; each key in one partition, and in its order."""
        assert {record.number for record in self.records} == expected
        partitions, numbers = defaultdict(set), defaultdict(list)
        for record in self.records:
            assert record.key == customer(record.number)
            partitions[record.key].add(record.partition)
            numbers[record.key].append(record.number)
        assert {len(found) for found in partitions.values()} == {1}
        assert len({next(iter(found)) for found in partitions.values()}) > 1
        for key, found in numbers.items():
            firsts = list(dict.fromkeys(found))
            assert firsts == sorted(firsts), f"{key} is out of order: {firsts}"


def customer(number: int) -> str:
    return f"customer-{number % KEYS}"


def orders(first: int, count: int) -> list[dict[str, bytes]]:
    """Records whose keys are the customers."""
    return [
        {
            "key": customer(n).encode(),
            "value": b'{"number": %d, "customer": "%s", "pad": "%s"}'
            % (n, customer(n).encode(), b"x" * 200),
        }
        for n in range(first, first + count)
    ]


async def test_kafka_over_the_bus_to_kafka(tmp_path: Path) -> None:
    async with KafkaServer() as kafka, NatsServer(tmp_path / "nats") as bus:
        await kafka.create_topic("orders", PARTITIONS)
        await kafka.create_topic("out", PARTITIONS)
        resources = tmp_path / "resources.yaml"
        text = SOURCE.format(way="eventBus: default", brokers=kafka.brokers, filter="")
        resources.write_text(text + TRIGGER.format(bus=bus.url, brokers=kafka.brokers))
        made = await specs(resources, tmp_path / "specs")
        out = Out(kafka.brokers)
        async with (
            Ofevents(tmp_path, "trigger", "-f", made["even"], worker=True) as trigger,
            Ofevents(tmp_path, "source", "-f", made["shop/orders"], worker=True) as source,
        ):
            await trigger.ready()
            await source.ready()
            await kafka.produce("orders", orders(0, COUNT))
            for share in (0.1, 0.5):
                await out.more_than(int(share * COUNT / 2))
                await trigger.kill()
                await source.kill()
                await trigger.start()
                await source.start()
            expected = set(range(0, COUNT, 2))
            await out.all_of(expected)
            await idle(bus.url)
            await out.numbers()
        out.judge(expected)
        out.close()


async def test_kafka_to_kafka_needs_no_bus(tmp_path: Path) -> None:
    async with KafkaServer() as kafka:
        await kafka.create_topic("orders", PARTITIONS)
        await kafka.create_topic("out", PARTITIONS)
        resources = tmp_path / "resources.yaml"
        await kafka.create_topic("failed")
        sink = f"sink: {{kafka: {{brokers: {kafka.brokers}, topic: out}}}}"
        dead = f"deadLetterSink: {{kafka: {{brokers: {kafka.brokers}, topic: failed}}}}"
        text = SOURCE.format(
            way=f"{sink}\n  {dead}",
            brokers=kafka.brokers,
            filter='filter: "event.data.number % 2 == 0"',
        )
        resources.write_text(text)
        made = await specs(resources, tmp_path / "specs")
        out = Out(kafka.brokers)
        async with Ofevents(tmp_path, "source", "-f", made["shop/orders"], worker=True) as source:
            await source.ready()
            await kafka.produce("orders", [{"value": b"no JSON", "key": b"k"}])
            await kafka.produce("orders", orders(0, COUNT))
            for share in (0.1, 0.5):
                await out.more_than(int(share * COUNT / 2))
                await source.kill()
                await source.start()
            await out.more_than(int(0.7 * COUNT / 2))
            await kafka.restart()  # both ends of it
            await kafka.produce("orders", orders(COUNT, 100))
            expected = set(range(0, COUNT + 100, 2))
            await out.all_of(expected)
        out.judge(expected)
        out.close()
        headers, value = await asyncio.to_thread(first_of, kafka.brokers, "failed")
        assert (value, headers["ce_deadletterreason"]) == (b"no JSON", b"EvaluationError")
        assert headers["ce_id"].startswith(b"orders/")
