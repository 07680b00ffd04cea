"""Dapr's buses for the fault suite: a daprd beside each worker, the store on Redis.

As in a cluster with a sidecar per pod: the sidecars are killed like the workers, and a
killed one is started again until its broker is there. The broker that the suite kills is
the pub/sub component's; Redis stays, its own trouble is the state component's matter.

The questions go to the broker, and to Redis for what waits to be due, never to Dapr,
which counts nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import nats.errors
import redis.asyncio
import yaml
from confluent_kafka import Consumer, KafkaException, TopicPartition
from nats.js.errors import Error as JetStreamError

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import topics
from ofevents.bus.dapr_components import Names
from ofevents.bus.dapr_options import read_options
from ofevents.bus.dapr_resources import write_base
from tests.e2e.faults.buses import Left, Repeats, connected, redelivered, unsettled
from tests.servers import ServerFailed, free_port
from tests.servers.daprd import Daprd
from tests.servers.kafka import KafkaServer
from tests.servers.nats import NatsServer
from tests.servers.redis import RedisServer

BACK: Final = 60.0
"""Seconds within which a sidecar answers, its broker's absence included."""
PREFIX: Final = "ofevents."
"""Of the names on the broker, as the driver has it unless told otherwise."""
EVENTS: Final = topics.event("default", "shop", "orders")
INBOX: Final = topics.inbox("default", "charge", "charge")
DEAD: Final = (topics.dead("default", "charge"), topics.dead("default", "source/shop"))
GROUPS: Final = {EVENTS: topics.trigger_group("default", "charge"), INBOX: INBOX}
"""Who consumes each topic."""


class Sidecar(Daprd):
    """A daprd that is started until it stays, as a kubelet does: without its broker it ends."""

    async def start(self) -> None:
        try:
            async with asyncio.timeout(BACK):
                while True:
                    try:
                        return await super().start()
                    except ServerFailed:
                        await asyncio.sleep(0.5)
        except TimeoutError as error:
            raise ServerFailed(f"no sidecar within {BACK} s\n{self.log()}") from error


class DaprBus:
    """What both have in common; see `FaultBus`."""

    type: str
    app = False
    """Whether daprd calls the worker, at a port."""

    def __init__(self, folder: Path) -> None:
        self.redis = RedisServer(folder / "redis")

    @property
    def settings(self) -> Mapping[str, str]:
        """Of the pub/sub component."""
        raise NotImplementedError

    @property
    def spec(self) -> str:
        def component(type: str, settings: Mapping[str, str]) -> dict[str, Any]:
            metadata = [{"name": name, "value": value} for name, value in settings.items()]
            return {"type": type, "metadata": metadata}

        pubsub = component(self.type, self.settings)
        state = component("state.redis", {"redisHost": self.redis.address})
        return json.dumps({"dapr": {"pubsub": pubsub, "state": state}})

    async def __aenter__(self) -> Self:
        await self.redis.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.redis.kill()

    def beside(self, folder: Path, spec: Path) -> tuple[Path, Sidecar]:
        port = free_port() if self.app else 0
        daprd = Sidecar(folder, app_id="ofevents", app_port=port)
        told = yaml.safe_load(spec.read_text())
        bus = told["bus"]
        bus["options"] |= {"sidecar": daprd.address, "resources": str(daprd.resources)}
        if port:
            bus["options"]["app_port"] = port
        own = folder / "spec.yaml"
        own.write_text(yaml.safe_dump(told))
        resolved = ResolvedBus.model_validate(bus)
        write_base(daprd.resources, read_options(resolved.options), resolved.name)
        return own, daprd

    async def due(self) -> int:
        """Deliveries that the store keeps until they are due."""
        async with redis.asyncio.Redis(port=self.redis.port) as client:
            entries = [
                json.loads(await client.hget(key, "data"))
                async for key in client.scan_iter(match="*||s/due/*")
            ]
        return sum(not entry.get("d") for entry in entries)


