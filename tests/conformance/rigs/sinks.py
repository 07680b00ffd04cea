"""Rigs for the Subscriber suite: each sink of ours and a reader at its real broker.

Servers that start slowly are shared by all checks of a module run (`close` ends them);
each rig has a topic or queue of its own.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aio_pika
import nats
import paho.mqtt.client as paho
from confluent_kafka import Consumer, TopicPartition
from nats.js.errors import NotFoundError
from paho.mqtt.enums import CallbackAPIVersion
from redis.asyncio import Redis

from ofevents.api.resolved import ResolvedDelivery, SinkTarget
from ofevents.clock import SystemClock
from ofevents.conformance.check_subscriber import SUBSCRIBER, Rig
from ofevents.errors import BadEvent
from ofevents.event import BrokenEvent, Event, Scalar, check_attributes, from_http, is_json
from ofevents.ports import Format, Subscriber
from ofevents.subscriber import open_subscriber
from ofevents_adapters.kafka_record import event_of
from tests.servers import until
from tests.servers.kafka import KafkaServer
from tests.servers.mosquitto import Mosquitto
from tests.servers.nats import NatsServer
from tests.servers.rabbitmq import RabbitmqServer
from tests.servers.redis import RedisServer


class Server(Protocol):
    """How a broker is taken away and brought back."""

    async def start(self) -> None: ...
    async def kill(self) -> None: ...


S = TypeVar("S", bound=AbstractAsyncContextManager[Any])
_servers: dict[type[Any], Any] = {}


async def shared(kind: type[S]) -> S:
    """The one server of that class, which must belong to no event loop."""
    if kind not in _servers:
        _servers[kind] = await kind().__aenter__()
    found: S = _servers[kind]
    return found


async def close() -> None:
    """End the servers after the last check."""
    while _servers:
        _, server = _servers.popitem()
        await server.__aexit__(None, None, None)


@dataclass(slots=True)
class SinkRig:
    """A SinkSubscriber of a target; `read` gives all events at its broker so far."""

    target: SinkTarget
    server: Server
    read: Callable[[], Awaitable[list[Event]]]
    format: Format = "binary"
    typed: bool = False
    largest: int = 900_000
    gone: bool = field(default=False, init=False)

    def open(self, options: ResolvedDelivery) -> AbstractAsyncContextManager[Subscriber]:
        return open_subscriber(
            self.target,
            bus=None,
            subscriber_id=SUBSCRIBER,
            clock=SystemClock(),
            options=options.model_copy(update={"format": self.format}),
        )

    async def arrived(self) -> list[Event]:
        return await self.read()

    async def break_(self) -> None:
        self.gone = True
        await self.server.kill()

    async def restart(self) -> None:
        await self.server.start()
        self.gone = False

    async def heal(self) -> None:
        """Leave a server for the next rig."""
        if self.gone:
            await self.restart()


# -- Kafka ----------------------------------------------------------------------


class KafkaReader:
    """All records of a topic's partition, read as the `kafka` source reads them."""

    def __init__(self, brokers: str, topic: str, partition: int = 0) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": brokers, "group.id": "reader", "log_level": 0}
        )
        self._consumer.assign([TopicPartition(topic, partition, 0)])
        self._events: list[Event] = []

    async def __call__(self) -> list[Event]:
        await asyncio.to_thread(self._read)
        return self._events

    def _read(self) -> None:
        while (record := self._consumer.poll(0.2)) is not None:
            if record.error() is None:
                event = event_of(record, "/read")
                if not isinstance(event, BrokenEvent):  # the suite sends one
                    self._events.append(event)

    def close(self) -> None:
        self._consumer.close()


@asynccontextmanager
async def _kafka(format: Format, typed: bool) -> AsyncIterator[Rig]:
    server = await shared(KafkaServer)
    topic = f"sink-{uuid.uuid4().hex[:8]}"
    await server.create_topic(topic)
    reader = KafkaReader(server.brokers, topic)
    target = SinkTarget(sink="kafka", spec={"brokers": server.brokers, "topic": topic})
    rig = SinkRig(target, server, reader, format, typed)
    try:
        yield rig
    finally:
        await rig.heal()
        await asyncio.to_thread(reader.close)


