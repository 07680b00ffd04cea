"""What brokers refuse, and what a sink makes of it: a person's matter, or the event's, or time's.

NATS, MQTT, RabbitMQ and Redis, each a real one; Kafka is in `test_kafka_sink.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import nats
import pytest
from redis.asyncio import Redis

from ofevents.api.resolved import ResolvedDelivery, SinkTarget
from ofevents.clock import SystemClock
from ofevents.errors import Misconfigured, OfeventsError, PermanentError, TooLarge, Unavailable
from ofevents.event import Event
from ofevents.ports import Delivery
from ofevents.subscriber import TimedOut, open_subscriber
from ofevents_adapters import nats_connection
from tests.conformance.rigs.sinks import MqttReader, RabbitmqReader, read_redis, read_stream
from tests.servers import until
from tests.servers.mosquitto import Mosquitto
from tests.servers.nats import NatsServer
from tests.servers.rabbitmq import RabbitmqServer
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.timeout(180)


class Sender:
    """A sink's subscriber, and what becomes of one event there."""

    def __init__(self, subscriber: Any) -> None:
        self._subscriber = subscriber

    async def send(self, id: str = "one", size: int = 2, **more: Any) -> None:
        event = Event.create(id=id, source="/check", type="check", data=b"x" * size, **more)
        await self._subscriber.deliver(Delivery("a/b/c", (event,)))

    async def fails(self, id: str = "one", size: int = 2) -> OfeventsError:
        try:
            await self.send(id, size)
        except OfeventsError as error:
            return error
        raise AssertionError("the broker was expected not to take it")

    async def insists(self, id: str) -> None:
        """As a Trigger does: a short timeout may be over before a slow machine has an answer."""

        async def taken() -> bool:
            try:
                await self.send(id)
            except Unavailable:
                return False
            return True

        await until(taken, seconds=60, what=f"{id} is taken")


@asynccontextmanager
async def sending(sink: str, timeout: float = 10.0, **spec: Any) -> AsyncIterator[Sender]:
    async with open_subscriber(
        SinkTarget(sink=sink, spec=spec),
        bus=None,
        subscriber_id="a/b/c",
        clock=SystemClock(),
        options=ResolvedDelivery(timeout=timeout),
    ) as subscriber:
        yield Sender(subscriber)


def is_only(kind: type[OfeventsError], error: OfeventsError, *words: str) -> None:
    """Of that class and of none below it, saying these words and no password."""
    assert type(error) is kind, repr(error)
    for word in words:
        assert word in str(error), str(error)
    assert "hidden" not in str(error)


# -- NATS -----------------------------------------------------------------------

NATS_USERS = """
max_payload: 50000
authorization { users: [
  {user: admin, password: admin}
  {user: shop, password: hidden, permissions: {publish: ["paid.>", "$JS.API.>"]}}
] }
"""


async def test_nats_refusals(tmp_path: Path) -> None:
    async with NatsServer(tmp_path, extra=NATS_USERS) as server:
        client = await nats.connect(server.url, user="admin", password="admin")
        add = client.jetstream().add_stream
        await add(name="PAID", subjects=["paid.cards"], max_msg_size=10_000)
        await add(name="FULL", subjects=["paid.full"], max_msgs=1, discard="new")
        await client.close()
        login = {"url": server.url, "credentials": {"username": "shop", "password": "hidden"}}
        wrong = {"url": server.url, "credentials": {"username": "shop", "password": "hidden-not"}}
        async with sending("nats", **wrong, subject="paid.cards") as bad:
            is_only(Misconfigured, await bad.fails(), "login")
        async with sending("nats", **login, subject="secret") as bad:
            is_only(Misconfigured, await bad.fails(), "ermissions", "secret")
        async with sending("nats", **login, subject="secret", jetstream=False) as bad:
            is_only(Misconfigured, await bad.fails(), "ermissions")
        async with sending("nats", **login, subject="paid.nobody") as bad:
            is_only(Misconfigured, await bad.fails(), "no stream takes this subject")
        async with sending("nats", **login, subject="paid.full") as full:
            await full.send("one")
            is_only(Unavailable, await full.fails("two"), "maximum messages")
        async with sending("nats", **login, subject="paid.cards") as good:
            is_only(TooLarge, await good.fails("large", 20_000))
            is_only(TooLarge, await good.fails("larger", 60_000), "50000")
            await good.send("small")


