"""The `kafka` source with a schema registry: a real Kafka, Confluent's own serialisers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from ofevents.api.kafka import KafkaSpec
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError, Disconnected
from ofevents.event import BrokenEvent, Event
from ofevents.ports import SourceIdentity
from ofevents_adapters.kafka import KafkaSource
from tests.servers import until
from tests.servers.kafka import KafkaServer
from tests.servers.registry import SchemaRegistry
from tests.servers.sink import Certificates
from tests.unit.adapters.kafka_schemas import MONEY, ORDER, ORDER_JSON, message, order

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaServer]:
    server = asyncio.run(KafkaServer().__aenter__())
    yield server
    asyncio.run(server.__aexit__(None, None, None))


@pytest.fixture
async def registry() -> AsyncIterator[SchemaRegistry]:
    async with SchemaRegistry() as made:
        yield made


class Reading:
    """A source that runs as its EventSource runs it, and what it has emitted."""

    def __init__(self, kafka: KafkaServer, topic: str, registry: dict[str, Any]) -> None:
        spec = KafkaSpec.model_validate(
            {"brokers": kafka.brokers, "topic": topic, "schemaRegistry": registry}
        )
        identity = SourceIdentity("default", topic, "kafka", "orders")
        self.source = KafkaSource(spec, identity, clock=SystemClock())
        self.events: list[Event] = []
        self.lost: list[Disconnected] = []
        self._store = MemoryStore(Broker(max_bytes=1_000_000, window=60), SystemClock())

    async def emit(self, *events: Event) -> None:
        self.events += events

    async def run(self) -> None:
        while True:
            try:
                await self.source.run(self.emit, store=self._store, started=lambda _: None)
            except Disconnected as error:
                self.lost.append(error)
                await asyncio.sleep(0.2)

    async def emitted(self, count: int) -> list[Event]:
        await until(lambda: len(self.events) >= count, seconds=60, what=f"{count} events")
        assert len(self.events) == count
        return self.events


@asynccontextmanager
async def reading(kafka: KafkaServer, topic: str, **registry: Any) -> AsyncIterator[Reading]:
    made = Reading(kafka, topic, registry)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def topic(kafka: KafkaServer) -> str:
    name = f"orders-{uuid.uuid4().hex[:8]}"
    await kafka.create_topic(name)
    return name


def serialised(registry: SchemaRegistry, topic: str) -> list[bytes]:
    """An order in Avro (with a reference), Protobuf and JSON Schema, by Confluent's client."""
    with SchemaRegistryClient({"url": registry.url}) as client:
        return _serialised(client, topic)


def _serialised(client: SchemaRegistryClient, topic: str) -> list[bytes]:
    context = SerializationContext(topic, MessageField.VALUE)
    money = SchemaReference("shop.Money", "money-value", 1)
    client.register_schema("money-value", Schema(MONEY, "AVRO"))
    avro = AvroSerializer(client, Schema(ORDER, "AVRO", [money]))
    value = {
        "id": "7",
        "total": {"amount": 3, "currency": "EUR"},
        "at": 0,
        "rate": Decimal("1.50"),
        "raw": b"",
        "note": "n",
        "tags": {},
    }
    schema = '{"type": "object", "title": "Order", "properties": {"id": {"type": "string"}}}'
    return [
        avro(value, context) or b"",
        ProtobufSerializer(message("shop.Order"), client)(order(), context) or b"",
        JSONSerializer(schema, client)({"id": "7"}, context) or b"",
    ]


async def test_all_three_formats_become_json_data(
    kafka: KafkaServer, registry: SchemaRegistry
) -> None:
    name = await topic(kafka)
    values = await asyncio.to_thread(serialised, registry, name)
    claim = [(f"ce_{k}", v) for k, v in (("specversion", b"1.0"), ("id", b"own"),
             ("source", b"/shop"), ("type", b"paid"))]  # fmt: skip
    whole = [("content-type", b"application/cloudevents+json")]
    records: list[dict[str, Any]] = [{"value": value, "key": b"k"} for value in values]
    records.append({"value": values[0], "headers": [*claim, ("content-type", b"application/avro")]})
    records.append({"value": None, "key": b"k"})
    event = Event.create(id="structured", source="/shop", type="paid", data=b"1")
    records.append({"value": event.to_json(), "headers": whole})
    await kafka.produce(name, records)
    async with reading(kafka, name, url=registry.url) as made:
        events = await made.emitted(6)
    avro, protobuf, json, binary, tombstone, structured = events
    assert avro.value["total"] == {"amount": 3, "currency": "EUR"}
    assert avro.value["at"] == "1970-01-01T00:00:00Z"
    assert protobuf.value == ORDER_JSON
    assert json.value == {"id": "7"}
    for event in (avro, protobuf, json):
        assert (event.type, event.datacontenttype) == ("ofevents.kafka", "application/json")
        assert event.partitionkey == "k"
        assert str(event.attributes["dataschema"]).startswith(f"{registry.url}/schemas/ids/")
    assert (binary.id, binary.source, binary.type) == ("own", "/shop", "paid")
    assert (binary.value, binary.datacontenttype) == (avro.value, "application/json")
    assert tombstone.data is None
    assert (structured.id, structured.data) == ("structured", b"1")


