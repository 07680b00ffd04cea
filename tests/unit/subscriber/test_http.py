"""HttpSubscriber against a real HTTP server: what it sends, what each answer means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import pytest

from ofevents.api.resolved import HttpAuth, HttpTarget
from ofevents.clock import ManualClock
from ofevents.errors import ConfigError, Misconfigured, Rejected, TooLarge, Unavailable
from ofevents.event import digest
from ofevents.ports import Payload
from ofevents.subscriber import TimedOut, answer, open_http
from tests.servers.sink import Answer, Sink
from tests.unit.subscriber.rig import OWNER, delivery, event

CLOCK = ManualClock()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink() as made:
        yield made


def opened(sink: Sink, path: str = "/f", target: dict[str, Any] | None = None, **more: Any) -> Any:
    made = HttpTarget(uri=sink.url + path, **(target or {}))
    return open_http(made, subscriber=OWNER, clock=CLOCK, **more)


# -- what is sent -----------------------------------------------------------


async def test_binary(sink: Sink) -> None:
    async with opened(sink, "/f?key=1") as subscriber:
        await subscriber.deliver(delivery(event(traceparent="00-aa-bb-01", tracestate="v=1")))
    (seen,) = sink.seen
    assert (seen.method, seen.url, seen.body) == ("POST", "/f?key=1", b'{"amount": 3}')
    assert seen.headers["ce-id"] == "1"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["traceparent"] == "00-aa-bb-01"
    assert seen.headers["tracestate"] == "v=1"
    assert seen.headers["user-agent"] == "ofevents"
    assert "accept-encoding" not in seen.headers


async def test_structured_and_raw(sink: Sink) -> None:
    async with opened(sink, format="structured") as subscriber:
        await subscriber.deliver(delivery())
    async with opened(sink, format="raw") as subscriber:
        await subscriber.deliver(delivery())
    structured, raw = sink.seen
    assert structured.headers["content-type"] == "application/cloudevents+json"
    assert structured.events == [event()]
    assert raw.body == b'{"amount": 3}'
    assert not [name for name in raw.headers if name.startswith("ce-")]
    assert raw.headers["idempotency-key"] == structured.headers["idempotency-key"]


async def test_batch(sink: Sink) -> None:
    async with opened(sink, batch=True) as subscriber:
        await subscriber.deliver(delivery(event("1"), event("2"), payload=Payload(b"7")))
    (seen,) = sink.seen
    assert seen.headers["content-type"] == "application/cloudevents-batch+json"
    assert [(e.id, e.data) for e in seen.events] == [("1", b'{"amount": 3}'), ("2", b"7")]
    assert seen.headers["idempotency-key"] == digest(
        "/orders", "1", "/orders", "2", "shop", "charge", "card"
    )


async def test_the_idempotency_key_is_over_all_events_in_order(sink: Sink) -> None:
    one, two = event("1"), event("2")
    async with opened(sink) as subscriber:
        for events in [(one,), (one,), (one, two), (two, one), (two,)]:
            await subscriber.deliver(delivery(*events, attempt=len(sink.seen)))
    keys = [seen.headers["idempotency-key"] for seen in sink.seen]
    assert keys[0] == keys[1] == digest("/orders", "1", "shop", "charge", "card")
    assert len(set(keys)) == 4


async def test_headers_of_the_target_do_not_hide_the_event(sink: Sink) -> None:
    headers = {"X-Team": "shop", "ce-id": "forged", "Content-Type": "text/html"}
    async with opened(sink, target={"headers": headers}) as subscriber:
        await subscriber.deliver(delivery())
    (seen,) = sink.seen
    assert seen.headers["x-team"] == "shop"
    assert seen.headers["ce-id"] == "1"
    assert seen.headers["content-type"] == "application/json"


# -- what an answer means ---------------------------------------------------


@pytest.mark.parametrize("status", [200, 202, 204, 299])
async def test_accepted(sink: Sink, status: int) -> None:
    sink.answer = Answer(status)
    async with opened(sink) as subscriber:
        assert (await subscriber.deliver(delivery())).status == status


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, Rejected) for status in (400, 409, 410, 413, 415, 422)),
        *((status, Misconfigured) for status in (301, 302, 303, 307, 308, 401, 403, 404, 405)),
        *((status, Unavailable) for status in (402, 408, 418, 425, 429, 500, 502, 503, 504, 599)),
    ],
)
async def test_refused(sink: Sink, status: int, kind: type[Exception]) -> None:
    sink.answer = Answer(status, (("location", "/elsewhere"),), b"because")
    async with opened(sink) as subscriber:
        with pytest.raises(kind) as caught:
            await subscriber.deliver(delivery())
    assert type(caught.value) is kind
    assert caught.value.status == status  # type: ignore[attr-defined]
    assert "answered" in str(caught.value)
    assert "because" in str(caught.value)
    assert len(sink.seen) == 1, "neither a redirect nor a retry is followed here"


@pytest.mark.parametrize(
    ("header", "delay"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        (formatdate(CLOCK.now() + 90, usegmt=True), 90.0),
        (formatdate(CLOCK.now() - 90, usegmt=True), 0.0),
        ("99999999999999999999", 86_400.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("", 0.0),
    ],
)
async def test_retry_after(sink: Sink, header: str, delay: float) -> None:
    sink.answer = Answer(503, (("retry-after", header),))
    async with opened(sink) as subscriber:
        with pytest.raises(Unavailable) as caught:
            await subscriber.deliver(delivery())
    assert caught.value.delay == pytest.approx(delay, abs=1.0)


async def test_no_answer(sink: Sink) -> None:
    sink.answer = Answer(how="hang")
    async with opened(sink, timeout=0.3) as subscriber:
        with pytest.raises(TimedOut, match=r"/f did not answer within 0\.3 s"):
            await subscriber.deliver(delivery())
    async with opened(sink) as subscriber:
        sink.answer = Answer(how="drop")
        with pytest.raises(Unavailable) as dropped:
            await subscriber.deliver(delivery())
        assert not isinstance(dropped.value, TimedOut)
        await sink.stop()
        with pytest.raises(Unavailable, match="refused"):
            await subscriber.deliver(delivery())


@pytest.mark.parametrize("status", [200, 400])
async def test_half_an_answer_is_none(sink: Sink, status: int) -> None:
    sink.answer = Answer(status, body=b"x" * 1000, how="cut")
    async with opened(sink) as subscriber:
        with pytest.raises(Unavailable, match="end of file"):
            await subscriber.deliver(delivery())
    sink.answer = Answer(status, body=b"x" * 1000, how="drip")
    async with opened(sink, timeout=0.3) as subscriber:
        with pytest.raises(TimedOut):
            await subscriber.deliver(delivery())


async def test_errors_name_the_address_without_secrets(sink: Sink) -> None:
    def echo(seen: Any) -> Answer:
        return Answer(400, body=str(seen.headers).encode())

    sink.answer = echo
    uri = sink.url.replace("http://", "http://ann:p4ssw0rd@") + "/f?token=s3cret"
    target = HttpTarget(uri=uri, headers={"X-Key": "k3y-value"}, auth=HttpAuth(bearer="b34rer"))
    async with open_http(target, subscriber=OWNER, clock=CLOCK) as subscriber:
        with pytest.raises(Rejected) as refused:
            await subscriber.deliver(delivery())
        await sink.stop()
        with pytest.raises(Unavailable) as gone:
            await subscriber.deliver(delivery())
    for text in (str(refused.value), str(gone.value)):
        assert f"{sink.url}/f" in text
        for secret in ("p4ssw0rd", "s3cret", "k3y-value", "b34rer"):
            assert secret not in text


# -- connections and bodies -------------------------------------------------


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("size", [0, 1, 200_000])
async def test_connections_are_used_again(sink: Sink, size: int, status: int) -> None:
    sink.answer = Answer(status, body=b"x" * size)
    async with opened(sink) as subscriber:
        for _ in range(20):
            try:
                await subscriber.deliver(delivery())
            except Unavailable:
                assert status == 503
    # A large one's is put back in a thread of its own, at times after the next call began.
    assert sink.connections <= (1 if size < 200_000 else 3)


async def test_a_slow_body_is_waited_for_so_that_its_connection_is_used_again(sink: Sink) -> None:
    sink.answer = Answer(200, body=b"x" * 250_000, how="halves")
    async with opened(sink) as subscriber:
        for _ in range(10):
            await subscriber.deliver(delivery())
    # The client puts it back in a thread of its own, at times after the next call began.
    assert sink.connections <= 3


async def test_a_connection_that_the_server_closed_is_replaced(sink: Sink) -> None:
    async with opened(sink) as subscriber:
        for _ in range(10):
            await subscriber.deliver(delivery())
            await sink.stop()
            await sink.start()
    assert len(sink.seen) == sink.connections == 10


async def test_connections_are_bounded(sink: Sink) -> None:
    sink.answer = Answer(delay=0.01)
    async with opened(sink, connections=4) as subscriber, asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(subscriber.deliver(delivery()))
    assert sink.most_busy == 4
    assert sink.connections == 4
    assert len(sink.seen) == 40


async def test_a_huge_answer_is_not_read(sink: Sink) -> None:
    sink.answer = Answer(200, body=b"x" * 50_000_000)
    async with opened(sink) as subscriber:
        assert await subscriber.deliver(delivery()) is answer.ACCEPTED[200]
        sink.answer = Answer(200)
        await subscriber.deliver(delivery())
    assert sink.connections == 2, "the rest of the body was not worth its connection"


async def test_events_are_kept_and_other_answers_are_not(sink: Sink) -> None:
    sink.script.extend(
        [
            Answer(200, (("Content-Type", "application/cloudevents+json"),), b"{}"),
            Answer(200, (("CE-SpecVersion", "1.0"), ("X-A", "1"), ("X-A", "2")), b"body"),
            Answer(200, (("Content-Type", "text/plain"),), b"thanks"),
            Answer(404, body=b"nothing here"),
        ]
    )
    async with opened(sink, answers="events") as subscriber:
        structured = await subscriber.deliver(delivery())
        binary = await subscriber.deliver(delivery())
        other = await subscriber.deliver(delivery())
        with pytest.raises(Misconfigured):
            await subscriber.deliver(delivery())
    assert structured.body == b"{}"
    assert binary.headers == {"ce-specversion": "1.0", "x-a": "1, 2"}
    assert binary.body == b"body"
    assert (other.headers, other.body) == ({}, b"")


async def test_pass_returns_any_status(sink: Sink) -> None:
    sink.answer = Answer(404, (("x-a", "1"), ("connection", "keep-alive")), b"nothing here")
    async with opened(sink, answers="pass") as subscriber:
        reply = await subscriber.deliver(delivery())
    assert (reply.status, reply.body) == (404, b"nothing here")
    assert reply.headers == {"x-a": "1"}


@pytest.mark.parametrize("answers", ["events", "pass"])
async def test_an_answer_that_is_wanted_and_too_large(sink: Sink, answers: str) -> None:
    sink.answer = Answer(200, (("ce-specversion", "1.0"),), b"x" * (answer.BODY_LIMIT + 1))
    async with opened(sink, answers=answers) as subscriber:
        with pytest.raises(TooLarge, match="1048576"):
            await subscriber.deliver(delivery())


# -- targets that are wrong -------------------------------------------------


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ({"uri": "orders"}, "sink.uri"),
        ({"uri": "ftp://host/x"}, "sink.uri"),
        ({"uri": "http://host", "headers": {"X-Key": "a\nsecret"}}, "sink.headers.X-Key"),
        ({"uri": "http://host", "headers": {"no name": "a"}}, "sink.headers.no name"),
        ({"uri": "http://host", "proxy": "proxy:3128"}, "sink.proxy"),
        ({"uri": "https://host", "ca": "junk"}, "sink.tls.ca"),
        ({"uri": "https://host", "cert": "junk"}, "sink.tls"),
        ({"uri": "https://host", "cert": "junk", "key": "junk"}, "sink.tls.cert"),
    ],
)
async def test_a_wrong_target_is_found_before_any_call(target: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        async with open_http(HttpTarget(**target), subscriber=OWNER, clock=CLOCK):
            pass
    assert caught.value.path == path
    assert "secret" not in str(caught.value)
