"""What one connection's consumer brings, and what of it is in hand; run by `rabbitmq`.

    broker -> waiting (at most `prefetch`) -> emit -> basic.ack, in the order of delivery

An event that emit refuses is kept and tried again here: given back, it would come
again at once. What is in hand when the channel ends goes back to the queue, marked as
redelivered, and to any other consumer.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiormq.abc import DeliveredMessage

from ofevents.clock import Clock
from ofevents.errors import Disconnected
from ofevents.ports import Emit
from ofevents.telemetry import Log
from ofevents_adapters.rabbitmq_connection import Connection
from ofevents_adapters.rabbitmq_record import Record, events_of
from ofevents_adapters.settle import settle

BATCH: Final = 500
"""Most messages of one emit on a bus."""
LOOK: Final = 5.0
"""Seconds between two looks at the queue, for the lag and for whether it is there."""
_BATCH_BYTES: Final = 4 * 1024 * 1024
"""An emit takes no further message beyond: decoded, messages are several times as large."""


@dataclass(slots=True, eq=False)
class Taken:
    """A message in hand, with the id and the time of one that has none of its own."""

    record: Record
    tag: int
    id: str
    came: float


class Session:
    """One connection's consumer."""

    def __init__(
        self,
        connection: Connection,
        emit: Emit,
        *,
        batch: int,
        source: str,
        clock: Clock,
        log: Log,
        lagging: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._emit = emit
        self._batch = batch
        self._source = source
        self._clock = clock
        self._log = log
        self._lagging = lagging
        self._waiting: deque[Taken] = deque()
        self._filled = asyncio.Event()

    async def run(self, started: Callable[[], None]) -> None:
        """Emit what comes until cancelled; `started` once the broker has the consumer.

        Raises:
            Disconnected: the connection is lost, or the queue is gone.
            ConfigError: the broker refuses to let us read.
        """
        connection = self._connection
        connection.watch_channel()
        with connection.doing("consuming", field="queue"):
            # aio-pika's own consumer makes a message of its type first, and one that it
            # cannot make would stay in hand unseen.
            channel = await connection.channel.get_underlay_channel()
            channel.on_consumer_cancel_callbacks.add(self._cancelled)
            self._acknowledge = channel.basic_ack
            await channel.basic_consume(connection.queue.name, self._take)
        started()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(connection.lost(), name="rabbitmq: watches the connection")
                tasks.create_task(self._look(), name="rabbitmq: looks at the queue")
                while True:
                    await self._filled.wait()
                    self._filled.clear()
                    while self._waiting:
                        await self._settle(self._next())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    # -- in -------------------------------------------------------------------------------

    async def _take(self, message: DeliveredMessage) -> None:
        record = Record(
            message.body,
            message.header.properties,
            message.routing_key or "",
            message.exchange or "",
            bool(message.redelivered),
        )
        assert message.delivery_tag is not None  # only what is got singly has none
        taken = Taken(record, message.delivery_tag, str(uuid.uuid4()), self._clock.now())
        self._waiting.append(taken)
        self._filled.set()

    def _cancelled(self, _: Any) -> None:
        self._connection.end(
            Disconnected(
                f"RabbitMQ at {self._connection.where} has ended the consumer of queue "
                f"{self._connection.queue.name!r}: was the queue deleted?"
            )
        )

    def _next(self) -> list[Taken]:
        taken: list[Taken] = []
        size = 0
        while self._waiting and len(taken) < self._batch and size < _BATCH_BYTES:
            taken.append(self._waiting.popleft())
            size += len(taken[-1].record.body)
        return taken

    # -- out ------------------------------------------------------------------------------

    async def _settle(self, taken: Sequence[Taken]) -> None:
        events = [
            event
            for one in taken
            for event in events_of(one.record, self._source, one.id, one.came)
        ]
        for at in range(0, len(events), self._batch):
            batch = events[at : at + self._batch]
            await settle(self._emit, batch, clock=self._clock, log=self._log)
        with self._connection.doing("acknowledging"):
            # All that were delivered before it on this channel are settled too.
            await self._acknowledge(taken[-1].tag, multiple=True)

    # -- beside ---------------------------------------------------------------------------

    async def _look(self) -> None:
        """The lag as a metric; a broker that hangs does not answer."""
        self._lagging(self._connection.waiting)
        while True:
            await self._clock.sleep(LOOK)
            self._lagging(await self._connection.look())
