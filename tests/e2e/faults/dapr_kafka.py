"""pubsub.kafka for the fault suite; see `dapr_buses`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from ofevents.bus.dapr_components import Names
from ofevents.bus.dapr_options import read_options
from tests.e2e.faults.buses import Left, Repeats
from tests.e2e.faults.dapr_buses import KILLED, Chain, DaprBus
from tests.servers import until
from tests.servers.kafka import KafkaServer


class DaprKafka(DaprBus):
    """On a Kafka of its own, which is not the source's.

    A consumer group's offset is all that it keeps, so a batch comes again whole, and
    members that come and go cost the others their batches. daprd commits once a second
    what was acknowledged; a batch takes less than another one, as what fails in it goes
    to the inbox. A publish that failed may be there, and is there twice then: daprd goes
    on with it when the driver has given it up, after its deadline of 5 s.
    """

    name = "dapr kafka"
    type = "pubsub.kafka"
    app = True
    repeats: Final = Repeats(forgets=0.0, rebalances=2.0, republishes=5.0, counted=False)
    PARTITIONS: Final = 4

    def __init__(self, folder: Path, chain: Chain = KILLED, *, session: float = 3.0) -> None:
        """`session` is after how many silent seconds Kafka takes a member for gone: where
        sidecars are killed, the others get its part that late."""
        super().__init__(folder, chain)
        self._session = session
        self.server = KafkaServer()
        self._names = Names(read_options({"pubsub": {"type": self.type}}), "default")

    @property
    def settings(self) -> Mapping[str, str]:
        return {
            "brokers": self.server.brokers,
            "authType": "none",
            "sessionTimeout": f"{self._session:g}s",
            "heartbeatInterval": "300ms",
        }

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.server.__aenter__()
        for topic in (self.chain.topic, *self.chain.inboxes, *self.chain.dead):
            await self.server.create_topic(self._names.topic(topic), self.PARTITIONS)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.server.__aexit__(kind, error, trace)
        await super().__aexit__(kind, error, trace)

    async def start(self) -> None:
        await self.server.start()

    async def joined(self, workers: int) -> None:
        """A worker is one member of each group, and says that it is ready as it joins."""
        admin = AdminClient({"bootstrap.servers": self.server.brokers})

        def all_there() -> bool:
            told = admin.describe_consumer_groups([*self._groups()], request_timeout=10)
            try:
                groups = [one.result() for one in told.values()]
            except KafkaException:
                return False  # as above: it has no coordinator yet
            return all(
                one.state is ConsumerGroupState.STABLE and len(one.members) == workers
                for one in groups
            )

        async def asked() -> bool:
            return await asyncio.to_thread(all_there)

        await until(asked, seconds=60, what=f"{workers} workers have joined each group")

    async def kill(self) -> None:
        await self.server.kill()

    async def freeze(self) -> None:
        raise NotImplementedError("Kafka is only killed")

    def thaw(self) -> None:
        """It never stands still."""

    async def unsettled(self) -> int:
        try:
            return sum((await asyncio.to_thread(self._lags, 2)).values())
        except KafkaException:
            return 0

    async def left(self, resources: Path) -> Left:
        owed: dict[str, int] = {}

        async def told() -> bool:
            """A coordinator that has just been started says that it is none yet."""
            try:
                owed.update(await asyncio.to_thread(self._lags))
            except KafkaException:
                return False
            return True

        await until(told, seconds=60, what="Kafka says what the groups have settled")
        dead = await asyncio.to_thread(self._written, *self.chain.dead)
        owed["due"] = await self.due()
        return Left(sum(owed.values()), dead, f"{owed}, {dead} dead letters")

    async def redelivered(self) -> int:
        return 0

    async def published(self) -> int:
        return await asyncio.to_thread(self._written, self.chain.topic)

    async def inboxed(self) -> int:
        return await asyncio.to_thread(self._written, *self.chain.inboxes)

    async def _dead(self) -> list[bytes]:
        return await asyncio.to_thread(self._read, *self.chain.dead)

    def _read(self, *named: str) -> list[bytes]:
        """Every message of the topics."""
        count, found = self._written(*named), []
        with self._asking("fault-questions") as consumer:
            every = [one for topic in named for one in self._partitions(topic)]
            for one in every:
                one.offset = 0
            consumer.assign(every)
            while len(found) < count:
                for message in consumer.consume(count - len(found), timeout=10):
                    assert message.error() is None, message.error()
                    found.append(message.value() or b"")
        return found

    def _lags(self, within: float = 30) -> dict[str, int]:
        """Per topic: what its group has not committed.

        Raises:
            KafkaException: the broker does not answer within so many seconds.
        """
        found = {}
        for group, topic in self._groups().items():
            with self._asking(group) as consumer:
                settled = consumer.committed(self._partitions(topic), timeout=within)
            written = self._written(topic, within=within)
            found[topic] = written - sum(max(0, one.offset) for one in settled)
        return found

    def _written(self, *named: str, within: float = 30) -> int:
        """Messages that the topics hold; raises as above."""
        with self._asking("fault-questions") as consumer:
            return sum(
                consumer.get_watermark_offsets(one, timeout=within)[1]
                for topic in named
                for one in self._partitions(topic)
            )

    def _groups(self) -> dict[str, str]:
        """The topic of each consumer group, by its name on the broker."""
        read = {self.chain.topic: self.chain.group} | {one: one for one in self.chain.inboxes}
        return {self._names.group(group, topic): topic for topic, group in read.items()}

    def _partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(self._names.topic(topic), n) for n in range(self.PARTITIONS)]

    @contextmanager
    def _asking(self, group: str) -> Iterator[Consumer]:
        """A consumer that reads nothing."""
        settings = {"bootstrap.servers": self.server.brokers, "group.id": group, "log_level": 2}
        consumer = Consumer(settings)
        try:
            yield consumer
        finally:
            consumer.close()
