"""Kafka's side of a run: records at an even pace, and what became of them in Kafka.

A feed writes so many numbered records over so many seconds, whatever happens to the
broker meanwhile: the idempotent producer holds what cannot be written and writes it
once. Which half of them matches the Trigger's filter is drawn by the run's seed; an
event's id is known when Kafka has said where its record lies.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

TOPIC: Final = "fault-orders"
GROUP: Final = "fault-readers"
"""The source's consumer group."""
PARTITIONS: Final = 4
_TICK: Final = 0.05
_KEPT: Final = 0.02
"""Share of the records that is kept for whoever is still to be killed at the end, as what was
killed before took long to come back: without anything in hand it would lose nothing."""
_STRETCH: Final = 60.0
"""Seconds over which these are written then."""
_FLUSH: Final = 150.0
"""Seconds for what Kafka has yet to acknowledge; it may be just starting."""


class Feed:
    """`await feed.run(broken)` writes `count` records within `seconds`, if all is broken by then.

    Attributes:
        count: records in all.
        wanted: the ids of those that match, as Kafka has acknowledged them.
        others: of those that do not.
    """

    def __init__(self, brokers: str, *, count: int, seconds: float, seed: int) -> None:
        self.count = count
        self.wanted: set[str] = set()
        self.others: set[str] = set()
        self._brokers = brokers
        self._seconds = seconds
        self._matching = {*random.Random(seed).sample(range(count), count // 2)}
        self._offered = 0
        self._failed: list[str] = []

    @property
    def pace(self) -> float:
        """Records in a second."""
        return self.count / self._seconds

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        return self._offered / self.count

    async def run(self, broken: Callable[[], bool]) -> None:
        """Write them all; returns when Kafka has acknowledged each.

        `broken` tells that everything was that is to be: the last few come slowly until then.

        Raises:
            AssertionError: it has not, within `_FLUSH` after the last one.
        """
        producer = Producer(
            {
                "bootstrap.servers": self._brokers,
                "enable.idempotence": True,
                "linger.ms": 5,
                "reconnect.backoff.max.ms": 500,
                "log_level": 2,
            },
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        kept = int(self.count * _KEPT)
        while self._offered < self.count:
            late = loop.time() - began - self._seconds
            due = min(self.count, int((1 + late / self._seconds) * self.count) + 1)
            if not broken():
                due = min(due, self.count - kept + int(kept * max(0.0, late) / _STRETCH))
            for number in range(self._offered, due):
                self._offer(producer, number)
            self._offered = due
            producer.poll(0)
            await asyncio.sleep(_TICK)
        left = await asyncio.to_thread(producer.flush, _FLUSH)
        assert not left and not self._failed, f"{left} records not written; {self._failed[:3]}"
        assert len(self.wanted) + len(self.others) == self.count

    def _offer(self, producer: Producer, number: int) -> None:
        matches = number in self._matching
        ids = self.wanted if matches else self.others

        def written(error: Any, message: Any) -> None:
            if error is not None:
                self._failed.append(str(error))
                return
            _, stamp = message.timestamp()
            ids.add(f"{message.topic()}/{message.partition()}/{message.offset()}@{stamp}")

        body = b'{"number": %d, "wanted": %s}' % (number, b"true" if matches else b"false")
        producer.produce(TOPIC, body, partition=number % PARTITIONS, on_delivery=written)


class Lag:
    """Records that the source's group has not committed, asked of the broker."""

    def __init__(self, brokers: str) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": brokers, "group.id": GROUP, "log_level": 2},
        )

    async def records(self) -> int:
        """How many; 0 also while nobody answers."""
        ends, committed = await asyncio.to_thread(self._positions)
        return sum(end - max(0, committed.get(partition, 0)) for partition, end in ends.items())

    async def at_end(self) -> bool:
        """Whether the group has committed them all; False while nobody answers."""
        ends, committed = await asyncio.to_thread(self._positions)
        return bool(ends) and all(max(0, committed.get(one, 0)) >= end for one, end in ends.items())

    async def written(self) -> int:
        """How many records Kafka holds; 0 also while nobody answers."""
        return sum((await asyncio.to_thread(self._positions))[0].values())

    def _positions(self) -> tuple[Mapping[int, int], Mapping[int, int]]:
        every = [TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)]
        try:
            ends = {
                one.partition: self._consumer.get_watermark_offsets(one, timeout=2)[1]
                for one in every
            }
            committed = self._consumer.committed(every, timeout=2)
        except KafkaException:
            return {}, {}
        return ends, {one.partition: one.offset for one in committed}

    def close(self) -> None:
        self._consumer.close()
