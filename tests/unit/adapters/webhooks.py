"""What the webhook tests share: an entry that listens, and a caller who may send anything."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

from ofevents.api.webhook import WebhookSpec
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import ManualClock
from ofevents.event import Event
from ofevents.ports import Reply, SourceIdentity, Store
from ofevents_adapters.webhook import WebhookSource

NOW = 1_770_000_000.0


@dataclass
class Sink:
    """An emit: remembers the calls, then answers, raises or waits as it is told."""

    calls: list[tuple[Event, ...]] = field(default_factory=list)
    reply: Reply | None = None
    error: Exception | None = None
    held: asyncio.Event | None = None
    called: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, *events: Event) -> Reply | None:
        self.calls.append(events)
        self.called.set()
        if self.held is not None:
            await self.held.wait()
        if self.error is not None:
            raise self.error
        return self.reply

    @property
    def event(self) -> Event:
        """The only event of the only call."""
        ((event,),) = self.calls
        return event


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


def make(name: str = "hooks", entry: str = "in", **spec: Any) -> WebhookSource:
    identity = SourceIdentity("default", name, "webhook", entry)
    given = WebhookSpec.model_validate({"port": 0, **spec})
    return WebhookSource(given, identity, clock=ManualClock(NOW))


def a_store() -> Store:
    return MemoryStore(Broker(max_bytes=10**6, window=120), ManualClock(NOW))


@asynccontextmanager
async def running(source: WebhookSource, sink: Sink, *, bus: bool = True) -> AsyncIterator[str]:
    """Its URL, while it runs."""
    live: asyncio.Queue[str] = asyncio.Queue()
    store = a_store() if bus else None
    task = asyncio.ensure_future(source.run(sink, store=store, started=live.put_nowait))
    address = asyncio.ensure_future(live.get())
    await asyncio.wait([task, address], return_when=asyncio.FIRST_COMPLETED, timeout=10)
    try:
        if task.done():
            address.cancel()
            task.result()
        yield address.result()
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def listening(sink: Sink, *, bus: bool = True, **spec: Any) -> AsyncIterator[str]:
    async with running(make(**spec), sink, bus=bus) as url:
        yield url


async def call(
    url: str,
    body: bytes = b"",
    *headers: tuple[str | bytes, str | bytes],
    method: str = "POST",
    context: ssl.SSLContext | None = None,
) -> Answer:
    """One request, its bytes as given."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1".encode(), b"host: x", b"connection: close"]
    lines += [b"content-length: %d" % len(body)]
    lines += [_bytes(name) + b": " + _bytes(value) for name, value in headers]
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
    raw = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    await writer.wait_closed()
    head, _, rest = raw.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    found = dict(one.split(": ", 1) for one in fields)
    return Answer(int(status.split()[1]), found, rest)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