async def test_nats_knows_a_repetition_and_swallows_nothing_else(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="ALL", subjects=["out.>"])
        await client.close()
        for subject in ("out.one", "out.one", "out.two"):
            async with sending("nats", url=server.url, subject=subject) as sender:
                await sender.send("one")
        async with sending("nats", url=server.url, subject="out.one") as sender:
            await sender.send("one", 7)
        sizes = [len(event.data or b"") for event in await read_stream(server.url, "ALL")]
        assert sizes == [2, 2, 7], "a stream's other subject, and other data, are no repetition"


async def test_core_nats_is_confirmed_by_the_server(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        client = await nats.connect(server.url)
        inbox = await client.subscribe("out")
        await client.flush()
        async with sending("nats", url=server.url, subject="out", jetstream=False) as sender:
            await asyncio.gather(*(sender.send(f"{n}") for n in range(50)))
        ids = {(await inbox.next_msg(30)).headers["ce-id"] for _ in range(50)}
        assert ids == {f"{n}" for n in range(50)}
        await client.close()


async def test_a_server_that_answers_nothing_is_given_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_connection, "_PING", 60)  # so that no ping gives it up instead
    async with NatsServer(tmp_path) as server:
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="ALL", subjects=["out"])
        await client.close()
        async with sending("nats", timeout=1.0, url=server.url, subject="out") as sender:
            await sender.insists("before")
            await server.freeze()
            began = asyncio.get_running_loop().time()
            is_only(TimedOut, await sender.fails("during"), "within 1 s")
            assert asyncio.get_running_loop().time() - began < 20, "without it, after two pings"
            server.thaw()
            await sender.insists("after")


# -- MQTT -----------------------------------------------------------------------


@pytest.mark.parametrize("qos", [1, 2])
async def test_mqtt_permission(tmp_path: Path, qos: int) -> None:
    """With qos 2 the broker refuses a step that paho does not look at, and ends the connection."""
    (tmp_path / "acl").write_text("topic readwrite shop/#\n")
    async with Mosquitto(tmp_path, extra=f"acl_file {tmp_path}/acl") as broker:
        reader = MqttReader(broker.port)
        await reader.ready()
        async with sending("mqtt", url=broker.url, topic="secret", qos=qos) as bad:
            is_only(Misconfigured if qos == 1 else Unavailable, await bad.fails())
        async with sending("mqtt", url=broker.url, topic="shop/paid", qos=qos) as good:
            await good.send("one")
        await _arrive(reader, "one")
        await reader.close()


async def test_mqtt_login_packet_size_and_a_bad_attribute(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path / "a", extra="allow_anonymous false") as broker:
        url = broker.url.replace("//", "//me:hidden@")
        for protocol in ("5", "3.1.1"):
            async with sending("mqtt", url=url, topic="shop/paid", protocol=protocol) as bad:
                is_only(Misconfigured, await bad.fails(), "refuses us")
    async with (
        Mosquitto(tmp_path / "b", extra="max_packet_size 5000") as broker,
        sending("mqtt", url=broker.url, topic="shop/paid") as good,
    ):
        is_only(TooLarge, await good.fails("large", 6_000), "5000")
        with pytest.raises(PermanentError, match="its note has a control character"):
            await good.send("bad", note="two\nlines")
        await good.send("small")


async def test_mqtt_retains_when_asked(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path) as broker:
        async with sending("mqtt", url=broker.url, topic="shop/paid", retain=True) as sender:
            await sender.send("kept")
        reader = MqttReader(broker.port)
        await reader.ready()
        await _arrive(reader, "kept")
        await reader.close()


async def _arrive(reader: MqttReader, *ids: str) -> None:
    async def there() -> bool:
        return [event.id for event in await reader()] == list(ids)

    await until(there, seconds=60, what=f"{ids} and nothing else")


# -- RabbitMQ -------------------------------------------------------------------


