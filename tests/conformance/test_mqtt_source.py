"""What only MQTT has: QoS, sessions, retained messages, windows; on a real Mosquitto."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from ofevents.conformance.source_rig import Emitted, within, working
from ofevents.errors import ConfigError, Disconnected, PermanentError
from ofevents.event import BrokenEvent, Event
from ofevents.ports import Reply
from ofevents_adapters import mqtt_connection, mqtt_session, settle
from tests.conformance.rigs.doomed import doomed
from tests.conformance.rigs.mqtt import IDENTITY, MqttRig, open_qos1
from tests.servers.mosquitto import Mosquitto

pytestmark = pytest.mark.timeout(180)

VERSIONS = pytest.mark.parametrize("protocol", ["3.1.1", "5"])


@pytest.fixture
async def rig() -> AsyncIterator[MqttRig]:
    async with open_qos1() as made:
        yield made


async def once(rig: MqttRig) -> None:
    """One life of a worker, which must end with an error."""
    await rig.make().run(Emitted(rig), store=rig.store, started=lambda address: None)


# -- quality of service -----------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_every_quality_is_read_at_every_quality(
    rig: MqttRig, protocol: str, qos: int
) -> None:
    rig.fields = {"protocol": protocol, "qos": qos}
    emit = Emitted(rig)
    async with working(rig, emit):
        for sent in (0, 1, 2):
            await rig.publish(("orders/1", b'{"number": %d}' % sent, {}), qos=sent)
        await emit.settles(["0", "1", "2"])
    assert [event.attributes["subject"] for event in emit.settled] == ["orders/1"] * 3


@VERSIONS
@pytest.mark.parametrize("qos", [1, 2])
async def test_what_a_killed_worker_had_in_hand_comes_again(
    rig: MqttRig, protocol: str, qos: int
) -> None:
    rig.fields = {"protocol": protocol, "qos": qos}
    emit = Emitted(rig)
    async with working(rig, emit):
        pass  # the session is there
    keys = await rig.feed(15)
    document = {"url": rig.server.url, "topic": "orders/#", **rig.fields}
    async with doomed("mqtt", IDENTITY, document) as worker:
        await worker.offered(1)
        await worker.kill()
    async with working(rig, emit):
        await emit.settles(keys)
        await emit.settles(await rig.feed(5))
    assert emit.keys(emit.settled)[:15] == list(keys), "in their order"


async def test_a_broker_without_quality_is_the_users_to_decide(tmp_path: Any) -> None:
    async with Mosquitto(tmp_path, listener="max_qos 0") as server:
        rig = MqttRig(server, protocol="5")
        with pytest.raises(ConfigError, match="only QoS 0 for orders/#") as caught:
            await once(rig)
        assert caught.value.path == "spec.mqtt.orders.qos"
        rig.fields["qos"] = 0
        emit = Emitted(rig)
        async with working(rig, emit):
            await emit.settles(await rig.feed(3))


# -- the session --------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("clean", [False, True])
async def test_a_session_keeps_what_comes_meanwhile(
    rig: MqttRig, protocol: str, clean: bool
) -> None:
    rig.fields = {"protocol": protocol, "cleanSession": clean}
    emit = Emitted(rig)
    async with working(rig, emit):
        await emit.settles(await rig.feed(3))
    meanwhile = await rig.feed(50)
    async with working(rig, emit):
        await emit.settles(await rig.feed(3))
        if not clean:
            await emit.settles(meanwhile)
    assert (set(meanwhile) <= set(emit.keys(emit.offered))) is not clean


async def test_a_session_has_one_worker(rig: MqttRig) -> None:
    async with working(rig, Emitted(rig)) as first:
        other = asyncio.create_task(once(rig))
        await within(lambda: bool(first.lost), "the session was taken away")
        other.cancel()
        assert "another client with the id ofevents.default.shop.mqtt.orders" in str(first.lost[0])
        await asyncio.wait([other])


async def test_what_the_session_was_subscribed_to_earlier_is_not_emitted(rig: MqttRig) -> None:
    emit = Emitted(rig)
    async with working(rig, emit):
        await emit.settles(await rig.feed(1))
    rig.fields["topic"] = "orders/3"
    async with working(rig, emit):
        await rig.publish(("orders/2", b'{"number": -2}', {}), ("orders/3", b'{"number": -3}', {}))
        await emit.settles(["-3"])
    assert "-2" not in emit.keys(emit.offered)


@VERSIONS
async def test_a_message_keeps_its_id_over_a_lost_connection(rig: MqttRig, protocol: str) -> None:
    rig.fields["protocol"] = protocol
    emit = Emitted(rig)
    async with working(rig, emit) as worker:
        emit.gate.clear()
        keys = await rig.feed(10)
        await within(lambda: emit.inside > 0, "a message came to emit")
        first = len(emit.offered)
        await rig.server.restart()
        await within(lambda: len(worker.started) > 1, "started was called again")
        await within(lambda: len(emit.offered) > first, "it came again")
        emit.gate.set()
        await emit.settles(keys)
    assert [ids for ids in emit.ids().values() if len(ids) > 1] == []


@VERSIONS
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_broker_that_restarts_in_the_stream_loses_nothing(
    rig: MqttRig, protocol: str, qos: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_session, "IN_FLIGHT", 20)  # Mosquitto's own window
    rig.fields = {"protocol": protocol, "qos": qos}
    emit = Emitted(rig)
    keys: list[str] = []
    async with working(rig, emit) as worker:
        for life in range(3):
            before = len(emit.settled)
            keys += await rig.feed(200)
            await within(lambda n=before: len(emit.settled) > n, "some are settled")  # type: ignore[misc]
            await rig.server.restart()
            await within(lambda n=life: len(worker.started) > n + 1, "it is live again")  # type: ignore[misc]
        await emit.settles(keys)
    repeated = len(emit.settled) - len(keys)
    assert repeated <= 3 * 20, f"{repeated} came twice, more than a window for each restart"


# -- retained messages ------------------------------------------------------------


@VERSIONS
async def test_retained_messages_come_on_request_only(rig: MqttRig, protocol: str) -> None:
    await rig.publish(("orders/kept", b'{"number": -1}', {"retain": True}))
    rig.fields["protocol"] = protocol
    emit = Emitted(rig)
    async with working(rig, emit):
        await rig.publish(("orders/kept", b'{"number": -2}', {"retain": True}))
        await emit.settles(["-2"])  # live, it is like any other
    assert emit.keys(emit.offered) == ["-2"]
    assert "mqttretained" not in emit.settled[0].attributes

    rig.fields |= {"retain": True, "consumerID": "another"}
    emit = Emitted(rig)
    async with working(rig, emit) as worker:
        await emit.settles(["-2"])
        assert emit.settled[0].attributes["mqttretained"] is True
        await within(
            lambda: "Received PUBACK from another" in rig.server.log.read_text(),
            "the broker is told: what it is not told of comes again",
        )
        await rig.server.restart()
        await within(lambda: len(worker.started) > 1, "it is live again")
        await emit.settles(await rig.feed(1))
    assert emit.keys(emit.offered).count("-2") == 1, "a lost connection does not bring it again"


# -- windows ------------------------------------------------------------------------


@pytest.mark.parametrize(("protocol", "window"), [("3.1.1", 20), ("5", 60)])
async def test_the_broker_sends_no_more_than_a_window(
    rig: MqttRig, protocol: str, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_session, "IN_FLIGHT", 60)  # Mosquitto's own is 20
    rig.fields["protocol"] = protocol
    emit = Emitted(rig)
    emit.gate.clear()
    async with working(rig, emit):
        keys = await rig.feed(300)

        def sent() -> int:
            return rig.server.log.read_text().count("Sending PUBLISH to ofevents")

        await within(lambda: sent() == window, "the window is full")
        await rig.feed(1)  # time for the broker to do more, if it would
        assert sent() == window
        emit.gate.set()
        await emit.settles(keys)


async def test_a_worker_that_reads_nothing_for_long_keeps_its_connection(
    rig: MqttRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_session, "IN_FLIGHT", 5)
    # The broker ends a connection that is silent for 1.5 times the keep alive, and so long a
    # busy machine does not stand still; we end one without an answer to two pings.
    monkeypatch.setattr(mqtt_connection, "PING", 1.5)
    monkeypatch.setattr(mqtt_connection, "KEEP_ALIVE", 5)
    emit = Emitted(rig)
    emit.gate.clear()
    async with working(rig, emit) as worker:
        keys = await rig.feed(50)
        await within(lambda: emit.inside > 0, "a message came to emit")
        await asyncio.sleep(10.0)  # twice the keep alive
        emit.gate.set()
        await emit.settles(keys)
        assert not worker.lost


async def test_a_worker_holds_a_bounded_number_of_bytes(
    rig: MqttRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_session, "IN_FLIGHT_BYTES", 1_000_000)
    held: list[int] = []
    take = mqtt_session.Session._publish

    def watched(session: mqtt_session.Session, message: Any) -> None:
        take(session, message)
        held.append(session._bytes)

    monkeypatch.setattr(mqtt_session.Session, "_publish", watched)
    rig.fields["protocol"] = "5"
    emit = Emitted(rig)
    emit.gate.clear()
    pad = b"x" * 300_000
    async with working(rig, emit):
        await rig.publish(
            *(("orders/1", b'{"number": %d, "pad": "%s"}' % (n, pad), {}) for n in range(15))
        )
        await within(lambda: bool(held) and max(held) > 1_000_000, "it is full")
        emit.gate.set()
        await emit.settles([str(n) for n in range(15)])
    assert max(held) < 1_400_000, "the limit, and one message"


# -- emit -----------------------------------------------------------------------------


async def test_an_event_that_nothing_takes_is_kept_and_the_others_of_its_emit_go_on(
    rig: MqttRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "LONGEST", 0.05)
    emit = Emitted(rig)
    refused: list[str] = []

    async def picky(*events: Event) -> Reply | None:
        if any(emit.keys([event]) == ["2"] for event in events) and len(refused) < 4:
            refused.append(events[0].id)
            raise PermanentError("no dead letter can take it")
        return await emit(*events)

    with capture_logs() as logs:
        async with working(rig, picky):  # type: ignore[arg-type]
            await emit.settles(await rig.feed(5))
    assert len(refused) == 4
    assert any(line["event"] == "stalled" for line in logs)


async def test_without_a_bus_events_are_emitted_one_at_a_time(rig: MqttRig) -> None:
    rig.store = None
    emit = Emitted(rig)
    async with working(rig, emit):
        await emit.settles(await rig.feed(50))
    assert emit.most_inside == 1


async def test_cloud_events_of_mqtt_5_keep_their_identity(rig: MqttRig) -> None:
    rig.fields["protocol"] = "5"
    emit = Emitted(rig)
    own = [("specversion", "1.0"), ("id", "a-1"), ("source", "/till"), ("type", "sale")]
    async with working(rig, emit):
        await rig.publish(
            ("orders/1", b"<a/>", {"UserProperty": own, "ContentType": "text/xml"}),
            ("orders/1", b"<a/>", {"UserProperty": own[:2]}),
        )
        await within(lambda: len(emit.settled) == 2, "both came")
    good, bad = emit.settled
    assert (good.id, good.source, good.datacontenttype, good.data) == (
        "a-1", "/till", "text/xml", b"<a/>",
    )  # fmt: skip
    assert isinstance(bad, BrokenEvent) and bad.type == "ofevents.mqtt.malformed"


# -- the connection ---------------------------------------------------------------


async def test_a_broker_that_hangs_is_lost(rig: MqttRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_connection, "PING", 0.3)
    monkeypatch.setattr(mqtt_connection, "CONNECT", 1.0)
    async with working(rig, Emitted(rig)) as worker:
        await rig.server.freeze()
        try:
            # Of a busy broker's answer, too, so short a wait may be over.
            for why in ("has not answered", "no answer within"):
                await within(
                    lambda why=why: any(why in str(error) for error in worker.lost),  # type: ignore[misc]
                    f"Disconnected was raised: {why}",
                )
        finally:
            rig.server.thaw()
        await within(lambda: len(worker.started) > 1, "started was called again")


async def test_a_port_that_speaks_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_connection, "CONNECT", 1.0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n" + b"x" * 300)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        made = MqttRig.__new__(MqttRig)
        made.server, made.fields = Mosquitto.__new__(Mosquitto), {}
        made.server.url = f"tcp://127.0.0.1:{port}"
        began = time.monotonic()
        with pytest.raises(Disconnected, match=r"this is no MQTT|does not answer CONNECT"):
            await made.make().run(None, store=None, started=print)  # type: ignore[arg-type]
        assert time.monotonic() - began < 15
