"""The `kafka` source: records of a Kafka topic, read as a member of a consumer group.

    reader (a thread of its own: polls, commits)  ->  lanes (one per partition)  ->  emit

An offset is committed only after emit has returned for its record, and never past the
oldest unfinished one. Records come in their order per partition; partitions do not
wait for each other. When there is no room for more, the reader waits; when that takes
longer than `FULL`, it pauses the partitions and goes on polling, as the group demands.
When partitions move to another member, their lanes finish the emit that is open, for
at most `RELEASE` seconds (`ENDING` when the worker stops), and what is settled is
committed before they go.

What a record becomes is in `kafka_record`, with a schema registry in `kafka_registry`; the
client's settings are in `kafka_config`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar
from urllib.parse import quote

from confluent_kafka import KafkaException, Message

from ofevents.api.kafka import KafkaSpec
from ofevents.clock import Clock
from ofevents.ports import Emit, SourceFeatures, SourceIdentity, Store
from ofevents.telemetry import LAG, Log
from ofevents_adapters.kafka_config import client_config, explain
from ofevents_adapters.kafka_lane import Lane, Room
from ofevents_adapters.kafka_reader import Offsets, Owner, Reader
from ofevents_adapters.kafka_registry import Registry, check_registry

IN_FLIGHT: Final = 2000
"""Most records in hand, ..."""
IN_FLIGHT_BYTES: Final = 32 * 1024 * 1024
"""... and most bytes, after which no turn takes more."""
BATCH: Final = 500
"""Most records of one turn, and of one emit on a bus."""
POLL: Final = 0.25
"""Seconds that a turn waits for a first record; also how late a commit may begin."""
COMMIT_EVERY: Final = 1.0
FULL: Final = 0.5
RELEASE: Final = 3.0
ENDING: Final = 0.5
"""Seconds that an open emit is given when the worker is told to stop."""

T = TypeVar("T")


class KafkaSource:
    """Reads one Kafka topic."""

    features = SourceFeatures(guarantee="at-least-once", stable_ids=True, ordered=True, scales=True)

    def __init__(self, spec: KafkaSpec, identity: SourceIdentity, *, clock: Clock) -> None:
        """Checks the spec (ConfigError); connects to nothing."""
        self._spec = spec
        self._path = f"spec.kafka.{identity.entry}"
        self._topic = spec.topic or identity.entry
        self._registry: Registry | None = None
        self._config = client_config(spec, identity)
        if spec.schema_registry is not None:
            check_registry(spec.schema_registry, f"{self._path}.schemaRegistry")
        parts = (identity.namespace, identity.name, identity.entry)
        self._source = "/ofevents/" + "/".join(quote(part, safe="") for part in parts)
        self.clock = clock
        self.lag = LAG.labels(identity.namespace, identity.name, self._config["group.id"])
        self._log = Log(namespace=identity.namespace, name=identity.name, entry=identity.entry)

    async def run(self, emit: Emit, *, store: Store | None, started: Callable[[str], None]) -> None:
        """See `ofevents.ports.Source`. Without a bus, each lane emits one event at a time.

        Raises:
            Disconnected: no broker answers, the topic does not exist, the schema registry is
                away.
            ConfigError: the brokers or the registry refuse the login or the topic, the
                client a setting.
        """
        address = f"{self._topic} at {','.join(self._spec.brokers)}"
        batch = BATCH if store is not None else 1
        async with AsyncExitStack() as stack:
            self._registry = None
            if self._spec.schema_registry is not None:
                registry = Registry(self._spec.schema_registry, f"{self._path}.schemaRegistry")
                self._registry = await stack.enter_async_context(registry)
            try:
                async with asyncio.TaskGroup() as tasks:
                    session = _Session(self, emit, batch, tasks)
                    await session.run(lambda: started(address))
            except ExceptionGroup as group:
                raise group.exceptions[0] from None

    def reader(self, owner: Owner) -> Reader:
        """A client that is not connected yet.

        Raises:
            ConfigError: librdkafka refuses a setting.
        """
        newest = self._spec.initial_offset == "newest"
        reader = Reader(self._config, self._topic, newest, owner)
        try:
            reader.open()
        except (KafkaException, ValueError, TypeError) as error:
            raise explain(error, self._spec, self._path) from error
        return reader

    def lane(self, emit: Emit, batch: int, room: Room) -> Lane:
        """An empty lane."""
        return Lane(emit, self._source, batch, room, self.clock, self._log, self._registry)


class _Session:
    """One connection: the reader's thread, and the lanes of the partitions it has."""

    def __init__(
        self, source: KafkaSource, emit: Emit, batch: int, tasks: asyncio.TaskGroup
    ) -> None:
        self._source = source
        self._emit = emit
        self._batch = batch
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._clock = source.clock
        self._room = Room(IN_FLIGHT, IN_FLIGHT_BYTES)
        self._lanes: dict[int, tuple[Lane, asyncio.Task[None]]] = {}
        self._committed: dict[int, int] = {}
        self._commit_due = 0.0
        self._patience = RELEASE

    async def run(self, started: Callable[[], None]) -> None:
        """Read until cancelled; then the lanes end, and what is settled is committed.

        Closing the reader gives all partitions back, which is what ends the lanes.
        """
        owner = Owner(
            release=lambda gone: self._ask(self._release(gone, self._patience), {}),
            lose=lambda gone: self._ask(self._lose(gone), None),
            uncommitted=lambda offsets: self._ask(self._uncommitted(offsets), None),
            lagging=self._source.lag.set,
        )
        reader = self._source.reader(owner)
        thread = ThreadPoolExecutor(1, thread_name_prefix="ofevents-kafka")
        try:
            await self._loop.run_in_executor(thread, reader.connect)
            await self._read(reader, thread, started)
        finally:
            self._patience = ENDING
            try:
                await self._loop.run_in_executor(thread, reader.close)
            finally:
                thread.shutdown(wait=False)

    async def _read(
        self, reader: Reader, thread: ThreadPoolExecutor, started: Callable[[], None]
    ) -> None:
        live = False
        while True:
            limit = min(self._room.free, BATCH)
            if not limit:
                await self._room.wait(FULL)
                limit = min(self._room.free, BATCH)
            records = await self._loop.run_in_executor(
                thread, reader.turn, limit, POLL if limit else POLL / 5, self._due()
            )
            if reader.live and not live:
                live = True
                started()
            self._sort(records)

    def _sort(self, records: list[Message]) -> None:
        """Put each record into the lane of its partition."""
        self._room.take(records)
        for record in records:
            partition = record.partition()
            assert partition is not None
            entry = self._lanes.get(partition)
            if entry is None:
                lane = self._source.lane(self._emit, self._batch, self._room)
                name = f"kafka partition {partition}"
                entry = lane, self._tasks.create_task(lane.run(), name=name)
                self._lanes[partition] = entry
            entry[0].put(record)

    def _due(self) -> Offsets:
        """What is to be committed now: all that is settled and new, once in a while."""
        now = self._clock.monotonic()
        if now < self._commit_due:
            return {}
        new = {p: o for p, o in self._settled().items() if self._committed.get(p) != o}
        self._committed.update(new)
        self._commit_due = now + COMMIT_EVERY
        return new

    def _settled(self) -> dict[int, int]:
        lanes = self._lanes.items()
        return {p: lane.settled for p, (lane, _) in lanes if lane.settled is not None}

    # -- what the reader asks, from its thread ----------------------------------

    def _ask(self, question: Coroutine[Any, Any, T], otherwise: T) -> T:
        """Run a coroutine on the loop and wait for its answer; called on the thread."""
        try:
            answer = asyncio.run_coroutine_threadsafe(question, self._loop)
        except RuntimeError:
            question.close()  # the loop is gone: nothing is known to be settled
            return otherwise
        try:
            return answer.result(2 * RELEASE)
        except (TimeoutError, CancelledError):
            answer.cancel()
            return otherwise

    async def _release(self, gone: list[int], seconds: float) -> Offsets:
        lanes = {p: entry for p in gone if (entry := self._lanes.pop(p, None)) is not None}
        for partition in gone:
            self._committed.pop(partition, None)
        running = [task for _, task in lanes.values()]
        for lane, _ in lanes.values():
            lane.close()
        if running:
            await asyncio.wait(running, timeout=seconds)
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=RELEASE / 2)
        for lane, _ in lanes.values():
            lane.abandon()
        return {p: lane.settled for p, (lane, _) in lanes.items() if lane.settled is not None}

    async def _lose(self, gone: list[int]) -> None:
        await self._release(gone, 0)

    async def _uncommitted(self, offsets: Offsets) -> None:
        """Try again with the next commit."""
        for partition, offset in offsets.items():
            if self._committed.get(partition) == offset:
                del self._committed[partition]