async def test_rabbitmq_refusals(tmp_path: Path) -> None:
    async with RabbitmqServer(extra="max_message_size = 10000") as server:
        reader = RabbitmqReader(server.url, "paid")
        await reader.declare()
        async with await aio_pika.connect(server.url) as connection:
            channel = await connection.channel()
            limit = {"x-max-length": 1, "x-overflow": "reject-publish"}
            await channel.declare_queue("full", durable=True, arguments=limit)
            events = await channel.declare_exchange("events", "topic", durable=True)
            await (await channel.get_queue("paid")).bind(events, "shop.*")
        wrong = server.url.replace("//", "//guest:hidden@")
        async with sending("rabbitmq", url=wrong, routingKey="paid") as bad:
            is_only(Misconfigured, await bad.fails(), "login")
        async with sending("rabbitmq", url=server.url + "/nowhere", routingKey="paid") as bad:
            is_only(Misconfigured, await bad.fails(), "refuses the vhost")
        async with sending("rabbitmq", url=server.url, routingKey="nobody") as bad:
            is_only(Misconfigured, await bad.fails(), "no queue is bound for routing key 'nobody'")
        async with sending("rabbitmq", url=server.url, exchange="none", routingKey="x") as bad:
            is_only(Misconfigured, await bad.fails(), "no exchange 'none'")
        async with sending("rabbitmq", url=server.url, routingKey="full") as full:
            await full.send("one")
            is_only(Unavailable, await full.fails("two"), "nack")
        async with sending("rabbitmq", url=server.url, exchange="events", routingKey="shop.a") as s:
            await s.send("by the exchange")
        await _one_too_large_beside_many(server)
        ids = [event.id for event in await reader()]
        assert ids[0] == "by the exchange"
        assert set(ids[1:]) == {f"{n}" for n in range(50)}


async def _one_too_large_beside_many(server: RabbitmqServer) -> None:
    """It closes the channel for all: only it is TooLarge, and the others heal."""
    async with sending("rabbitmq", url=server.url, routingKey="paid") as sender:

        async def send(id: str, size: int) -> None:
            while True:
                try:
                    await sender.send(id, size)
                    return
                except Unavailable:
                    await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as tasks:
            for n in range(50):
                tasks.create_task(send(f"{n}", 100))
            large = tasks.create_task(_refused(send("large", 20_000)))
        is_only(TooLarge, large.result(), "20000", "10000")


async def _refused(sending: Any) -> OfeventsError:
    try:
        await sending
    except OfeventsError as error:
        return error
    raise AssertionError("it was taken")


# -- Redis ----------------------------------------------------------------------


async def test_redis_refusals(tmp_path: Path) -> None:
    users = ["user default off", "user admin on >admin ~* &* +@all",
             "user shop on >hidden ~paid ~text +@connection +xadd"]  # fmt: skip
    async with RedisServer(tmp_path, extra=users) as server:
        host, _, port = server.address.partition(":")
        async with Redis(host=host, port=int(port), username="admin", password="admin") as admin:
            await admin.set("text", "no stream")
            login = {"redisHost": server.address, "redisUsername": "shop"}
            async with sending("redis", **login, redisPassword="hidden-not", stream="paid") as bad:
                is_only(Misconfigured, await bad.fails(), "invalid username-password pair")
            async with sending("redis", redisHost=server.address, stream="paid") as bad:
                is_only(Misconfigured, await bad.fails(), "Authentication required")
            async with sending("redis", **login, redisPassword="hidden", stream="other") as bad:
                is_only(Misconfigured, await bad.fails(), "permission")
            async with sending("redis", **login, redisPassword="hidden", stream="text") as bad:
                is_only(Misconfigured, await bad.fails(), "WRONGTYPE")
            async with sending("redis", **login, redisPassword="hidden", stream="paid") as good:
                await good.send("one")
                await admin.config_set("min-replicas-to-write", 1)
                is_only(Unavailable, await good.fails("two"), "NOREPLICAS")
                await admin.config_set("min-replicas-to-write", 0)
                await admin.config_set("maxmemory", "1mb")
                is_only(Unavailable, await good.fails("three"), "maxmemory")
                await admin.config_set("maxmemory", 0)
                await good.send("four")
            assert await admin.xlen("paid") == 2


async def test_redis_trims_to_about_the_length(tmp_path: Path) -> None:
    async with RedisServer(tmp_path) as server:
        spec = {"redisHost": server.address, "stream": "paid", "maxLength": 100}
        async with sending("redis", **spec) as sender:
            for _ in range(10):
                await asyncio.gather(*(sender.send(f"{n}") for n in range(100)))
        assert 100 <= len(await read_redis(server.address)) < 1000


async def test_redis_that_answers_nothing_is_given_up_in_time(tmp_path: Path) -> None:
    async with RedisServer(tmp_path) as server:
        spec = {"redisHost": server.address, "stream": "paid"}
        async with sending("redis", timeout=1.0, **spec) as sender:
            await sender.insists("before")
            await server.freeze()
            error = await sender.fails("during")
            assert isinstance(error, TimedOut | Unavailable), repr(error)
            server.thaw()
            await sender.insists("after")
        ids = dict.fromkeys(event.id for event in await read_redis(server.address))
        assert [id for id in ids if id != "during"] == ["before", "after"]
