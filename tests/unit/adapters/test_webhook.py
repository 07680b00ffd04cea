"""WebhookSource: what becomes of a request, and what its sender is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ofevents.errors import (
    BusFull,
    Disconnected,
    EvaluationError,
    PermanentError,
    TemporaryError,
    TooLarge,
)
from ofevents.event import Event, to_http, to_http_batch
from ofevents.ports import Reply
from tests.servers import until
from tests.unit.adapters.webhooks import Sink, call, listening, make, running

JSON = ("Content-Type", "application/json")


def one(id: str = "1", **rest: Any) -> Event:
    return Event.create(id=id, source="/s", type="t", **rest)


def as_sent(headers: dict[str, str]) -> list[tuple[str, str]]:
    return list(headers.items())


async def test_a_plain_body_becomes_an_event() -> None:
    sink = Sink()
    async with listening(sink) as url:
        answer = await call(url, b'{"a": 1.0}', JSON)
    event = sink.event
    assert (answer.status, answer.json) == (202, {"id": event.id})
    assert url.endswith("/hooks/in")
    assert event.data == b'{"a": 1.0}'
    assert event.attributes == {
        "specversion": "1.0",
        "id": event.id,
        "source": "/ofevents/default/hooks/in",
        "type": "ofevents.webhook",
        "time": "2026-02-02T02:40:00Z",
        "datacontenttype": "application/json",
    }


async def test_headers_give_the_id_and_the_type() -> None:
    sink = Sink()
    async with listening(sink, idHeader="X-GitHub-Delivery", typeHeader="X-GitHub-Event") as url:
        await call(url, b"{}", JSON, ("x-github-delivery", "d-7"), ("X-GITHUB-EVENT", "push"))
    assert (sink.event.id, sink.event.type) == ("d-7", "ofevents.webhook.push")


async def test_ids_are_new_where_the_header_is_missing() -> None:
    sink = Sink()
    async with listening(sink, idHeader="X-Id") as url:
        await call(url, b"{}", JSON)
        await call(url, b"{}", JSON, ("X-Id", ""))
    assert len({event.id for (event,) in sink.calls}) == 2


@pytest.mark.parametrize(
    ("body", "headers", "content_type", "data"),
    [
        (b"plain", [("Content-Type", "text/plain")], "text/plain", b"plain"),
        (b"not json", [JSON], "application/json", b"not json"),
        (b"[1]", [], "application/json", b"[1]"),
        (b"\xff\x00", [], "application/octet-stream", b"\xff\x00"),
        (b"", [JSON], "application/json", None),
        (b"", [], None, None),
        (b"", [("Content-Type", "text/plain")], "text/plain", b""),
    ],
)
async def test_any_payload_is_taken_as_it_is(
    body: bytes, headers: list[tuple[str, str]], content_type: str | None, data: bytes | None
) -> None:
    sink = Sink()
    async with listening(sink) as url:
        assert (await call(url, body, *headers)).status == 202
    assert (sink.event.datacontenttype, sink.event.data) == (content_type, data)


async def test_a_query_comes_along() -> None:
    sink = Sink()
    async with listening(sink, methods=["GET"], path="/ping") as url:
        assert (await call(url + "?a=1&b=%20", method="GET")).status == 202
    assert sink.event.attributes["query"] == "a=1&b=%20"


@pytest.mark.parametrize("format", ["binary", "structured"])
async def test_a_cloudevent_keeps_its_identity(format: Any) -> None:
    sink, event = Sink(), one(data=b'{"a": 1.0}', datacontenttype="application/json", x="ü y")
    headers, body = to_http(event, format)
    async with listening(sink, idHeader="x-id") as url:
        answer = await call(url, body, *as_sent(headers), ("x-id", "other"))
    assert (answer.status, answer.json, sink.event) == (202, {"id": "1"}, event)


async def test_a_batch_is_one_call() -> None:
    sink, batch = Sink(), [one("1"), one("2", data=b"[2.0]")]
    headers, body = to_http_batch(batch)
    async with listening(sink) as url:
        answer = await call(url, body, *as_sent(headers))
        empty = await call(url, b"[]", *as_sent(headers))
    assert (answer.status, answer.json) == (202, {"ids": ["1", "2"]})
    assert (empty.status, empty.json) == (202, {"ids": []})
    assert sink.calls == [tuple(batch)]


async def test_one_bad_event_refuses_its_batch() -> None:
    sink = Sink()
    body = b'[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"specversion":"1.0"}]'
    async with listening(sink) as url:
        answer = await call(url, body, ("content-type", "application/cloudevents-batch+json"))
    assert (answer.status, sink.calls) == (400, [])
    assert answer.json == {
        "error": "event 1 of the batch: not a CloudEvent: attribute id is missing"
    }


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ([("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s")], "type is missing"),
        ([("ce-id", "1")], "specversion must be 1.0"),
        ([("ce-specversion", "1.0"), ("ce-id", b"\xff")], "ce-id is not UTF-8"),
        ([("ce-specversion", "1.0"), ("ce-id", "%FF")], "ce-id is not UTF-8"),
        ([("content-type", "application/cloudevents+json")], "the body is not JSON"),
        ([("content-type", b"text/\xff")], "content-type is not UTF-8"),
        ([("content-type", "text/ü")], "datacontenttype must be printable ASCII"),
        ([("x-id", b"a\xfe")], "X-Id is not UTF-8"),
    ],
)
async def test_what_is_no_cloudevent_is_answered_with_a_sentence(
    headers: list[tuple[str, str | bytes]], sentence: str
) -> None:
    sink = Sink()
    async with listening(sink, idHeader="X-Id") as url:
        answer = await call(url, b"x", *headers)
    assert (answer.status, sink.calls) == (400, [])
    assert sentence in answer.json["error"].replace("Content-Type", "content-type")


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (TemporaryError("later", delay=2.2), 503, "3"),
        (BusFull("full"), 503, "1"),
        (Disconnected("gone"), 503, "1"),
        (TooLarge("2 bytes, 1 allowed"), 413, None),
        (PermanentError("never"), 422, None),
        (EvaluationError("no such field"), 422, None),
    ],
)
async def test_what_emit_raises_is_the_answer(
    error: Exception, status: int, retry_after: str | None
) -> None:
    sink = Sink(error=error)
    async with listening(sink) as url:
        answer = await call(url, b"{}", JSON)
    assert (answer.status, answer.headers.get("retry-after")) == (status, retry_after)
    assert answer.json == {"error": str(error)}


async def test_the_answer_comes_after_emit_has_returned() -> None:
    sink = Sink(held=asyncio.Event())
    async with listening(sink) as url:
        waiting = asyncio.ensure_future(call(url, b"{}", JSON))
        await until(lambda: bool(sink.calls), seconds=20, what="it is emitted")
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done and sink.held is not None
        sink.held.set()
        assert (await waiting).status == 202


@pytest.mark.parametrize(("bus", "status"), [(True, 503), (False, 504)])
async def test_a_request_waits_no_longer_than_timeout(bus: bool, status: int) -> None:
    sink = Sink(held=asyncio.Event())
    async with listening(sink, bus=bus, timeout="50ms") as url:
        answer = await call(url, b"{}", JSON)
    assert (answer.status, answer.headers["retry-after"]) == (status, "1")
    assert answer.json == {"error": "no answer within 0.05 s"}


async def test_a_function_s_answer_passes_through() -> None:
    sink = Sink(reply=Reply(418, {"content-type": "text/x", "x-y": "z"}, b"short and stout"))
    async with listening(sink, bus=False) as url:
        answer = await call(url, b"{}", JSON)
    assert (answer.status, answer.body) == (418, b"short and stout")
    assert (answer.headers["content-type"], answer.headers["x-y"]) == ("text/x", "z")


async def test_ten_megabytes_are_refused_with_an_answer_and_taken_where_allowed() -> None:
    sink, body = Sink(), b"x" * 10_000_000
    async with listening(sink) as url:
        answer = await call(url, body, ("content-type", "text/plain"))
    assert (answer.status, sink.calls) == (413, [])
    assert answer.json == {"error": "the body has 10000000 bytes; maxBodyBytes allows 1048576"}
    async with listening(sink, maxBodyBytes="10Mi") as url:
        assert (await call(url, body, ("content-type", "text/plain"))).status == 202
    assert sink.event.data == body


async def test_a_body_of_unknown_length_is_limited_while_it_streams() -> None:
    sink = Sink()
    async with listening(sink, maxBodyBytes=10) as url:
        host, port = url.split("/")[2].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /hooks/in HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"8\r\n12345678\r\n8\r\n12345678\r\n0\r\n\r\n")
        raw = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert raw.startswith(b"HTTP/1.1 413 ") and b"at least" in raw
    assert sink.calls == []


async def test_a_caller_that_asks_first_sends_no_body() -> None:
    async with listening(Sink(), maxBodyBytes=10) as url:
        host, port = url.split("/")[2].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /hooks/in HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n")
        writer.write(b"expect: 100-continue\r\n\r\n")
        raw = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert raw.startswith(b"HTTP/1.1 413 ")


async def test_other_methods_and_paths_are_not_there() -> None:
    async with listening(Sink(), methods=["PUT", "POST"]) as url:
        answer = await call(url, method="GET")
        assert (answer.status, answer.headers["allow"]) == (405, "PUT, POST")
        answer = await call(url + "/x")
        assert (answer.status, answer.json) == (404, {"error": "no webhook listens at /hooks/in/x"})


async def test_stopping_answers_what_is_in_hand_and_takes_no_more() -> None:
    sink = Sink(held=asyncio.Event())
    async with running(make(), sink) as url:
        waiting = asyncio.ensure_future(call(url, b"{}", JSON))
        await sink.called.wait()
        asyncio.get_running_loop().call_later(0.2, sink.held.set)  # type: ignore[union-attr]
    assert (await waiting).status == 202
    with pytest.raises(OSError):
        await call(url, b"{}", JSON)


async def test_what_outlasts_the_grace_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ofevents_adapters.webhook._GRACE", 0.05)
    sink = Sink(held=asyncio.Event())
    async with running(make(), sink) as url:
        waiting = asyncio.ensure_future(call(url, b"{}", JSON))
        await sink.called.wait()
    answer = await waiting
    assert (answer.status, answer.json) == (503, {"error": "stopping; send it again"})


async def test_too_many_at_once_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ofevents_adapters.webhook.AT_ONCE", 1)
    sink = Sink(held=asyncio.Event())
    async with listening(sink) as url:
        first = asyncio.ensure_future(call(url, b"{}", JSON))
        await sink.called.wait()
        assert (await call(url, b"{}", JSON)).status == 503
        sink.held.set()  # type: ignore[union-attr]
        assert (await first).status == 202
