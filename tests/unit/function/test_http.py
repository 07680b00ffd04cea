"""Functions over HTTP: what they are given, and what each way to end answers."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from starlette.applications import Starlette

from ofevents.errors import ConfigError
from ofevents.event import Event, to_http
from ofevents.function import Context, Function, Rejected, Unavailable, server

ORDER = Event.create(
    id="o-1",
    source="/shop",
    type="order",
    data=b'{"amount": 7}',
    datacontenttype="application/json",
)


class Answer:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


async def post(app: Starlette, headers: dict[str, str], body: bytes, path: str = "/") -> Answer:
    """One request to the function on a real server."""
    stop, up = asyncio.Event(), asyncio.Event()
    bound = server.bind("127.0.0.1", 0, what="the test")
    url = server.url(bound)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(app, bound, stop=stop, started=lambda _: up.set()))
        async with asyncio.timeout(20):
            await up.wait()
        async with (
            aiohttp.ClientSession() as session,
            session.post(url + path, headers=headers, data=body) as response,
        ):
            answer = Answer(response.status, response.headers, await response.read())
        stop.set()
    return answer


async def call(handler: Any, event: Event = ORDER) -> Answer:
    function = Function("f")
    function.on_http()(handler)
    return await post(function.application(), *to_http(event))


async def test_a_plain_function_gets_the_event_and_answers_json() -> None:
    seen: list[Event] = []

    def handler(event: Event) -> dict[str, int]:
        seen.append(event)
        return {"charged": event.value["amount"]}

    answer = await call(handler)
    assert (answer.status, answer.body) == (200, b'{"charged":7}')
    assert seen == [ORDER]


async def test_an_event_as_answer_is_a_cloudevent() -> None:
    async def handler(event: Event) -> Event:
        return Event.create(id="r-1", source="/f", type="charged", data=b"7")

    answer = await call(handler)
    assert answer.status == 200
    assert answer.headers["ce-id"] == "r-1"
    assert answer.body == b"7"


@pytest.mark.parametrize(
    ("result", "status", "body", "media"),
    [
        (None, 204, b"", None),
        (b"\x00\xff", 200, b"\x00\xff", "application/octet-stream"),
        ("ja", 200, b"ja", "text/plain; charset=utf-8"),
        ([1, 2], 200, b"[1,2]", "application/json"),
    ],
)
async def test_results(result: object, status: int, body: bytes, media: str | None) -> None:
    answer = await call(lambda event: result)
    assert (answer.status, answer.body) == (status, body)
    assert answer.headers.get("content-type") == media


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Rejected("no"), 422),
        (Rejected("gone", status=410), 410),
        (Unavailable("later", delay=2.5), 503),
        (RuntimeError("bug"), 500),
    ],
)
async def test_errors(error: Exception, status: int) -> None:
    def handler(event: Event) -> None:
        raise error

    answer = await call(handler)
    assert answer.status == status
    if status == 503:
        assert answer.headers["retry-after"] == "3"


async def test_a_body_that_is_no_cloudevent_becomes_one() -> None:
    seen: list[Event] = []
    function = Function("f")
    function.on_http("/raw")(lambda event: seen.append(event))
    headers = {"content-type": "text/plain", "idempotency-key": "k-1"}
    answer = await post(function.application(), headers, b"hello", "/raw")
    assert answer.status == 204
    assert (seen[0].id, seen[0].source, seen[0].value) == ("k-1", "/raw", "hello")


async def test_a_broken_cloudevent_is_400_and_names_the_attribute() -> None:
    function = Function("f")
    function.on_http()(lambda event: None)
    answer = await post(function.application(), {"ce-id": "1", "ce-specversion": "1.0"}, b"")
    assert answer.status == 400
    assert b"source" in answer.body


async def test_a_handler_of_no_or_three_arguments_is_refused_when_it_is_declared() -> None:
    function = Function("f")
    with pytest.raises(ConfigError, match=r"f\(event\) or f\(event, context\)"):
        function.on_http()(lambda: None)
    with pytest.raises(ConfigError, match="takes 3"):
        function.on_topic("t")(lambda a, b, c: None)


async def test_sending_without_a_bus_says_what_to_do() -> None:
    function = Function("f")

    @function.on_http()
    async def handler(event: Event, context: Context) -> None:
        with pytest.raises(ConfigError, match="OFEVENTS_BUS_URL"):
            await context.send("t", {})

    assert (await post(function.application(), *to_http(ORDER))).status == 204


async def test_a_port_in_use_is_a_sentence() -> None:
    first = server.bind("127.0.0.1", 0, what="first")
    port = first.getsockname()[1]
    with pytest.raises(ConfigError, match=rf"second cannot listen on 127\.0\.0\.1:{port}"):
        server.bind("127.0.0.1", port, what="second")
    first.close()
