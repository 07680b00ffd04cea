"""The `kafka` sink against a real Kafka: what the suite of its port cannot ask for."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from ofevents.api.sink import KafkaSink as Spec
from ofevents.clock import SystemClock
from ofevents.errors import Misconfigured, TooLarge, Unavailable
from ofevents.event import Event
from ofevents.ports import Format
from ofevents_adapters.kafka_sink import KafkaSink
from tests.conformance.rigs.sinks import KafkaReader
from tests.servers import free_port, until
from tests.servers.kafka import PASSWORD, USER, KafkaServer

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaServer]:
    server = asyncio.run(KafkaServer().__aenter__())
    yield server
    asyncio.run(server.__aexit__(None, None, None))


@pytest.fixture
async def topic(kafka: KafkaServer) -> AsyncIterator[str]:
    if not kafka.running:
        await kafka.start()
    name = f"sink-{uuid.uuid4().hex[:8]}"
    await kafka.create_topic(name, config={"max.message.bytes": "20000"})
    yield name


def sink(
    brokers: str, topic: str, *, timeout: float = 10.0, format: Format = "binary", **fields: Any
) -> KafkaSink:
    spec = Spec.model_validate({"brokers": brokers, "topic": topic, **fields})
    return KafkaSink(spec, format=format, timeout=timeout, clock=SystemClock())


def event(id: str, size: int = 2, **more: Any) -> Event:
    return Event.create(id=id, source="/check", type="check", data=b"x" * size, **more)


async def test_a_large_event_costs_no_small_one_beside_it(kafka: KafkaServer, topic: str) -> None:
    """A broker refuses whole batches: what is small arrives, what is large is TooLarge."""
    async with sink(kafka.brokers, topic) as made:
        many = [event(f"{n}", 30_000 if n % 50 == 7 else 3_000) for n in range(200)]
        answers = await asyncio.gather(
            *(made.send(one, "k") for one in many), return_exceptions=True
        )
    large = {one.id for one in many if len(one.data or b"") > 20_000}
    refused = {one.id for one, said in zip(many, answers, strict=True) if said is not None}
    assert refused == large
    assert {type(said) for said in answers if said is not None} == {TooLarge}
    assert "30000 bytes" in str(next(said for said in answers if said is not None))
    reader = KafkaReader(kafka.brokers, topic)
    small = {one.id for one in many} - large

    async def there() -> bool:
        return {one.id for one in await reader()} >= small

    await until(there, seconds=60, what="what is small is in the topic")
    assert sorted(one.id for one in await reader()) == sorted(small)
    reader.close()


async def test_a_key_decides_the_partition_as_in_java(kafka: KafkaServer, topic: str) -> None:
    await kafka.add_partitions(topic, 6)
    async with sink(kafka.brokers, topic) as made:
        await made.send(event("one"), "21")
        await made.send(event("two"), "foobar")
    found: dict[str, int] = {}
    readers = [KafkaReader(kafka.brokers, topic, partition) for partition in range(6)]

    async def both() -> bool:
        for partition, reader in enumerate(readers):
            found.update({one.id: partition for one in await reader()})
        return len(found) == 2

    await until(both, seconds=60, what="both events are in the topic")
    for reader in readers:
        reader.close()
    # Utils.murmur2 of Kafka's own tests: "21" -> -973932308, "foobar" -> -790332482
    expected = {"one": -973932308, "two": -790332482}
    assert found == {id: (hashed & 0x7FFFFFFF) % 6 for id, hashed in expected.items()}


async def test_a_refused_login_is_misconfigured_at_once_and_heals(
    kafka: KafkaServer, topic: str
) -> None:
    login = {"saslUsername": USER, "saslPassword": PASSWORD}
    wrong = {**login, "saslPassword": "wrong"}
    async with sink(kafka.sasl_brokers, topic, timeout=30.0, **wrong) as made:
        async with asyncio.timeout(25):  # less than the timeout of one
            with pytest.raises(Misconfigured, match=f"{topic}.*uthentication"):
                await made.send(event("one"), None)
            with pytest.raises(Misconfigured):
                await made.send(event("two"), None)
    async with sink(kafka.sasl_brokers, topic, **login, saslMechanism="SCRAM-SHA-512") as made:
        await made.send(event("three"), None)


async def test_tls_and_a_client_certificate(kafka: KafkaServer, topic: str) -> None:
    made = kafka.certificates
    tls = {"ca": made.ca, "cert": made.cert, "key": made.key}
    async with sink(kafka.tls_brokers, topic, tls=tls) as good:
        await good.send(event("one"), None)
    async with sink(kafka.tls_brokers, topic, tls={"ca": made.ca}, timeout=3.0) as bad:
        with pytest.raises(Unavailable):
            await bad.send(event("two"), None)


async def test_a_topic_that_is_not_there_is_misconfigured_until_it_is(kafka: KafkaServer) -> None:
    if not kafka.running:
        await kafka.start()
    name = f"late-{uuid.uuid4().hex[:8]}"
    async with sink(kafka.brokers, name) as made:
        with pytest.raises(Misconfigured, match="create the topic"):
            await made.send(event("one"), None)
        await kafka.create_topic(name)
        async with asyncio.timeout(30):
            await made.send(event("two"), None)


async def test_nobody_there_is_said_with_the_reason_within_the_time() -> None:
    began = asyncio.get_running_loop().time()
    async with sink(f"127.0.0.1:{free_port()}", "paid", timeout=4.0) as made:
        with pytest.raises(Unavailable, match="Connection refused"):
            await made.send(event("one"), None)
    # librdkafka's own timeouts are of a minute and more.
    assert 3.0 < asyncio.get_running_loop().time() - began < 30


async def test_an_order_of_each_key_outlives_a_broker_that_is_killed(
    kafka: KafkaServer, topic: str
) -> None:
    """Senders of their own for ten keys, each waiting for its confirmation, over two kills."""
    sent: dict[str, int] = {}
    done = asyncio.Event()

    async def keep_on(made: KafkaSink, key: str) -> None:
        while not done.is_set():
            number = sent.get(key, 0)
            try:
                await made.send(event(f"{key}:{number}", partitionkey=key), key)
                sent[key] = number + 1
            except Unavailable:
                continue

    async with sink(kafka.brokers, topic, timeout=8.0) as made, asyncio.TaskGroup() as tasks:
        for key in "abcdefghij":
            tasks.create_task(keep_on(made, key))
        for _ in range(2):
            count = sum(sent.values())
            await until(lambda count=count: sum(sent.values()) > count + 100, seconds=90, what="on")
            await kafka.restart()
        count = sum(sent.values())
        await until(lambda: sum(sent.values()) > count + 100, seconds=90, what="it goes on")
        done.set()
    reader = KafkaReader(kafka.brokers, topic)
    await until(
        lambda: _all_there(reader, sent), seconds=60, what="every confirmed event is in the topic"
    )
    for key in sent:
        numbers = [
            int(one.id.partition(":")[2]) for one in await reader() if one.partitionkey == key
        ]
        firsts = list(dict.fromkeys(numbers))
        assert firsts == sorted(firsts), f"key {key} is out of order"
    reader.close()


async def _all_there(reader: KafkaReader, sent: dict[str, int]) -> bool:
    ids = {one.id for one in await reader()}
    return all(f"{key}:{n}" in ids for key, count in sent.items() for n in range(count))