class DaprJetStream(DaprBus):
    """pubsub.jetstream on a nats-server with file storage.

    `forgets` is the server's, as of the bus without Dapr. Its consumers hand out 32
    messages of each topic at most, to all workers together.
    """

    name = "dapr jetstream"
    type = "pubsub.jetstream"
    repeats: Final = Repeats(forgets=0.5)
    _STREAMS: Final = {"events": (EVENTS,), "inboxes": (INBOX,), "dead": DEAD}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.server = NatsServer(folder / "nats")

    @property
    def settings(self) -> Mapping[str, str]:
        return {"natsURL": self.server.url, "ackWait": "9s"}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.start()
        async with connected(self.server.url) as js:
            for name, kept in self._STREAMS.items():
                await js.add_stream(name=name, subjects=[PREFIX + topic for topic in kept])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.kill()
        await super().__aexit__(kind, error, trace)

    async def start(self) -> None:
        await self.server.start()

    async def kill(self) -> None:
        await self.server.kill()

    async def freeze(self) -> None:
        await self.server.freeze()

    def thaw(self) -> None:
        self.server.thaw()

    async def unsettled(self) -> int:
        try:
            async with connected(self.server.url) as js:
                return await unsettled(js, "events", "inboxes")
        except (OSError, nats.errors.Error, JetStreamError):
            return 0

    async def left(self, resources: Path) -> Left:
        async with connected(self.server.url) as js:
            owed = {name: await unsettled(js, name) for name in ("events", "inboxes")}
            dead = (await js.stream_info("dead")).state.messages
        owed["due"] = await self.due()
        return Left(sum(owed.values()), dead, f"{owed}, {dead} dead letters")

    async def redelivered(self) -> int:
        async with connected(self.server.url) as js:
            return await redelivered(js, "events")

    async def published(self) -> int:
        async with connected(self.server.url) as js:
            return int((await js.stream_info("events")).state.last_seq)

    async def inboxed(self) -> int:
        async with connected(self.server.url) as js:
            return int((await js.stream_info("inboxes")).state.last_seq)


class DaprKafka(DaprBus):
    """pubsub.kafka on a Kafka of its own, which is not the source's.

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

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.server = KafkaServer()
        self._names = Names(read_options({"pubsub": {"type": self.type}}), "default")

    @property
    def settings(self) -> Mapping[str, str]:
        return {
            "brokers": self.server.brokers,
            "authType": "none",
            "sessionTimeout": "3s",
            "heartbeatInterval": "300ms",
        }

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.server.__aenter__()
        for topic in (EVENTS, INBOX, *DEAD):
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

    async def kill(self) -> None:
        await self.server.kill()

    async def freeze(self) -> None:
        raise NotImplementedError("Kafka is only killed")

    def thaw(self) -> None:
        """It never stands still."""

    async def unsettled(self) -> int:
        try:
            return sum((await asyncio.to_thread(self._lags)).values())
        except KafkaException:
            return 0

    async def left(self, resources: Path) -> Left:
        owed = await asyncio.to_thread(self._lags)
        dead = sum([await asyncio.to_thread(self._written, topic) for topic in DEAD])
        owed["due"] = await self.due()
        return Left(sum(owed.values()), dead, f"{owed}, {dead} dead letters")

    async def redelivered(self) -> int:
        return 0

    async def published(self) -> int:
        return await asyncio.to_thread(self._written, EVENTS)

    async def inboxed(self) -> int:
        return await asyncio.to_thread(self._written, INBOX)

    def _lags(self) -> dict[str, int]:
        """Per topic: what its group has not committed."""
        return {topic: self._written(topic, GROUPS[topic]) for topic in GROUPS}

    def _written(self, topic: str, group: str | None = None) -> int:
        """Messages that a topic holds; behind the group's position, if one is named.

        Raises:
            KafkaException: the broker does not answer.
        """
        named = self._names.group(group, topic) if group else "fault-questions"
        consumer = Consumer(
            {"bootstrap.servers": self.server.brokers, "group.id": named, "log_level": 2}
        )
        every = [TopicPartition(self._names.topic(topic), n) for n in range(self.PARTITIONS)]
        try:
            ends = [consumer.get_watermark_offsets(one, timeout=2)[1] for one in every]
            if group is None:
                return sum(ends)
            settled = [max(0, one.offset) for one in consumer.committed(every, timeout=2)]
            return sum(ends) - sum(settled)
        finally:
            consumer.close()
