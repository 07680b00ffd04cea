"""A real HTTP server that plays the function: it answers as told and forgets nothing.

In a test's own loop (`async with Sink() as sink`) or, for tests that kill and count
across processes, as a process of its own: `async with sink_process() as sink`, which
runs `python -m tests.servers.sink PORT` and reads `GET /stats`.

It speaks HTTP/1.1 on a socket itself, so that it can also do what no framework
offers: hang, drop the connection before or within an answer, drip a body.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Final, Literal, Self

import httptools
import trustme

from ofevents.errors import BadEvent
from ofevents.event import Event, from_http
from tests.servers import HOST, ServerFailed, free_port, listening, until

_BACKLOG: Final = 512
_ACCEPTING: Final = 3
"""Turns of the loop from the accept of a connection until it is made."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sink does with one request.

    Attributes:
        delay: seconds before the answer begins.
        how: `whole`; `hang`: never answers; `drop`: closes without an answer; `cut`:
            closes within the body; `halves`: pauses 20 ms within the body; `drip`: a
            byte each 10 ms.
        ended: told once: True when the answer begins, False when the caller was gone
            before that.
    """

    status: int = 202
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay: float = 0.0
    how: Literal["whole", "hang", "drop", "cut", "halves", "drip"] = "whole"
    ended: Callable[[bool], None] | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived; header names in lower case."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[Event]:
        """The CloudEvents in it; none where it holds none, or what only claims to be one."""
        try:
            return from_http(self.headers, self.body) or []
        except BadEvent:
            return []


Reaction = Callable[[Seen], Answer]
ACCEPT: Final = Answer()


@dataclass(slots=True)
class Sink:
    """Listens on HOST; `stop` and `start` keep the port.

    Attributes:
        answer: for every request that `script` says nothing about.
        script: answers for the next requests, in order.
        require: header and value without which it answers 401.
        tls: server side of TLS, see `Certificates`.
    """

    answer: Answer | Reaction = ACCEPT
    script: deque[Answer] = field(default_factory=deque)
    require: tuple[str, str] | None = None
    tls: ssl.SSLContext | None = None
    port: int = field(default_factory=free_port)
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    busy: int = 0
    most_busy: int = 0
    _open: set[_Connection] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://{HOST}:{self.port}"

    @property
    def events(self) -> list[Event]:
        """The CloudEvents of all requests, in order of arrival."""
        return [event for seen in self.seen for event in seen.events]

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.events]

    async def start(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), HOST, self.port, ssl=self.tls, backlog=_BACKLOG
        )

    async def stop(self) -> None:
        """Stop listening and cut every connection, as a crash does."""
        server, self._server = self._server, None
        if server is not None:
            for listener in server.sockets:
                asyncio.get_running_loop().remove_reader(listener)
            # asyncio leaves a connection open that it is just accepting for a closed server.
            for _ in range(_ACCEPTING):
                await asyncio.sleep(0)
            server.close()
        for connection in list(self._open):
            connection.cut()
        await until(lambda: not self._open, seconds=20, what="every connection is closed")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def decide(self, seen: Seen) -> Answer:
        """Keep the request and say what to do with it."""
        self.seen.append(seen)
        if self.require is not None and seen.headers.get(self.require[0]) != self.require[1]:
            return Answer(401)
        if self.script:
            return self.script.popleft()
        return self.answer if isinstance(self.answer, Answer) else self.answer(seen)


class _Connection(asyncio.Protocol):
    """One connection: a request after the other."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None] | None = None
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._sink.connections += 1
        self._sink._open.add(self)
        if self._sink._server is None:  # accepted just before the sink stopped
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()
        self._sink._open.discard(self)

    def cut(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        seen = Seen(method, self._url.decode("latin-1"), self._headers, b"".join(self._body))
        self._begin()
        answer = self._sink.decide(seen)
        if answer.how == "whole" and not answer.delay:
            if answer.ended is not None:
                answer.ended(True)
            self._transport.write(_head(answer) + answer.body)
            return
        self._sink.busy += 1
        self._sink.most_busy = max(self._sink.most_busy, self._sink.busy)
        self._task = asyncio.get_running_loop().create_task(self._slowly(answer))
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._sink.busy -= 1

    async def _slowly(self, answer: Answer) -> None:
        try:
            await asyncio.sleep(answer.delay)
        except asyncio.CancelledError:
            if answer.ended is not None:
                answer.ended(False)
            raise
        if answer.ended is not None:
            answer.ended(True)
        match answer.how:
            case "whole":
                self._transport.write(_head(answer) + answer.body)
            case "hang":
                await asyncio.get_running_loop().create_future()
            case "drop":
                self._transport.abort()
            case "cut":
                self._transport.write(_head(answer) + answer.body[: len(answer.body) // 2])
                self._transport.close()
            case "halves":
                half = len(answer.body) // 2
                self._transport.write(_head(answer) + answer.body[:half])
                await asyncio.sleep(0.02)
                self._transport.write(answer.body[half:])
            case "drip":
                self._transport.write(_head(answer))
                for at in range(len(answer.body)):
                    await asyncio.sleep(0.01)
                    self._transport.write(answer.body[at : at + 1])


def _head(answer: Answer) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} -", f"content-length: {len(answer.body)}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


# -- TLS ----------------------------------------------------------------------


class Certificates:
    """A made-up authority, a server's certificate for HOST and a client's."""

    def __init__(self) -> None:
        self._authority = trustme.CA()
        self._server = self._authority.issue_cert(HOST, "localhost")
        client = self._authority.issue_cert("client@example.org")
        self.ca = self._authority.cert_pem.bytes().decode()
        self.client_cert = client.cert_chain_pems[0].bytes().decode()
        self.client_key = client.private_key_pem.bytes().decode()

    def server(self, *, ask: bool = False) -> ssl.SSLContext:
        """For `Sink.tls`; with `ask` a client must show a certificate of this authority."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._server.configure_cert(context)
        if ask:
            context.verify_mode = ssl.CERT_REQUIRED
            self._authority.configure_trust(context)
        return context


# -- a token server -------------------------------------------------------------


class TokenServer:
    """The reaction of a sink that hands out OAuth 2 tokens: `token-1`, `token-2`, ..."""

    def __init__(self, client_id: str, secret: str, *, life: float = 3600.0) -> None:
        pair = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
        self._expected = f"Basic {pair}"
        self.life = life
        self.given = 0

    def __call__(self, seen: Seen) -> Answer:
        as_json = (("content-type", "application/json"),)
        if seen.headers.get("authorization") != self._expected:
            return Answer(401, as_json, b'{"error":"invalid_client"}')
        self.given += 1
        body = {"access_token": f"token-{self.given}", "expires_in": self.life}
        return Answer(200, as_json, json.dumps(body).encode())


# -- a process of its own ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SinkProcess:
    """A sink in another process: what it answers is told by its environment."""

    port: int
    process: asyncio.subprocess.Process

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def ids(self) -> list[str]:
        """The ids of all events that arrived, in order, repeated ones included."""
        reader, writer = await asyncio.open_connection(HOST, self.port, limit=2**26)
        try:
            writer.write(b"GET /stats HTTP/1.1\r\nhost: sink\r\nconnection: close\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            )
            found: list[str] = json.loads(await reader.readexactly(length))["ids"]
            return found
        finally:
            writer.close()


@asynccontextmanager
async def sink_process(
    *, port: int | None = None, status: int = 202, delay: float = 0.0
) -> AsyncIterator[SinkProcess]:
    """A sink that answers `status` after `delay` seconds, killed at the end."""
    port = port or free_port()
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.servers.sink", str(port), str(status), str(delay)),
                cwd=Path(__file__).parents[2],
                env=dict(os.environ),
                stdout=output,
                stderr=output,
            )
        try:
            await until(lambda: listening(port), seconds=60, what="the sink listens")
            yield SinkProcess(port, process)
        except TimeoutError as error:
            raise ServerFailed(f"{error}\n{log.read_text()[-2000:]}") from error
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _serve(port: int, status: int, delay: float) -> None:
    ids: list[str] = []

    def react(seen: Seen) -> Answer:
        sink.seen.clear()  # the ids are enough, and memory stays flat
        if seen.url == "/stats":
            return Answer(200, body=json.dumps({"ids": ids}).encode())
        ids.extend(event.id for event in seen.events)
        return Answer(status, delay=delay)

    sink = Sink(port=port, answer=react)
    async with sink:
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
