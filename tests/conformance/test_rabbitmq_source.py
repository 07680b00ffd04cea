"""What only RabbitMQ has: queues, bindings, prefetch, logins, TLS; on a real server."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aio_pika
import pytest
import trustme
from pamqp import encode
from structlog.testing import capture_logs

from ofevents.conformance.source_rig import Emitted, within, working
from ofevents.errors import ConfigError, Disconnected, PermanentError
from ofevents.event import BrokenEvent, Event
from ofevents.ports import Reply
from ofevents.telemetry import LAG
from ofevents_adapters import rabbitmq_connection, rabbitmq_session, settle
from tests.conformance.rigs import rabbitmq
from tests.conformance.rigs.doomed import doomed
from tests.conformance.rigs.rabbitmq import RabbitmqRig
from tests.servers import until
from tests.servers.rabbitmq import RabbitmqServer

pytestmark = pytest.mark.timeout(240)

SECRET = "geheim-und-lang"


@pytest.fixture(scope="module", autouse=True)
def shared_server() -> Any:
    yield
    asyncio.run(rabbitmq.close())


@pytest.fixture
async def rig() -> AsyncIterator[RabbitmqRig]:
    async with rabbitmq.open_rig() as made:
        yield made


async def once(rig: RabbitmqRig) -> None:
    """One life of a worker, which must end with an error."""
    await rig.make().run(Emitted(rig), store=rig.store, started=lambda address: None)


def numbered(*numbers: int) -> list[aio_pika.Message]:
    return [aio_pika.Message(b'{"number": %d}' % n) for n in numbers]


async def ready(rig: RabbitmqRig) -> int:
    """How many messages nobody has in hand."""
    async with rig.channel() as channel:
        queue = await channel.declare_queue(rig.name, passive=True)
        return queue.declaration_result.message_count or 0


# -- queue, exchange, binding ---------------------------------------------------------


async def test_queue_exchange_and_binding_are_declared(rig: RabbitmqRig) -> None:
    exchange = f"{rig.name}-x"
    rig.fields = {"exchange": exchange, "routingKey": "orders.*.paid"}
    emit = Emitted(rig)
    async with working(rig, emit) as worker:
        assert worker.started[0].startswith(f"queue {rig.name} at 127.0.0.1:")
        keys = ("orders.1.paid", "orders.1.sent", "orders.2.paid")
        for number, key in enumerate(keys):
            await rig.publish(*numbered(number), exchange=exchange, key=key)
        await emit.settles(["0", "2"])
    assert [event.attributes["subject"] for event in emit.settled] == [keys[0], keys[2]]
    await rig.break_()
    await rig.restart()
    async with working(rig, emit):  # they were durable
        await rig.publish(*numbered(3), exchange=exchange, key=keys[0])
        await emit.settles(["3"])


async def test_a_queue_of_the_users_is_used_as_it_is(rig: RabbitmqRig) -> None:
    async with rig.channel() as channel:
        kind = {"x-queue-type": "quorum"}
        queue = await channel.declare_queue(rig.name, durable=True, arguments=kind)
        emit = Emitted(rig)
        async with working(rig, emit):
            await rig.publish(*numbered(1), key=rig.name)
            await emit.settles(["1"])
        await queue.delete(if_unused=False, if_empty=False)


async def test_a_missing_queue_is_named_and_waited_for(rig: RabbitmqRig) -> None:
    rig.fields = {"declare": False}
    emit = Emitted(rig)
    async with working(rig, emit, live=False) as worker:
        await within(lambda: bool(worker.lost), "Disconnected was raised")
        assert f"no queue {rig.name!r}: create it" in str(worker.lost[0])
        await emit.settles(await rig.feed(2))  # which creates it


async def test_an_exchange_of_another_type_is_the_users_to_mend(rig: RabbitmqRig) -> None:
    rig.fields = {"exchange": "amq.direct", "exchangeType": "fanout"}
    with pytest.raises(ConfigError, match="inequivalent arg 'type'") as caught:
        await once(rig)
    assert caught.value.path == f"spec.rabbitmq.{rig.name}.exchange"


async def test_a_queue_that_is_deleted_is_told_and_made_again(rig: RabbitmqRig) -> None:
    emit = Emitted(rig)
    async with working(rig, emit) as worker:
        await emit.settles(await rig.feed(2))
        async with rig.channel() as channel:
            await channel.queue_delete(rig.name)
        await within(lambda: len(worker.started) > 1, "it is live again")
        assert "has ended the consumer" in str(worker.lost[0])
        assert "was the queue deleted?" in str(worker.lost[0])
        await emit.settles(await rig.feed(2))


# -- acknowledging ----------------------------------------------------------------------


async def test_what_a_killed_worker_had_in_hand_comes_again(rig: RabbitmqRig) -> None:
    keys = await rig.feed(30)
    async with doomed("rabbitmq", rig.identity, rig.document()) as worker:
        offered = await worker.offered(1)
        await worker.kill()

    async def given_back() -> bool:
        return await ready(rig) == len(keys)

    await until(given_back, seconds=60, what="the broker has noticed its end")
    emit = Emitted(rig)
    async with working(rig, emit):
        await emit.settles(keys)
    assert emit.keys(emit.settled) == list(keys), "in their order"
    again = [event for event in emit.settled if event.attributes.get("rabbitmqredelivered")]
    assert again, "those that it had are marked"
    assert offered[0] == emit.settled[0].id == "m-0", "the message id stays"


async def test_a_stopped_worker_gives_back_at_once(rig: RabbitmqRig) -> None:
    one, two = Emitted(rig), Emitted(rig)
    one.gate.clear()
    async with working(rig, one):
        keys = await rig.feed(20)
        await within(lambda: one.inside > 0, "a message came to emit")
    began = time.monotonic()
    async with working(rig, two):
        await two.settles(keys)
    assert time.monotonic() - began < 30


async def test_a_server_killed_in_the_stream_loses_nothing(rig: RabbitmqRig) -> None:
    emit = Emitted(rig)
    async with working(rig, emit) as worker:
        keys = [*await rig.feed(500)]
        await within(lambda: bool(emit.settled), "some are settled")
        await rig.break_()
        await within(lambda: bool(worker.lost), "Disconnected was raised")
        await rig.restart()
        keys += await rig.feed(20)
        await emit.settles(keys)


async def test_the_broker_sends_no_more_than_the_prefetch(rig: RabbitmqRig) -> None:
    rig.fields = {"prefetch": 7}
    emit = Emitted(rig)
    emit.gate.clear()
    keys = await rig.feed(40)
    async with working(rig, emit):
        await within(lambda: emit.inside > 0, "a message came to emit")
        assert await ready(rig) == 33
        emit.gate.set()
        await emit.settles(keys)
    assert emit.most_inside <= 7
    assert await ready(rig) == 0


async def test_an_event_that_nothing_takes_is_kept_and_the_others_of_its_emit_go_on(
    rig: RabbitmqRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "LONGEST", 0.05)
    emit = Emitted(rig)
    refused: list[str] = []

    async def picky(*events: Event) -> Reply | None:
        if any(emit.keys([event]) == ["2"] for event in events) and len(refused) < 4:
            refused.append(events[0].id)
            raise PermanentError("no dead letter can take it")
        return await emit(*events)

    keys = await rig.feed(5)
    with capture_logs() as logs:
        async with working(rig, picky):  # type: ignore[arg-type]
            await emit.settles(keys)
    assert len(refused) == 4
    assert any(line["event"] == "stalled" for line in logs)


async def test_without_a_bus_events_are_emitted_one_at_a_time(rig: RabbitmqRig) -> None:
    rig.store = None
    emit = Emitted(rig)
    async with working(rig, emit):
        await emit.settles(await rig.feed(50))
    assert emit.most_inside == 1


# -- what a message becomes ---------------------------------------------------------------


async def test_what_the_publisher_says_of_a_message(rig: RabbitmqRig) -> None:
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    message = aio_pika.Message(
        b"a,b", content_type="text/csv", message_id="m-7", timestamp=moment, app_id="till",
        correlation_id="c-1", type="sale", headers={"X-Trace": 5, "nested": {"a": 1}},
    )  # fmt: skip
    emit = Emitted(rig)
    async with working(rig, emit):
        await rig.publish(message)
        await within(lambda: bool(emit.settled), "it came")
    assert dict(emit.settled[0].attributes) == {
        "specversion": "1.0",
        "id": "m-7",
        "source": f"/ofevents/default/shop/{rig.name}",
        "type": "ofevents.rabbitmq",
        "subject": rig.name,
        "time": "2026-01-31T12:00:00Z",
        "datacontenttype": "text/csv",
        "rabbitmqappid": "till",
        "rabbitmqcorrelationid": "c-1",
        "rabbitmqmessagetype": "sale",
        "rabbitmqheaderxtrace": "5",
    }


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        ("timestamp", struct.pack("!Q", 1_769_860_800_000_000), {"timestamp": datetime.now(UTC)}),
        ("shortstr", b"\x02\xff\xfe", {"app_id": "WRONG"}),
        ("table", b"\0\0\0\x04\x01\xff" + b"t\1", {"headers": {"a": 1}}),
    ],
    ids=["microseconds", "no UTF-8", "no UTF-8 in headers"],
)
async def test_a_property_that_cannot_be_decoded_does_not_hold_up_the_queue(
    rig: RabbitmqRig, monkeypatch: pytest.MonkeyPatch, kind: str, wrong: bytes, message: Any
) -> None:
    right = encode.METHODS[kind]

    def encoded(value: Any) -> bytes:
        return wrong if value in ("WRONG", *message.values()) else right(value)

    emit = Emitted(rig)
    async with working(rig, emit) as worker:
        with monkeypatch.context() as patch:
            patch.setitem(encode.METHODS, kind, encoded)
            await rig.publish(aio_pika.Message(b'{"number": -1}', **message))
        await emit.settles(["-1", *await rig.feed(2)])
    assert not worker.lost


@pytest.mark.parametrize("prefix", ["cloudEvents:", "cloudEvents_"])
async def test_cloud_events_keep_their_identity(rig: RabbitmqRig, prefix: str) -> None:
    own: dict[str, Any] = {
        "specversion": "1.0", "id": "a-1", "source": "/till", "type": "sale", "n": 5,
        "time": datetime(2026, 1, 31, 12, tzinfo=UTC),
    }  # fmt: skip
    headers = {prefix + name: value for name, value in own.items()}
    structured = b'{"specversion":"1.0","id":"a-2","source":"/till","type":"sale","data":1}'
    emit = Emitted(rig)
    async with working(rig, emit):
        await rig.publish(
            aio_pika.Message(b"<a/>", content_type="text/xml", headers=headers),
            aio_pika.Message(structured, content_type="application/cloudevents+json"),
            aio_pika.Message(b"<a/>", headers={prefix + "id": "a-3"}),
        )
        await within(lambda: len(emit.settled) == 3, "all came")
    binary, whole, bad = emit.settled
    assert dict(binary.attributes) == {
        **own,
        "time": "2026-01-31T12:00:00Z",
        "datacontenttype": "text/xml",
    }
    assert (whole.id, whole.value) == ("a-2", 1)
    assert isinstance(bad, BrokenEvent) and bad.data == b"<a/>"
    assert bad.type == "ofevents.rabbitmq.malformed"


async def test_the_lag_is_a_metric(rig: RabbitmqRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq_session, "LOOK", 0.05)
    rig.fields = {"prefetch": 10}
    emit = Emitted(rig)
    emit.gate.clear()
    lag = LAG.labels("default", "shop", rig.name)._value
    async with working(rig, emit):
        keys = await rig.feed(40)
        await within(lambda: lag.get() == 30, "the lag is 30: ten are in hand")
        emit.gate.set()
        await emit.settles(keys)
        await within(lambda: lag.get() == 0, "the lag is 0")


# -- the connection ---------------------------------------------------------------------


async def test_a_server_that_hangs_is_lost(
    rig: RabbitmqRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in (
        (rabbitmq_session, "LOOK"),
        (rabbitmq_connection, "ANSWER"),
        (rabbitmq_connection, "CONNECT"),
    ):
        monkeypatch.setattr(module, name, 1.0)
    async with working(rig, Emitted(rig)) as worker:
        rig.server.freeze()
        try:
            # Of a busy server's answer, too, so short a wait may be over.
            for why in ("looking at the queue: no answer", "cannot be reached"):
                await within(
                    lambda why=why: any(why in str(error) for error in worker.lost),  # type: ignore[misc]
                    f"Disconnected was raised: {why}",
                )
        finally:
            rig.server.thaw()
        await within(lambda: len(worker.started) > 1, "started was called again")


async def test_a_port_that_speaks_something_else(rig: RabbitmqRig) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        rig.fields = {"url": f"amqp://127.0.0.1:{server.sockets[0].getsockname()[1]}"}
        with pytest.raises(Disconnected, match="cannot be reached"):
            await once(rig)


async def test_logins_vhosts_and_permissions(rig: RabbitmqRig) -> None:
    await rig.server.control("add_user", "ann", SECRET)
    await rig.server.control("set_permissions", "ann", "^other$", ".*", ".*")
    where = rig.server.url.removeprefix("amqp://")
    refused = {
        f"amqp://ann:not-{SECRET}@{where}": ("refuses the login", ".url"),
        f"amqp://bob:{SECRET}@{where}": ("refuses the login", ".url"),
        f"amqp://ann:{SECRET}@{where}": ("allow it to this user", ".queue"),
    }
    for url, (why, path) in refused.items():
        rig.fields = {"url": url}
        with pytest.raises(ConfigError, match=why) as caught:
            await once(rig)
        assert caught.value.path == f"spec.rabbitmq.{rig.name}{path}"
        assert SECRET not in str(caught.value)
    for vhost in ("nowhere", "%2F%2F"):
        rig.fields = {"url": f"amqp://ann:{SECRET}@{where}/{vhost}"}
        with pytest.raises(Disconnected, match="refuses the vhost: it is not there"):
            await once(rig)
    await rig.feed(1)
    rig.fields = {"url": f"amqp://ann:{SECRET}@{where}/%2F"}
    emit = Emitted(rig)
    async with working(rig, emit):  # the queue is there: reading it is allowed
        await emit.settles(["0"])


async def test_tls_on_both_sides(rig: RabbitmqRig) -> None:
    server: RabbitmqServer = rig.server
    mine = server.authority.issue_cert("reader@example.org")
    ca = server.authority.cert_pem.bytes().decode()
    pair = {
        "cert": mine.cert_chain_pems[0].bytes().decode(),
        "key": mine.private_key_pem.bytes().decode(),
    }
    keys = await rig.feed(30)
    rig.fields = {"url": server.tls_url, "tls": {"ca": ca, **pair}}
    emit = Emitted(rig)
    async with working(rig, emit):
        await emit.settles(keys)
    stranger = trustme.CA().cert_pem.bytes().decode()
    for tls in ({"ca": stranger, **pair}, pair):
        rig.fields["tls"] = tls
        with pytest.raises(Disconnected, match="certificate verify failed"):
            await once(rig)
    rig.fields["tls"] = {"ca": ca}
    with pytest.raises(Disconnected):  # without a certificate of its own
        await once(rig)
    rig.fields["tls"] = {"insecureSkipVerify": True, **pair}
    async with working(rig, Emitted(rig)):
        pass
