"""What a broker may say that Mosquitto never does: a scripted one on loopback."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ofevents.api.messaging import MqttSpec
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError, Disconnected, OfeventsError
from ofevents.event import Event
from ofevents.ports import SourceIdentity
from ofevents_adapters import mqtt_session
from ofevents_adapters.mqtt import MqttSource
from tests.servers import until

CONNACK, SESSION_CONNACK = b"\x20\x02\x00\x00", b"\x20\x02\x01\x00"
SUBACK, SUBACK_2 = b"\x90\x03\x00\x01\x01", b"\x90\x03\x00\x01\x02"


def message(mid: int, payload: bytes, *, qos: int, dup: bool = False) -> bytes:
    body = b"\x00\x01a" + struct.pack("!H", mid) + payload
    return bytes((0x30 | qos << 1 | dup << 3, len(body))) + body


class Script:
    """A broker that answers what it is told to; `heard` has all that it was sent.

    `answers` are sent one after the other: the first to CONNECT, the next to SUBSCRIBE.
    """

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.heard: list[bytes] = []
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.heard.append(b"")
        while data := await reader.read(1000):
            self.heard[-1] += data
            if data[0] >> 4 in (1, 8) and self.answers:
                writer.write(self.answers.pop(0))
        writer.close()

    def say(self, data: bytes) -> None:
        self._writers[-1].write(data)

    def hang_up(self) -> None:
        self._writers[-1].close()


@asynccontextmanager
async def scripted(*answers: bytes) -> AsyncIterator[Script]:
    script = Script()
    script.answers = list(answers)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    async with server:
        yield script


def source(script: Script, **fields: Any) -> MqttSource:
    document = {"url": f"tcp://127.0.0.1:{script.port}", "topic": "a", **fields}
    identity = SourceIdentity("default", "shop", "mqtt", "orders")
    return MqttSource(MqttSpec.model_validate(document), identity, clock=SystemClock())


async def ends(
    script: Script, then: Callable[[], None] | None = None, **fields: Any
) -> OfeventsError:
    """How a worker's run ends; `then` is called when it is live."""

    async def emit(*events: Event) -> None:
        raise AssertionError("there is no event")

    with pytest.raises(OfeventsError) as caught:
        await source(script, **fields).run(
            emit, store=None, started=lambda address: then() if then else None
        )
    return caught.value


@pytest.mark.parametrize(
    ("protocol", "answer", "kind", "path", "why"),
    [
        ("3.1.1", b"\x20\x02\x00\x01", ConfigError, ".protocol", "this version of MQTT"),
        ("3.1.1", b"\x20\x02\x00\x02", ConfigError, ".consumerID", "this client id"),
        ("3.1.1", b"\x20\x02\x00\x03", Disconnected, "", "it is not available"),
        ("3.1.1", b"\x20\x02\x00\x05", ConfigError, ".username", "login: not authorized"),
        ("3.1.1", b"\x20\x02\x00\x63", Disconnected, "", "reason 0x63"),
        ("5", b"\x20\x03\x00\x89\x00", Disconnected, "", "it is busy"),
        ("5", b"\x20\x03\x00\x9c\x00", ConfigError, ".url", "use another server"),
        ("5", b"\x20\x08\x00\x8a\x05\x1f\x00\x02no", ConfigError, ".username", r"banned \(no\)"),
        ("5", b"\xd0\x00", Disconnected, "", "does not answer CONNECT"),
        ("5", b"\x20\x01\x00", Disconnected, "", "cut off"),
    ],
)
async def test_answers_to_connect(
    protocol: str, answer: bytes, kind: type[OfeventsError], path: str, why: str
) -> None:
    async with scripted(answer) as script:
        error = await ends(script, protocol=protocol)
    assert type(error) is kind
    with pytest.raises(kind, match=why):
        raise error
    if isinstance(error, ConfigError):
        assert error.path == f"spec.mqtt.orders{path}"


async def test_a_refused_topic() -> None:
    async with scripted(CONNACK, b"\x90\x03\x00\x01\x80") as script:
        error = await ends(script)
    assert isinstance(error, ConfigError) and error.path == "spec.mqtt.orders.topic"
    assert "refuses a: no reason given" in str(error)


async def test_no_answer_to_subscribe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_session, "ANSWER", 0.1)
    async with scripted(CONNACK) as script:
        error = await ends(script)
    assert isinstance(error, Disconnected) and "does not answer SUBSCRIBE" in str(error)


@pytest.mark.parametrize(
    ("code", "kind", "why"),
    [
        (0x8E, Disconnected, "a session is one worker's"),
        (0x87, ConfigError, "not authorized"),
        (0x8B, Disconnected, "shutting down"),
    ],
)
async def test_a_broker_that_says_why_it_leaves(
    code: int, kind: type[OfeventsError], why: str
) -> None:
    async with scripted(b"\x20\x03\x00\x00\x00", b"\x90\x04\x00\x01\x00\x01") as script:
        bye = bytes((0xE0, 2, code, 0))
        error = await ends(script, lambda: script.say(bye), protocol="5")
    assert type(error) is kind and why in str(error)
    if code == 0x8E:
        assert isinstance(error, Disconnected) and error.delay >= 5, "they do not fight for it"


