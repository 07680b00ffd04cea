"""Publishing through the sidecar: many calls' messages in one batch, per topic.

A single publish costs the sidecar and us about 200 µs each, a message of a batch a
tenth of that; so what is published within a few milliseconds on one topic goes
together. A batch that fails is sent again whole, with the same ids, until its
deadline: Dapr does not say reliably which entries were stored.

On a topic whose broker keeps an order one batch is on its way at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dapr.proto.runtime.v1 import pubsub_pb2

from ofevents.bus import codec
from ofevents.bus import dapr_envelope as envelope
from ofevents.bus.dapr_bulk import Bulk, NoAnswer
from ofevents.bus.dapr_components import Names
from ofevents.bus.dapr_link import Link
from ofevents.bus.dapr_options import DaprOptions
from ofevents.clock import Clock
from ofevents.errors import Disconnected, TooLarge
from ofevents.ports import Delivery, Message

BATCH_BYTES: Final = 2 * 1024 * 1024
"""Of one call: the sidecar takes 4 MB."""
UNORDERED: Final = 4
"""Batches of one topic on their way, where there is no order to keep."""
BROKER_LIMIT: Final = 1_000_000
"""Bytes of a message that brokers take unless told otherwise."""
_AGAIN_AFTER: Final = 0.1


@dataclass(slots=True)
class _Call:
    """The messages of one `publish`, or a part of them."""

    entries: list[Any]
    size: int
    deadline: float
    stored: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Publisher:
    """Publishes on one Link; `close` ends what is on its way."""

    def __init__(self, link: Link, names: Names, options: DaprOptions, clock: Clock) -> None:
        self._bulk = Bulk(link, names, options)
        self._options = options
        self._clock = clock
        self._topics: dict[str, _Topic] = {}
        self._at = 0
        limit = options.pubsub.settings.get("maxMessageBytes", "")
        self._most = int(limit) if limit.isdecimal() else BROKER_LIMIT

    @property
    def max_size(self) -> int:
        """Largest body of an event: a Delivery of it fits too."""
        return self._most - envelope.ROOM - codec.DELIVERY_ROOM

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """See `Bus.publish`; `due` is not looked at."""
        await self.publish_raw(topic, [self.encode(topic, one) for one in messages])

    def encode(self, topic: str, message: Message) -> tuple[bytes, str | None]:
        """The envelope, and the key that it is ordered by.

        Raises:
            TooLarge, BadEvent: it cannot be published.
        """
        self._at = max(self._at + 1, int(self._clock.now() * 1e9))
        raw, size = envelope.encode(topic, message, self._at)
        body, most = message.body, self.max_size
        if isinstance(body, Delivery):
            most += codec.DELIVERY_ROOM
            key = body.key
        else:
            found = body.attributes.get("partitionkey")
            key = None if found is None else str(found)
        if size > most or len(raw) - size > envelope.ROOM:
            raise TooLarge(
                f"a message of {size} bytes and {len(raw) - size} of headers; the bus takes {most} "
                f"and {envelope.ROOM} at most"
            )
        return raw, key

    async def publish_raw(self, topic: str, encoded: Sequence[tuple[bytes, str | None]]) -> None:
        """Return when the broker has stored all of them."""
        entries = [
            pubsub_pb2.BulkPublishRequestEntry(
                entry_id=str(number),
                event=raw,
                content_type=envelope.CONTENT_TYPE,
                metadata={"partitionKey": key} if key is not None else None,
            )
            for number, (raw, key) in enumerate(encoded)
        ]
        lane = self._topics.get(topic)
        if lane is None:
            lane = self._topics[topic] = _Topic(topic, self._bulk, self._options, self._clock)
        calls: list[_Call] = []
        deadline = self._clock.monotonic() + self._options.publish_deadline
        for part in _parts(entries, self._options.batch):
            calls.append(_Call(part, sum(len(one.event) for one in part), deadline))
            lane.add(calls[-1])
        try:
            for call in calls:
                await call.stored
        except BaseException:
            for call in calls:
                # Nobody waits for the others, nor reads their errors.
                if not call.stored.cancel() and not call.stored.cancelled():
                    call.stored.exception()
            raise

    async def close(self) -> None:
        await asyncio.gather(*(one.close() for one in self._topics.values()))


class _Topic:
    """What waits to be published on one topic, and the task that sends it."""

    def __init__(self, topic: str, bulk: Bulk, options: DaprOptions, clock: Clock) -> None:
        self._topic = topic
        self._bulk = bulk
        self._linger = options.linger
        self._most = options.batch
        self._clock = clock
        self._slots = asyncio.Semaphore(1 if options.features.ordered else UNORDERED)
        self._waiting: deque[_Call] = deque()
        self._more = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._sender: asyncio.Task[None] | None = None

    def add(self, call: _Call) -> None:
        self._waiting.append(call)
        self._more.set()
        if self._sender is None:
            self._sender = asyncio.create_task(self._send(), name=f"publish {self._topic}")

    async def close(self) -> None:
        tasks = [*self._running, *([self._sender] if self._sender else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for call in self._waiting:
            _fail(call, Disconnected("the bus is closed"))

    async def _send(self) -> None:
        """Form batches: while one is on its way the next one fills."""
        while True:
            await self._more.wait()
            await self._slots.acquire()
            if self._linger and sum(len(one.entries) for one in self._waiting) < self._most:
                await asyncio.sleep(self._linger)
            batch = self._take()
            if not self._waiting:
                self._more.clear()
            if not batch:
                self._slots.release()
                continue
            task = asyncio.create_task(self._insist(batch))
            self._running.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._slots.release()

    def _take(self) -> list[_Call]:
        batch: list[_Call] = []
        count = size = 0
        while self._waiting:
            call = self._waiting[0]
            if call.stored.done():  # its caller was cancelled
                self._waiting.popleft()
                continue
            full = count + len(call.entries) > self._most or size + call.size > BATCH_BYTES
            if batch and full:
                break
            batch.append(self._waiting.popleft())
            count += len(call.entries)
            size += call.size
        return batch

    async def _insist(self, batch: list[_Call]) -> None:
        """Send it until it is stored or its first deadline is over."""
        entries = [entry for call in batch for entry in call.entries]
        for number, entry in enumerate(entries):
            entry.entry_id = str(number)
        deadline = min(call.deadline for call in batch)
        error = Disconnected("the bus did not answer in time")
        try:
            while (left := deadline - self._clock.monotonic()) > 0:
                try:
                    await self._bulk.send(self._topic, entries, left)
                except Disconnected as failed:
                    error = error if isinstance(failed, NoAnswer) else failed
                    await asyncio.sleep(min(_AGAIN_AFTER, max(0.0, left)))
                else:
                    for call in batch:
                        if not call.stored.done():
                            call.stored.set_result(None)
                    return
            for call in batch:
                _fail(call, error)
        except BaseException as failed:
            for call in batch:
                _fail(call, Disconnected(f"the bus did not store the messages: {failed!r}"))
            raise


def _fail(call: _Call, error: Disconnected) -> None:
    if not call.stored.done():
        call.stored.set_exception(error)


def _parts(entries: list[Any], most: int) -> list[list[Any]]:
    """Cut what is too much for one call."""
    parts: list[list[Any]] = [[]]
    size = 0
    for entry in entries:
        if parts[-1] and (len(parts[-1]) >= most or size + len(entry.event) > BATCH_BYTES):
            parts.append([])
            size = 0
        parts[-1].append(entry)
        size += len(entry.event)
    return parts if parts[0] else []
