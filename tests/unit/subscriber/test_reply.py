"""ReplyTo: which answers are replies, and what identity they get."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest
import structlog

from ofevents.bus import topics
from ofevents.bus.memory import MemoryBus
from ofevents.errors import BadEvent, Disconnected
from ofevents.event import Event, digest, to_http, to_http_batch
from ofevents.ports import Reply
from ofevents.subscriber import ReplyTo
from tests.unit.subscriber.rig import OWNER, Scripted, browse, delivery, event, memory_bus, messages

TOPIC = topics.user("shop", "receipts")
SPARE = digest("1", OWNER)
RECEIPT = Event.create(id="r-1", source="/charge", type="receipt", data=b'{"ok": 1.0}', n=7)


@pytest.fixture
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[MemoryBus]:
    async with memory_bus(request.node.name) as made:
        await made.ensure([TOPIC], [])
        yield made


async def replied(bus: MemoryBus, headers: dict[str, str], body: bytes) -> list[Event]:
    subscriber = ReplyTo(Scripted([Reply(200, headers, body)]), bus, TOPIC)
    assert (await subscriber.deliver(delivery())).status == 200
    found = messages(await browse(bus, TOPIC))
    return [one for one in found if isinstance(one, Event)]


async def test_structured(bus: MemoryBus) -> None:
    assert await replied(bus, *to_http(RECEIPT, "structured")) == [RECEIPT]


async def test_binary(bus: MemoryBus) -> None:
    (got,) = await replied(bus, *to_http(RECEIPT))
    assert (got.id, got.data, got.attributes["n"]) == ("r-1", b'{"ok": 1.0}', "7")


async def test_batch(bus: MemoryBus) -> None:
    other = RECEIPT.replace(id="r-2")
    assert await replied(bus, *to_http_batch([RECEIPT, other])) == [RECEIPT, other]


async def test_without_an_id_it_gets_one_that_a_repetition_has_too(bus: MemoryBus) -> None:
    bare = {"specversion": "1.0", "source": "/charge", "type": "receipt"}
    headers = {f"ce-{name}": value for name, value in bare.items()}
    json = b' { "specversion":"1.0", "source":"/charge","type":"receipt", "data": {"n": 1.0} }'
    batch = b"[%b, %b]" % (json, orjson.dumps({**bare, "id": "own"}))
    got = await replied(bus, headers, b"7")
    got += (await replied(bus, {"content-type": "application/cloudevents+json"}, json))[1:]
    got += (await replied(bus, {"content-type": "application/cloudevents-batch+json"}, batch))[1:]
    # Source and id of the second are those of the first: the bus keeps one of them.
    assert [one.id for one in got] == [SPARE, f"{SPARE}-0", "own"]
    assert got[0].data == b"7"
    assert got[1].data == b'{"n": 1.0}'


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b""),
        ({"content-type": "application/json"}, b'{"ok":true}'),
        ({"content-type": "text/plain", "x-ce-id": "1"}, b"thanks"),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]"),
    ],
)
async def test_other_answers_are_none(bus: MemoryBus, headers: dict[str, str], body: bytes) -> None:
    with structlog.testing.capture_logs() as logs:
        assert await replied(bus, headers, body) == []
    assert [(line["event"], line["id"]) for line in logs] == [("filtered", "1")]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "application/cloudevents+json"}, b"<html>"),
        ({"content-type": "application/cloudevents+json"}, b"{}"),
        ({"content-type": "application/cloudevents-batch+json"}, b'[{"id":"1"}]'),
        ({"ce-specversion": "0.3", "ce-id": "1", "ce-source": "/", "ce-type": "t"}, b""),
    ],
)
async def test_a_broken_reply_is_permanent(
    bus: MemoryBus, headers: dict[str, str], body: bytes
) -> None:
    with pytest.raises(BadEvent, match=f"the answer of {OWNER}"):
        await replied(bus, headers, body)
    assert await browse(bus, TOPIC) == []


async def test_the_call_fails_when_the_reply_is_not_stored(bus: MemoryBus) -> None:
    bus.broker.fail("gone")
    with pytest.raises(Disconnected):
        await replied(bus, *to_http(RECEIPT))


async def test_a_move_on_purpose_gives_a_new_reply_and_its_repetition_does_not(
    bus: MemoryBus,
) -> None:
    headers, body = to_http(RECEIPT)
    given = delivery(event())
    for generation in (0, 0, 1):
        subscriber = ReplyTo(Scripted([Reply(200, headers, body)]), bus, TOPIC)
        await subscriber.deliver(delivery(*given.events, generation=generation))
    assert len(await browse(bus, TOPIC)) == 2