async def test_a_keep_alive_of_the_brokers_own_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    keep = b"\x20\x06\x00\x00\x03\x13\x00\x01"
    async with scripted(keep, b"\x90\x04\x00\x01\x00\x01") as script:
        error = await ends(script, protocol="5")  # the script answers no ping
    assert "has not answered for 1 s" in str(error)


class Reading:
    """A worker that is run again when it is disconnected; `events` has all it emitted."""

    def __init__(self, source: MqttSource) -> None:
        self.events: list[Event] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.live = 0
        self._source = source

    async def emit(self, *events: Event) -> None:
        self.events += events
        await self.gate.wait()

    def started(self, address: str) -> None:
        self.live += 1

    async def run(self) -> None:
        while True:
            try:
                await self._source.run(self.emit, store=None, started=self.started)
            except Disconnected:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def reading(script: Script, **fields: Any) -> AsyncIterator[Reading]:
    worker = Reading(source(script, **fields))
    task = asyncio.create_task(worker.run())
    try:
        await until(lambda: worker.live == 1 or task.done(), seconds=5, what="it is live")
        yield worker
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_pubrec_waits_for_emit_and_pubrel_is_answered_always() -> None:
    async with scripted(CONNACK, SUBACK_2) as script, reading(script, qos=2) as worker:
        worker.gate.clear()
        script.say(message(7, b"1", qos=2) + b"\x62\x02\x00\x63")  # PUBREL of another life
        await until(lambda: b"\x70\x02\x00\x63" in script.heard[-1], seconds=5, what="PUBCOMP")
        await until(lambda: len(worker.events) == 1, seconds=5, what="it came to emit")
        assert b"\x50\x02\x00\x07" not in script.heard[-1], "PUBREC before emit has returned"
        worker.gate.set()
        await until(lambda: b"\x50\x02\x00\x07" in script.heard[-1], seconds=5, what="PUBREC")


@pytest.mark.parametrize("dup", [True, False])
async def test_a_crashed_broker_may_mean_another_message_by_the_identifier(dup: bool) -> None:
    answers = (CONNACK, SUBACK_2, SESSION_CONNACK)
    async with scripted(*answers) as script, reading(script, qos=2) as worker:
        script.say(message(7, b"1", qos=2))
        await until(lambda: b"\x50\x02\x00\x07" in script.heard[-1], seconds=5, what="PUBREC")
        script.hang_up()
        await until(lambda: worker.live == 2, seconds=5, what="it is live again")
        script.say(message(7, b"2", qos=2, dup=dup))
        await until(lambda: len(worker.events) == 2, seconds=5, what="the other is emitted")


async def test_a_message_whose_pubrec_was_lost_is_not_emitted_again() -> None:
    answers = (CONNACK, SUBACK_2, SESSION_CONNACK)
    async with scripted(*answers) as script, reading(script, qos=2) as worker:
        script.say(message(7, b"1", qos=2))
        await until(lambda: b"\x50\x02\x00\x07" in script.heard[-1], seconds=5, what="PUBREC")
        script.hang_up()
        await until(lambda: worker.live == 2, seconds=5, what="it is live again")
        script.say(message(7, b"1", qos=2, dup=True) + b"\x62\x02\x00\x07")
        script.say(message(7, b"1", qos=2))  # the identifier is free again: another message
        await until(lambda: script.heard[-1].count(b"\x50\x02\x00\x07") == 2, seconds=5,
                    what="PUBREC for both")  # fmt: skip
    assert len(worker.events) == 2


@pytest.mark.parametrize(
    ("session", "dup", "payload", "same"),
    [
        (True, True, b"1", True),
        (False, True, b"1", False),  # the broker has forgotten: its identifiers begin anew
        (True, False, b"1", False),
        (True, True, b"2", False),
    ],
)
async def test_an_id_is_kept_only_where_it_must_be_the_same_message(
    session: bool, dup: bool, payload: bytes, same: bool
) -> None:
    again = SESSION_CONNACK if session else CONNACK
    async with scripted(CONNACK, SUBACK, again, SUBACK) as script, reading(script) as worker:
        worker.gate.clear()
        script.say(message(7, b"1", qos=1))
        await until(lambda: len(worker.events) == 1, seconds=5, what="it came to emit")
        script.hang_up()
        await until(lambda: worker.live == 2, seconds=5, what="it is live again")
        script.say(message(7, payload, qos=1, dup=dup))
        await until(lambda: len(worker.events) == 2, seconds=5, what="it came again")
    first, second = worker.events
    assert (first.id == second.id) is same
    assert script.heard[-1].startswith(b"\x10")
    # A session that has the subscription is not asked for it again.
    assert (b"\x82\x06\x00\x01\x00\x01a\x01" in script.heard[-1]) is not session


async def test_acknowledgements_are_sent_in_the_order_of_the_messages() -> None:
    async with scripted(CONNACK, SUBACK) as script, reading(script) as worker:
        retained = bytearray(message(8, b"2", qos=1))
        retained[0] |= 1  # not wanted, so it is not emitted, only acknowledged
        script.say(message(7, b"1", qos=1) + bytes(retained) + message(9, b"3", qos=1))
        await until(lambda: b"\x40\x02\x00\x09" in script.heard[-1], seconds=5, what="PUBACKs")
        acks = [script.heard[-1].index(b"\x40\x02\x00" + bytes((mid,))) for mid in (7, 8, 9)]
        assert acks == sorted(acks)
    assert [event.data for event in worker.events] == [b"1", b"3"]