async def test_each_schema_is_asked_for_once(kafka: KafkaServer, registry: SchemaRegistry) -> None:
    name = await topic(kafka)
    number = registry.register("a", {"schema": '"string"'})
    frame = b"\x00" + number.to_bytes(4, "big")
    await kafka.produce(name, [{"value": frame + b"\x02a"} for _ in range(300)])
    async with reading(kafka, name, url=registry.url) as made:
        events = await made.emitted(300)
    assert {event.data for event in events} == {b'"a"'}
    assert registry.asked == [f"/schemas/ids/{number}"]


async def test_what_cannot_be_decoded_is_broken_with_its_bytes_and_the_rest_goes_on(
    kafka: KafkaServer, registry: SchemaRegistry
) -> None:
    name = await topic(kafka)
    number = registry.register("a", {"schema": '"string"'})
    wrong = registry.register("b", {"schema": "no schema"})
    good = b"\x00" + number.to_bytes(4, "big")
    bad = {
        b'{"plain": 1}': "not written with a schema registry",
        b"\x00\x00": "not written with a schema registry",
        b"\x00\x00\x00\x00\x63rest": "Schema not found",
        b"\x00" + wrong.to_bytes(4, "big") + b"x": f"schema {wrong} cannot be used",
        good + b"\x63short": f"does not fit schema {number}",
    }
    values = [value for one in bad for value in (one, good + b"\x02a")]
    await kafka.produce(name, [{"value": value} for value in values])
    async with reading(kafka, name, url=registry.url) as made:
        events = await made.emitted(10)
    assert [event.data for event in events[1::2]] == [b'"a"'] * 5
    for event, (value, reason) in zip(events[0::2], bad.items(), strict=True):
        assert isinstance(event, BrokenEvent)
        assert (event.type, event.data) == ("ofevents.kafka.malformed", value)
        assert reason in str(event.error), str(event.error)


async def test_a_registry_that_is_away_is_waited_for_and_nothing_is_lost_or_out_of_order(
    kafka: KafkaServer, registry: SchemaRegistry
) -> None:
    name = await topic(kafka)
    number = registry.register("a", {"schema": '"long"'})
    frame = b"\x00" + number.to_bytes(4, "big")
    await kafka.produce(name, [{"value": frame + bytes([2 * n])} for n in range(20)])
    await registry.http.stop()
    async with reading(kafka, name, url=registry.url) as made:
        await until(lambda: len(made.lost) > 0, seconds=60, what="Disconnected")
        assert f"schema registry {registry.url}" in str(made.lost[0])
        registry.broken = 503
        seen = len(made.lost)
        await registry.http.start()
        await until(
            lambda: any("HTTP status code 503" in str(one) for one in made.lost[seen:]),
            seconds=60,
            what="a 503 is Disconnected, too",
        )
        assert made.events == []
        registry.broken = 0
        events = await made.emitted(20)
    assert [event.value for event in events] == list(range(20))


async def test_login_and_tls(kafka: KafkaServer) -> None:
    name = await topic(kafka)
    certificates = Certificates()
    registry = SchemaRegistry()
    registry.http.tls = certificates.server(ask=True)
    registry.http.require = ("authorization", "Basic bWU6aGlkZGVu")
    number = registry.register("a", {"schema": '"string"'})
    await kafka.produce(name, [{"value": b"\x00" + number.to_bytes(4, "big") + b"\x02a"}])
    tls = {
        "ca": certificates.ca,
        "cert": certificates.client_cert,
        "key": certificates.client_key,
    }
    login = {"url": registry.url, "username": "me", "tls": tls}
    async with registry:
        wrong = Reading(kafka, name, {**login, "password": "hidden-not"})
        with pytest.raises(ConfigError, match="check the login") as found:
            await wrong.run()
        assert found.value.path == "spec.kafka.orders.schemaRegistry"
        assert "hidden" not in str(found.value)
        async with reading(kafka, name, **login, password="hidden") as made:
            (event,) = await made.emitted(1)
    assert event.data == b'"a"'