def kafka_binary() -> AbstractAsyncContextManager[Rig]:
    return _kafka("binary", typed=False)


def kafka_structured() -> AbstractAsyncContextManager[Rig]:
    return _kafka("structured", typed=True)


# -- NATS -----------------------------------------------------------------------


STREAM = "PAID"
SUBJECT = "paid.cards"


async def read_stream(url: str, stream: str) -> list[Event]:
    """All events of a stream, in order."""
    client = await nats.connect(url)
    found: list[Event] = []
    try:
        jetstream = client.jetstream()
        last = (await jetstream.stream_info(stream)).state.last_seq
        for sequence in range(1, last + 1):
            try:
                message = await jetstream.get_msg(stream, sequence)
                found += from_http(message.headers or {}, message.data or b"") or []
            except (NotFoundError, BadEvent):
                continue
    finally:
        await client.close()
    return found


@asynccontextmanager
async def _nats(format: Format, typed: bool) -> AsyncIterator[Rig]:
    with tempfile.TemporaryDirectory() as folder:
        async with NatsServer(Path(folder)) as server:
            client = await nats.connect(server.url)
            await client.jetstream().add_stream(name=STREAM, subjects=[SUBJECT])
            await client.close()
            target = SinkTarget(sink="nats", spec={"url": server.url, "subject": SUBJECT})
            yield SinkRig(target, server, lambda: read_stream(server.url, STREAM), format, typed)


def nats_binary() -> AbstractAsyncContextManager[Rig]:
    return _nats("binary", typed=False)


def nats_structured() -> AbstractAsyncContextManager[Rig]:
    return _nats("structured", typed=True)


# -- MQTT -----------------------------------------------------------------------

MQTT_TOPIC = "shop/paid"


class MqttReader:
    """A subscriber that stays, and comes back when the broker does."""

    def __init__(self, port: int) -> None:
        self._messages: list[paho.MQTTMessage] = []
        self._subscribed = threading.Event()
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.reconnect_delay_set(1, 1)
        client.on_connect = lambda *_: client.subscribe(MQTT_TOPIC, 1)
        client.on_disconnect = lambda *_: self._subscribed.clear()
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_message = lambda *found: self._messages.append(found[2])
        client.connect("127.0.0.1", port)
        client.loop_start()
        self._client = client

    async def ready(self) -> None:
        await until(self._subscribed.is_set, seconds=60, what="the reader has subscribed")

    async def __call__(self) -> list[Event]:
        found = []
        for message in list(self._messages):
            try:
                found.append(mqtt_event(message))
            except BadEvent:
                continue  # the suite sends one
        return found

    async def close(self) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)


def mqtt_event(message: paho.MQTTMessage) -> Event:
    """As the MQTT binding of CloudEvents has it."""
    properties: Any = message.properties
    content_type = getattr(properties, "ContentType", None)
    pairs = getattr(properties, "UserProperty", [])
    if not pairs:
        return Event.from_json(message.payload)
    attributes: dict[str, Scalar] = dict(pairs)
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    check_attributes(attributes)
    empty = not message.payload and is_json(content_type)
    return Event(attributes, None if empty else message.payload)


class _MqttServer:
    """The broker, back when the reader is there again, too."""

    def __init__(self, broker: Mosquitto, reader: MqttReader) -> None:
        self._broker = broker
        self._reader = reader

    async def kill(self) -> None:
        await self._broker.kill()

    async def start(self) -> None:
        await self._broker.start()
        await self._reader.ready()


@asynccontextmanager
async def _mqtt(typed: bool, **fields: Any) -> AsyncIterator[Rig]:
    with tempfile.TemporaryDirectory() as folder:
        async with Mosquitto(Path(folder)) as broker:
            reader = MqttReader(broker.port)
            try:
                await reader.ready()
                spec = {"url": broker.url, "topic": MQTT_TOPIC, **fields}
                server = _MqttServer(broker, reader)
                yield SinkRig(SinkTarget(sink="mqtt", spec=spec), server, reader, typed=typed)
            finally:
                await reader.close()


def mqtt_binary() -> AbstractAsyncContextManager[Rig]:
    return _mqtt(typed=False)


def mqtt_binary_qos_2() -> AbstractAsyncContextManager[Rig]:
    return _mqtt(typed=False, qos=2)


