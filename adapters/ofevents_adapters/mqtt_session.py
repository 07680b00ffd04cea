"""What one connection brings, and what of it is in hand; run by `mqtt`.

    broker -> waiting (bounded) -> emit -> PUBACK or PUBREC, in the order they came

An event that emit refuses is kept and tried again here, as MQTT has no way to give a
message back. What is not acknowledged when the connection ends comes again with the
session, marked as sent before and under the same packet identifier: as long as this
process lives, that identifier cannot mean another message, so the id is the same too
(`Memory`). After a crash nobody knows it any more, and the id is a new one.

With QoS 2 the message is ours from PUBREC on, so that is what waits for emit; the
PUBREL that follows is only answered.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ofevents.clock import Clock
from ofevents.errors import ConfigError, Disconnected
from ofevents.ports import Emit
from ofevents.telemetry import Log
from ofevents_adapters import mqtt_packets as packets
from ofevents_adapters.mqtt_config import Settings, matches
from ofevents_adapters.mqtt_connection import Connection, said
from ofevents_adapters.mqtt_record import events_of
from ofevents_adapters.settle import settle

IN_FLIGHT: Final = 1000
"""Messages in hand beyond which nothing is read (MQTT 5: the receive maximum), ..."""
IN_FLIGHT_BYTES: Final = 32 * 1024 * 1024
"""... and bytes."""
BATCH: Final = 500
"""Most messages of one emit on a bus."""
ANSWER: Final = 10.0
"""Seconds for the answer to SUBSCRIBE."""
_BATCH_BYTES: Final = 4 * 1024 * 1024
"""An emit takes no further message beyond: decoded, messages are several times as large."""
_SUBSCRIBE: Final = 1
"""The packet identifier of our only subscription."""


@dataclass(slots=True, eq=False)
class Taken:
    """A message in hand; `wanted` is false for one that is only acknowledged."""

    message: packets.Publish
    id: str
    came: float
    wanted: bool


@dataclass(slots=True)
class Memory:
    """What a worker knows of its session at the broker, from connection to connection.

    Attributes:
        in_hand: by packet identifier, what is not acknowledged.
        received: QoS 2 messages with PUBREC sent and PUBREL not yet come: by packet
            identifier, a hash of what the message is.
        subscribed: the session has our subscription.
    """

    in_hand: dict[int, Taken] = field(default_factory=dict)
    received: dict[int, int] = field(default_factory=dict)
    subscribed: bool = False


class Session:
    """One connection's life."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        memory: Memory,
        emit: Emit,
        *,
        batch: int,
        source: str,
        clock: Clock,
        log: Log,
    ) -> None:
        if not connection.session_present:
            memory.in_hand, memory.received, memory.subscribed = {}, {}, False
        self._before, memory.in_hand = memory.in_hand, {}
        self._connection = connection
        self._settings = settings
        self._memory = memory
        self._emit = emit
        self._batch = batch
        self._source = source
        self._clock = clock
        self._log = log
        self._waiting: deque[Taken] = deque()
        self._held = 0
        self._bytes = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._granted: asyncio.Future[packets.Suback] = asyncio.get_running_loop().create_future()

    async def run(self, started: Callable[[], None]) -> None:
        """Emit what comes until cancelled; `started` once the broker has the subscription.

        Raises:
            Disconnected: the connection is lost.
            ConfigError: the broker refuses the topic.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(), name="mqtt: reads")
                tasks.create_task(self._connection.keep(), name="mqtt: pings")
                await self._subscribe()
                started()
                while True:
                    await self._filled.wait()
                    self._filled.clear()
                    while self._waiting:
                        await self._settle(self._next())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _subscribe(self) -> None:
        """A session that has the subscription is not asked again: the broker would send
        what it has retained once more."""
        settings, where = self._settings, self._connection.where
        if self._memory.subscribed:
            self._granted.cancel()
            return
        await self._connection.send(
            packets.subscribe(
                settings.version,
                _SUBSCRIBE,
                settings.topic,
                settings.qos,
                retained=settings.retained,
            )
        )
        try:
            async with asyncio.timeout(ANSWER):
                answer = await self._granted
        except TimeoutError as error:
            raise Disconnected(f"MQTT broker {where} does not answer SUBSCRIBE") from error
        if answer.code >= 0x80:
            raise ConfigError(
                f"MQTT broker {where} refuses {settings.topic}: "
                f"{said(answer.code, answer.properties)}; allow it to this user",
                path=f"{settings.path}.topic",
            )
        if settings.qos and not answer.code:
            raise ConfigError(
                f"MQTT broker {where} has only QoS 0 for {settings.topic}, which may lose "
                "events; if that is what you want, say qos: 0",
                path=f"{settings.path}.qos",
            )
        self._memory.subscribed = True

    # -- in ---------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            # Before the subscription is answered there is only what the session kept.
            while self._granted.done() and self._full():
                self._room.clear()
                await self._room.wait()
            for packet in await self._connection.read():
                await self._take(packet)

    def _full(self) -> bool:
        return self._held >= IN_FLIGHT or self._bytes >= IN_FLIGHT_BYTES

    async def _take(self, packet: packets.Packet) -> None:
        if isinstance(packet, packets.Publish):
            self._publish(packet)
        elif isinstance(packet, packets.Pubrel):
            self._memory.received.pop(packet.mid, None)
            await self._connection.send(packets.completion(packet.mid))
        elif isinstance(packet, packets.Suback):
            if not self._granted.done():
                self._granted.set_result(packet)
        elif isinstance(packet, packets.Bye):
            raise self._connection.ended(packet)

    def _publish(self, message: packets.Publish) -> None:
        known = self._before.pop(message.mid, None) if message.dup else None
        if known is not None and (known.message.topic, known.message.payload) == (
            message.topic,
            message.payload,
        ):
            taken = Taken(message, known.id, known.came, known.wanted)
        else:
            taken = Taken(message, str(uuid.uuid4()), self._clock.now(), self._wanted(message))
        if message.qos:
            self._memory.in_hand[message.mid] = taken
        self._held += 1
        self._bytes += len(message.payload)
        self._waiting.append(taken)
        self._filled.set()

    def _wanted(self, message: packets.Publish) -> bool:
        # Emitted already, and only our PUBREC was lost? A broker that crashed may have gone
        # back to an older state, and mean another message by that identifier.
        known = self._memory.received.get(message.mid) if message.dup else None
        if known is not None and known == _hash(message):
            return False
        if message.retain and not self._settings.retained:
            return False
        # A session keeps the subscriptions of earlier specs too, until it is forgotten.
        return matches(self._settings.filter, message.topic)

    def _next(self) -> list[Taken]:
        taken: list[Taken] = []
        size = 0
        while self._waiting and len(taken) < self._batch and size < _BATCH_BYTES:
            taken.append(self._waiting.popleft())
            size += len(taken[-1].message.payload)
        return taken

    # -- out --------------------------------------------------------------------------

    async def _settle(self, taken: Sequence[Taken]) -> None:
        events = [
            event
            for one in taken
            if one.wanted
            for event in events_of(one.message, self._source, one.id, one.came)
        ]
        for at in range(0, len(events), self._batch):
            batch = events[at : at + self._batch]
            await settle(self._emit, batch, clock=self._clock, log=self._log)
        answers = b""
        for one in taken:
            message = one.message
            self._held -= 1
            self._bytes -= len(message.payload)
            if message.qos:
                answers += packets.acknowledgement(message.qos, message.mid)
                self._memory.in_hand.pop(message.mid, None)
            if message.qos == 2:
                self._memory.received[message.mid] = _hash(message)
        self._room.set()
        if answers:
            await self._connection.send(answers)


def _hash(message: packets.Publish) -> int:
    return hash((message.topic, message.payload))
