"""Without a bus: the function itself, called once or until it is settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from ofevents import registry
from ofevents.api.resolved import HttpTarget, SinkTarget
from ofevents.clock import SystemClock
from ofevents.errors import (
    ConfigError,
    EvaluationError,
    Misconfigured,
    Rejected,
    TooLarge,
    Unavailable,
)
from ofevents.event import Event
from ofevents.health import Health, WorkerHealth
from ofevents.ports import Emit, SourceFeatures
from ofevents.source.direct import open_direct
from ofevents.source.screen import SchemaViolation, Screen
from ofevents.source.standing import Standing
from tests.servers import free_port, until
from tests.servers.sink import Answer, Sink
from tests.unit.source.rig import FEATURES, QUICK, REPLYING, event, spec


@asynccontextmanager
async def direct(
    uri: str, features: SourceFeatures = FEATURES, **fields: Any
) -> AsyncIterator[tuple[Emit, WorkerHealth]]:
    clock = SystemClock()
    resolved = spec(**{"target": HttpTarget(uri=uri), "delivery": QUICK, **fields})
    worker = Health(clock).worker("EventSource", "default/shop/orders")
    standing = Standing(resolved, worker, clock, asyncio.Event())
    standing.started("test")
    opened = open_direct(
        resolved, features=features, screen=Screen(resolved), standing=standing, clock=clock
    )
    async with opened as emit:
        yield emit, worker


async def stalled(worker: WorkerHealth, reason: str) -> str:
    await until(lambda: worker.snapshot().reason == reason, seconds=10, what=reason)
    return worker.snapshot().message


async def test_it_returns_when_the_function_has_accepted() -> None:
    one, other = event("1", {"a": 1.5}), event("2")
    async with Sink() as sink, direct(sink.url) as (emit, worker):
        assert await emit(one, other) is None
        assert sink.ids == ["1", "2"]
        assert sink.events[0].data == one.data
        assert worker.in_flight == 0


async def test_what_the_filter_refuses_is_not_sent() -> None:
    async with Sink() as sink, direct(sink.url, filter="event.data.n > 1") as (emit, _):
        await emit(event("1", {"n": 1}), event("2", {"n": 2}))
        assert sink.ids == ["2"]


async def test_a_function_that_comes_back_gets_the_event() -> None:
    async with Sink() as sink:
        sink.script.extend([Answer(503), Answer(503), Answer(503), Answer(503)])
        async with direct(sink.url) as (emit, worker):
            waiting = asyncio.ensure_future(emit(event("1")))
            message = await stalled(worker, "RetriesExhausted")
            assert "answered 503" in message
            await waiting
            assert worker.snapshot().state == "ready"
        assert len(sink.seen) == 5


@pytest.mark.parametrize("status", [400, 404])
async def test_with_nowhere_to_store_it_an_event_stays_in_hand(status: int) -> None:
    async with Sink() as sink:
        sink.answer = Answer(status)
        async with direct(sink.url) as (emit, worker):
            waiting = asyncio.ensure_future(emit(event("1"), event("2")))
            reason = "Rejected" if status == 400 else "SubscriberMisconfigured"
            assert str(status) in await stalled(worker, reason)
            assert worker.snapshot().in_flight == 2 and not waiting.done()
            sink.answer = Answer(202)
            await waiting
        assert {seen.headers["ce-id"] for seen in sink.seen[:-1]} == {"1"}


async def test_what_the_function_refuses_goes_to_the_dead_letter_sink() -> None:
    async with Sink() as sink, Sink() as dead:
        sink.answer = Answer(422)
        target = HttpTarget(uri=dead.url)
        async with direct(sink.url, dead_letter=target) as (emit, _):
            await emit(event("1", {"a": 1}), event("2"))
        assert dead.ids == ["1", "2"]
        headers = dead.seen[0].headers
    assert headers["ofevents-dead-letter-reason"] == "Rejected"
    assert headers["ofevents-dead-letter-where"] == "delivery"
    assert headers["ofevents-dead-letter-attempts"] == "1"


async def test_retries_are_used_up_before_the_dead_letter() -> None:
    async with Sink() as sink, Sink() as dead:
        sink.answer = Answer(500)
        async with direct(sink.url, dead_letter=HttpTarget(uri=dead.url)) as (emit, _):
            await emit(event("1"))
        assert len(sink.seen) == 1 + QUICK.retries
        assert dead.seen[0].headers["ofevents-dead-letter-attempts"] == "2"


async def test_a_dead_letter_sink_that_is_away_is_waited_for() -> None:
    async with Sink() as sink, Sink() as dead:
        sink.answer, dead.answer = Answer(422), Answer(503)
        async with direct(sink.url, dead_letter=HttpTarget(uri=dead.url)) as (emit, worker):
            waiting = asyncio.ensure_future(emit(event("1")))
            assert "dead letters of default/shop" in await stalled(worker, "Temporary")
            assert not waiting.done()
            dead.answer = Answer(202)
            await waiting


async def test_what_the_screen_refuses_goes_to_the_dead_letter_sink() -> None:
    async with Sink() as sink, Sink() as dead:
        fields = {"dead_letter": HttpTarget(uri=dead.url), "filter": "event.data.n > 1"}
        async with direct(sink.url, **fields) as (emit, _):
            await emit(event("1", {}))
        assert (sink.seen, dead.ids) == ([], ["1"])
        assert dead.seen[0].headers["ofevents-dead-letter-where"] == "filter"


async def test_a_reply_passes_through_whatever_its_status() -> None:
    async with Sink() as sink:
        async with direct(sink.url, REPLYING) as (emit, worker):
            for status in (200, 302, 404, 422, 500):
                sink.answer = Answer(status, (("x-y", "z"),), b"said")
                reply = await emit(event("1"))
                assert reply is not None
                assert (reply.status, reply.body, reply.headers["x-y"]) == (status, b"said", "z")
        assert len(sink.seen) == 5, "one attempt each"
        assert worker.in_flight == 0


async def test_no_answer_in_time_is_504_and_no_connection_is_502() -> None:
    async with Sink() as sink:
        sink.answer = Answer(how="hang")
        async with direct(sink.url, REPLYING) as (emit, _):
            late = await emit(event("1"))
    async with direct(f"http://127.0.0.1:{free_port()}", REPLYING) as (emit, _):
        gone = await emit(event("1"))
    assert late is not None and gone is not None
    assert (late.status, gone.status) == (504, 502)
    assert all("error" in orjson.loads(one.body) for one in (late, gone))


@pytest.mark.parametrize(
    ("fields", "events", "error"),
    [
        ({}, [event("1"), event("2")], Rejected),
        ({"filter": "event.data.n > 1"}, [event("1", {})], EvaluationError),
        ({"data_schema": {"type": "string"}}, [event("1", {})], SchemaViolation),
    ],
)
async def test_a_caller_who_waits_is_told_what_is_wrong(
    fields: dict[str, Any], events: list[Event], error: type[Exception]
) -> None:
    async with Sink() as sink, direct(sink.url, REPLYING, **fields) as (emit, _):
        with pytest.raises(error):
            await emit(*events)
        assert sink.seen == []


async def test_a_caller_of_a_filtered_event_gets_no_reply() -> None:
    async with Sink() as sink, direct(sink.url, REPLYING, filter="false") as (emit, _):
        assert await emit(event("1")) is None
        assert sink.seen == []


async def test_without_bus_and_sink_there_is_nowhere_to_go() -> None:
    resolved, clock = spec(), SystemClock()
    standing = Standing(resolved, Health(clock).worker("EventSource", "x"), clock, asyncio.Event())
    opened = open_direct(
        resolved, features=FEATURES, screen=Screen(resolved), standing=standing, clock=clock
    )
    with pytest.raises(ConfigError, match="neither an eventBus nor a sink"):
        async with opened:
            pass


class _Broker:
    """A sink that raises what it is told."""

    address = "a topic"

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def __call__(self, spec: Any, **more: Any) -> _Broker:
        return self

    async def __aenter__(self) -> _Broker:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def send(self, event: Event, key: str | None) -> None:
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, 202), (Unavailable("gone"), 502), (Misconfigured("who?"), 502), (TooLarge("big"), 413)],
)
async def test_a_caller_is_told_what_became_of_the_event_at_a_broker(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, status: int
) -> None:
    monkeypatch.setattr(registry, "load", lambda group, name: _Broker(error))
    target = SinkTarget(sink="kafka", spec={"brokers": "k:9092", "topic": "out"})
    async with direct("", REPLYING, target=target) as (emit, _):
        reply = await emit(event("1"))
    assert reply is not None and reply.status == status