def mqtt_structured() -> AbstractAsyncContextManager[Rig]:
    return _mqtt(typed=True, protocol="3.1.1")


# -- RabbitMQ -------------------------------------------------------------------


class RabbitmqReader:
    """All messages of a queue so far."""

    def __init__(self, url: str, queue: str) -> None:
        self._url = url
        self._queue = queue
        self._events: list[Event] = []

    async def declare(self) -> None:
        async with await aio_pika.connect(self._url) as connection:
            channel = await connection.channel()
            await channel.declare_queue(self._queue, durable=True)

    async def __call__(self) -> list[Event]:
        before = asyncio.all_tasks()
        await self._read()
        # aio-pika's last tasks end a moment after its `close`; a check counts what is left.
        await until(
            lambda: asyncio.all_tasks() <= before, seconds=60, what="the reader's tasks have ended"
        )
        return self._events

    async def _read(self) -> None:
        async with await aio_pika.connect(self._url) as connection:
            channel = await connection.channel()
            queue = await channel.get_queue(self._queue, ensure=False)
            while (message := await queue.get(no_ack=True, fail=False)) is not None:
                try:
                    self._events.append(rabbitmq_event(message))
                except BadEvent:
                    continue  # the suite sends one


def rabbitmq_event(message: aio_pika.abc.AbstractIncomingMessage) -> Event:
    """As the AMQP binding of CloudEvents has it, with AMQP 0.9.1's headers."""
    prefix = "cloudEvents:"
    found: dict[str, Any] = {
        name.removeprefix(prefix): value
        for name, value in message.headers.items()
        if name.startswith(prefix)
    }
    if not found:
        return Event.from_json(message.body)
    if message.content_type is not None:
        found["datacontenttype"] = message.content_type
    check_attributes(found)
    empty = not message.body and is_json(message.content_type)
    return Event(found, None if empty else message.body)


@asynccontextmanager
async def _rabbitmq(format: Format) -> AsyncIterator[Rig]:
    server = await shared(RabbitmqServer)
    queue = f"sink-{uuid.uuid4().hex[:8]}"
    reader = RabbitmqReader(server.url, queue)
    await reader.declare()
    target = SinkTarget(sink="rabbitmq", spec={"url": server.url, "routingKey": queue})
    # What RabbitMQ knows of a queue it writes a moment after it has confirmed it.
    await server.control("eval", "mnesia:sync_log().")
    rig = SinkRig(target, server, reader, format, typed=True)
    try:
        yield rig
    finally:
        await rig.heal()


def rabbitmq_binary() -> AbstractAsyncContextManager[Rig]:
    return _rabbitmq("binary")


def rabbitmq_structured() -> AbstractAsyncContextManager[Rig]:
    return _rabbitmq("structured")


# -- Redis ----------------------------------------------------------------------

REDIS_STREAM = "paid"


async def read_redis(address: str) -> list[Event]:
    """All entries of the stream, fields in place of HTTP's headers."""
    host, _, port = address.partition(":")
    found: list[Event] = []
    async with Redis(host=host, port=int(port)) as client:
        for _, fields in await client.xrange(REDIS_STREAM):
            data = fields.pop(b"data")
            try:
                found += from_http(list(fields.items()), data) or []
            except BadEvent:
                continue  # the suite sends one
    return found


@asynccontextmanager
async def _redis(format: Format, typed: bool) -> AsyncIterator[Rig]:
    with tempfile.TemporaryDirectory() as folder:
        async with RedisServer(Path(folder)) as server:
            spec = {"redisHost": server.address, "stream": REDIS_STREAM}
            target = SinkTarget(sink="redis", spec=spec)
            yield SinkRig(target, server, lambda: read_redis(server.address), format, typed)


def redis_binary() -> AbstractAsyncContextManager[Rig]:
    return _redis("binary", typed=False)


def redis_structured() -> AbstractAsyncContextManager[Rig]:
    return _redis("structured", typed=True)


RIGS = [
    kafka_binary, kafka_structured, nats_binary, nats_structured, mqtt_binary, mqtt_binary_qos_2,
    mqtt_structured, rabbitmq_binary, rabbitmq_structured, redis_binary, redis_structured,
]  # fmt: skip
