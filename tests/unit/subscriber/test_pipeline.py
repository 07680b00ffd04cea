"""The whole way out as the trigger calls it: sink, retries, replies, dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from ofevents.api.resolved import HttpAuth, HttpTarget, ResolvedDelivery, Target, TopicTarget
from ofevents.bus import topics
from ofevents.bus.memory import MemoryBus
from ofevents.clock import SystemClock
from ofevents.errors import BadEvent, ConfigError, TemporaryError
from ofevents.event import Event, to_http
from ofevents.ports import Bus, Reply
from ofevents.subscriber import (
    Exhausted,
    GivenUp,
    Postponed,
    TimedOut,
    open_subscriber,
    pipeline,
)
from tests.servers.sink import Answer, Sink
from tests.unit.subscriber.rig import OWNER, browse, delivery, event, memory_bus, messages, metric

REPLIES = topics.user("shop", "receipts")
PAID = topics.user("shop", "paid")
QUICK = ResolvedDelivery(backoff=0.001, max_backoff=0.002, retries=2, timeout=2.0)


@pytest.fixture
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[MemoryBus]:
    async with memory_bus(request.node.name) as made:
        await made.ensure([REPLIES, PAID], [])
        yield made


async def deliver(
    target: Target, bus: Bus, options: ResolvedDelivery = QUICK, **more: Any
) -> Reply:
    async with pipeline(
        target, options, bus=bus, subscriber_id=OWNER, clock=SystemClock(), **more
    ) as subscriber:
        return await subscriber.deliver(delivery())


async def test_retried_until_accepted(bus: MemoryBus) -> None:
    counted = metric("ofevents_call_seconds_count", outcome="retry")
    async with Sink() as sink:
        sink.script.extend([Answer(503), Answer(how="drop")])
        with structlog.testing.capture_logs() as logs:
            assert (await deliver(HttpTarget(uri=sink.url), bus)).status == 202
    assert len({seen.headers["idempotency-key"] for seen in sink.seen}) == 1
    assert len(sink.seen) == 3
    assert metric("ofevents_call_seconds_count", outcome="retry") == counted + 2
    assert metric("ofevents_call_seconds_count", outcome="ok") >= 1
    assert [(line["event"], line["id"]) for line in logs] == [("retrying", "1")] * 2


async def test_poison_is_given_up(bus: MemoryBus) -> None:
    async with Sink(answer=Answer(500, body=b"boom")) as sink:
        with pytest.raises(Exhausted, match="answered 500: boom") as caught:
            await deliver(HttpTarget(uri=sink.url), bus)
    assert len(sink.seen) == 3
    assert caught.value.delivery.attempt == 3


async def test_rejected_is_given_up_at_once(bus: MemoryBus) -> None:
    counted = metric("ofevents_call_seconds_count", outcome="rejected")
    async with Sink(answer=Answer(422)) as sink:
        with pytest.raises(GivenUp) as caught:
            await deliver(HttpTarget(uri=sink.url), bus)
    assert len(sink.seen) == 1
    assert caught.value.delivery.attempt == 1
    assert metric("ofevents_call_seconds_count", outcome="rejected") == counted + 1


async def test_misconfigured_is_postponed(bus: MemoryBus) -> None:
    async with Sink(answer=Answer(404)) as sink:
        with pytest.raises(Postponed) as caught:
            await deliver(HttpTarget(uri=sink.url), bus)
    assert len(sink.seen) == 1
    assert caught.value.reason == "SubscriberMisconfigured"


async def test_a_late_retry_is_postponed(bus: MemoryBus) -> None:
    async with Sink(answer=Answer(503, (("retry-after", "60"),))) as sink:
        with pytest.raises(Postponed) as caught:
            await deliver(HttpTarget(uri=sink.url), bus, hold=10.0)
    assert caught.value.delivery.attempt == 1
    assert caught.value.delay >= 60


async def test_replies(bus: MemoryBus) -> None:
    receipt = Event.create(id="r", source="/charge", type="receipt", data=b"1")
    headers, body = to_http(receipt, "structured")
    async with Sink(answer=Answer(200, tuple(headers.items()), body)) as sink:
        await deliver(HttpTarget(uri=sink.url), bus, reply_topic=REPLIES)
        assert messages(await browse(bus, REPLIES)) == [receipt]
        sink.answer = Answer(200, tuple(headers.items()), b"{")
        with pytest.raises(BadEvent):
            await deliver(HttpTarget(uri=sink.url), bus, reply_topic=REPLIES)
    assert len(sink.seen) == 2, "a broken answer is not asked for again"


async def test_a_topic(bus: MemoryBus) -> None:
    await deliver(TopicTarget(topic=PAID), bus)
    assert messages(await browse(bus, PAID)) == [event()]
    bus.broker.fail("gone")
    with pytest.raises(TemporaryError):
        await deliver(TopicTarget(topic=PAID), bus)


async def test_concurrency_bounds_the_calls(bus: MemoryBus) -> None:
    options = QUICK.model_copy(update={"concurrency": 3})
    async with (
        Sink(answer=Answer(delay=0.005)) as sink,
        pipeline(
            HttpTarget(uri=sink.url),
            options,
            bus=None,
            subscriber_id=OWNER,
            clock=SystemClock(),
        ) as subscriber,
    ):
        await asyncio.gather(*(subscriber.deliver(delivery(event(str(n)))) for n in range(30)))
    assert sink.most_busy == 3
    assert sorted(sink.ids, key=int) == [str(n) for n in range(30)]


async def test_what_needs_a_bus_says_so() -> None:
    common: dict[str, Any] = {"bus": None, "subscriber_id": OWNER, "clock": SystemClock()}
    with pytest.raises(ConfigError, match="topic: a topic needs an eventBus"):
        async with open_subscriber(TopicTarget(topic=PAID), **common):
            pass
    with pytest.raises(ConfigError, match="reply"):
        async with pipeline(HttpTarget(uri="http://host"), QUICK, reply_topic=REPLIES, **common):
            pass


async def test_who_waits_gets_any_answer_in_time() -> None:
    async with (
        Sink(answer=Answer(418, body=b"teapot")) as sink,
        Sink(answer=Answer(how="hang")) as tokens,
    ):
        oauth2 = {"token_url": tokens.url, "client_id": "me", "client_secret": "s3cret"}

        def waits(timeout: float, auth: HttpAuth | None = None) -> Any:
            return open_subscriber(
                HttpTarget(uri=sink.url, auth=auth),
                bus=None,
                subscriber_id=OWNER,
                clock=SystemClock(),
                options=ResolvedDelivery(timeout=timeout),
                answers="pass",
            )

        async with waits(30) as subscriber:
            reply = await subscriber.deliver(delivery())
            assert (reply.status, reply.body) == (418, b"teapot")
        sink.answer = Answer(how="hang")
        for auth in (None, HttpAuth(oauth2=oauth2)):
            async with waits(0.2, auth) as subscriber, asyncio.timeout(20):
                with pytest.raises(TimedOut):
                    await subscriber.deliver(delivery())
    assert len(sink.seen) == 2, "no call without a token"
