"""Dead letters: kept whole wherever they go, with why, where and how often; never dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import structlog

from ofevents.api.resolved import HttpTarget, TopicTarget
from ofevents.bus import topics
from ofevents.bus.memory import MemoryBus
from ofevents.clock import ManualClock
from ofevents.errors import (
    BusFull,
    Disconnected,
    EvaluationError,
    OfeventsError,
    Rejected,
    TemporaryError,
)
from ofevents.ports import Consumer, Delivery, Message, Payload
from ofevents.subscriber import DeadLetters
from tests.servers.sink import Answer, Sink
from tests.unit.subscriber.rig import (
    OWNER,
    browse,
    delivery,
    event,
    memory_bus,
    messages,
    metric,
)

DEAD = topics.dead("shop", "charge")
FAILED = topics.user("shop", "failed")


@pytest.fixture
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[MemoryBus]:
    async with memory_bus(request.node.name, max_size=4000) as made:
        await made.ensure([DEAD, FAILED], [])
        yield made


def letters(
    bus: MemoryBus | None = None, target: HttpTarget | TopicTarget | None = None
) -> DeadLetters:
    return DeadLetters(
        bus=bus, target=target, dead_topic=DEAD, owner="shop/charge", clock=ManualClock()
    )


async def store(kept: DeadLetters, given: Delivery, error: OfeventsError | None = None) -> None:
    error = error or Rejected("answered 422: no amount", status=422)
    async with kept:
        await kept.store(given, error, attempts=2, where="delivery")


# -- the owner's own topic ----------------------------------------------------


async def test_the_whole_delivery_is_kept(bus: MemoryBus) -> None:
    given = delivery(event("1"), event("2"), payload=Payload(b"7"), key="k", attempt=1)
    await store(letters(bus), given)
    (received,) = await browse(bus, DEAD)
    assert received.body == given
    said = {k: v for k, v in received.headers.items() if k.startswith("ofe-dead-")}
    assert said == {
        "ofe-dead-reason": "Rejected",
        "ofe-dead-detail": "answered 422: no amount",
        "ofe-dead-where": "delivery",
        "ofe-dead-attempts": "2",
        "ofe-dead-subscriber": OWNER,
        "ofe-dead-time": "2023-11-14T22:13:20.000Z",
    }


async def test_stored_twice_after_a_crash_it_is_there_once(bus: MemoryBus) -> None:
    for _ in range(2):
        await store(letters(bus), delivery())
    assert len(await browse(bus, DEAD)) == 1
    await store(letters(bus), delivery(operation="redrive-1"))
    assert len(await browse(bus, DEAD)) == 2, "a redrive that fails again is no duplicate"


async def test_any_text_fits_into_a_header(bus: MemoryBus) -> None:
    error = EvaluationError("no such\r\nkey: Straße €\x00 " + "x" * 5000)
    await store(letters(bus), delivery(), error)
    (received,) = await browse(bus, DEAD)
    detail = received.headers["ofe-dead-detail"]
    assert detail.startswith("no such key: Stra\\xdfe \\u20ac")
    assert detail.isascii() and detail.isprintable() and len(detail) == 500


async def test_one_event_too_large_keeps_its_attributes(bus: MemoryBus) -> None:
    large = event("1", b"x" * 25_000, datacontenttype="text/plain")
    await store(letters(bus), delivery(large, payload=Payload(b"y" * 25_000)))
    (received,) = await browse(bus, DEAD)
    assert isinstance(received.body, Delivery)
    assert received.body == delivery(large.replace(data=None))
    assert "left out" in received.headers["ofe-dead-note"]


async def test_many_events_too_large_together_are_kept_one_by_one(bus: MemoryBus) -> None:
    events = [event(str(n), b'"%b"' % (b"x" * 12_000)) for n in range(3)]
    await store(letters(bus), delivery(event("0")))  # an earlier letter of one of them
    await store(letters(bus), delivery(*events, payload=Payload(b"7")))
    received = (await browse(bus, DEAD))[1:]
    assert [r.headers["ofe-dead-part"] for r in received] == ["1/3", "2/3", "3/3"]
    bodies = [body for body in messages(received) if isinstance(body, Delivery)]
    assert [body.events for body in bodies] == [(one,) for one in events]
    assert [body.payload for body in bodies] == [None, None, Payload(b"7")]


# -- a topic, a sink ------------------------------------------------------------


async def test_a_topic_gets_the_original_events(bus: MemoryBus) -> None:
    given = delivery(event("1"), event("2"), payload=Payload(b"7"))
    await store(letters(bus, TopicTarget(topic=FAILED)), given)
    received = await browse(bus, FAILED)
    assert messages(received) == [event("1"), event("2")]
    assert {r.headers["ofe-dead-reason"] for r in received} == {"Rejected"}
    assert await browse(bus, DEAD) == []


async def test_a_topic_gets_what_is_too_large_without_data(bus: MemoryBus) -> None:
    large = event("1", b'"%b"' % (b"x" * 5000))
    await store(letters(bus, TopicTarget(topic=FAILED)), delivery(large))
    (received,) = await browse(bus, FAILED)
    assert received.body == large.replace(data=None)
    assert "left out" in received.headers["ofe-dead-note"]


async def test_a_topic_without_room_does_not_keep_the_event_on_a_full_bus() -> None:
    async with memory_bus("full-of-events", max_bytes=4000) as bus:
        await bus.ensure([DEAD, FAILED], [Consumer("function", (FAILED,))])
        with pytest.raises(BusFull):
            for number in range(100):
                await bus.publish(FAILED, Message(event(str(number)), "test"))
        await store(letters(bus, TopicTarget(topic=FAILED)), delivery(event("late")))
        (received,) = await browse(bus, DEAD)
        assert received.body == delivery(event("late"))


async def test_a_sink_gets_the_original_event(bus: MemoryBus) -> None:
    async with Sink() as sink:
        target = HttpTarget(uri=sink.url, headers={"X-A": "1"})
        await store(letters(bus, target), delivery(payload=Payload(b"7")))
    (seen,) = sink.seen
    assert seen.events == [event(datacontenttype="application/json")]
    prefix = "ofevents-dead-letter-"
    assert {k.removeprefix(prefix): v for k, v in seen.headers.items() if prefix in k} == {
        "reason": "Rejected",
        "detail": "answered 422: no amount",
        "where": "delivery",
        "attempts": "2",
        "subscriber": OWNER,
        "time": "2023-11-14T22:13:20.000Z",
    }
    assert seen.headers["x-a"] == "1"
    assert await browse(bus, DEAD) == []


@pytest.mark.parametrize("status", [400, 404, 503])
async def test_a_sink_that_fails_falls_back(bus: MemoryBus, status: int) -> None:
    async with Sink(answer=Answer(status)) as sink:
        with structlog.testing.capture_logs() as logs:
            await store(letters(bus, HttpTarget(uri=sink.url)), delivery())
    (received,) = await browse(bus, DEAD)
    assert received.body == delivery()
    assert f"answered {status}" in logs[0]["sink_failed"]
    assert logs[0]["place"] == DEAD


# -- nothing is dropped -----------------------------------------------------------


async def test_nowhere_to_store_it(bus: MemoryBus) -> None:
    with pytest.raises(TemporaryError, match="set deadLetterSink"):
        await store(letters(), delivery())
    async with Sink(answer=Answer(400)) as sink:
        with pytest.raises(TemporaryError, match="answered 400"):
            await store(letters(None, HttpTarget(uri=sink.url)), delivery())
    bus.broker.fail("gone")
    for target in (None, TopicTarget(topic=FAILED)):
        with pytest.raises(Disconnected):
            await store(letters(bus, target), delivery())


async def test_attributes_that_alone_are_too_large(bus: MemoryBus) -> None:
    before = metric("ofevents_dead_lettered_total", reason="Rejected")
    with pytest.raises(TemporaryError, match="not even without its data"):
        await store(letters(bus), delivery(event(subject="x" * 30_000)))
    assert metric("ofevents_dead_lettered_total", reason="Rejected") == before


async def test_it_is_counted_and_logged(bus: MemoryBus) -> None:
    before = metric("ofevents_dead_lettered_total", reason="EvaluationError")
    with structlog.testing.capture_logs() as logs:
        await store(letters(bus), delivery(event("e-1")), EvaluationError("no such key"))
    assert metric("ofevents_dead_lettered_total", reason="EvaluationError") == before + 1
    (line,) = logs
    assert line["event"] == "dead-lettered"
    assert (line["id"], line["subscriber"], line["place"]) == ("e-1", OWNER, DEAD)
