"""The `webhook` source: workers on ports of their own behind a balancer, and senders
that try again until they are told that their event is stored.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import orjson

from ofevents.api.webhook import WebhookSpec
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.ports import Emit, SourceIdentity, Store
from ofevents_adapters.webhook import AT_ONCE, WebhookSource
from tests.servers import free_port
from tests.unit.adapters.webhooks import call

SENDERS = 300
"""Requests at once: more than a worker takes."""


class WebhookRig:
    """See `SourceRig`.

    Attributes:
        told: how often its senders were given each status; 0 where they got no answer.
    """

    features = WebhookSource.features
    in_flight = AT_ONCE
    breakable = False
    poisonable = True

    def __init__(self, port: int = 0) -> None:
        """`port` is where the workers listen, 0 for one of its own each."""
        self.port = port
        self.told: Counter[int] = Counter()
        self.store = MemoryStore(Broker(max_bytes=1_000_000, window=60), SystemClock())
        self.urls: list[str] = []
        self._turn = itertools.count()
        self._count = itertools.count()
        self._places = asyncio.Semaphore(SENDERS)
        self._senders: set[asyncio.Task[None]] = set()

    @property
    def sending(self) -> int:
        """How many senders have not been told yet that their event is stored."""
        return len(self._senders)

    def make(self) -> _Balanced:
        return _Balanced(self)

    async def feed(self, count: int) -> Sequence[str]:
        keys = [str(next(self._count)) for _ in range(count)]
        for key in keys:
            task = asyncio.create_task(self._send(key), name=f"feed {key}")
            self._senders.add(task)
            task.add_done_callback(self._senders.discard)
        return keys

    async def _send(self, key: str) -> None:
        headers = [("content-type", "application/json"), ("x-delivery", f"delivery-{key}")]
        async with self._places:
            while True:
                status = 0
                try:
                    answer = await call(self._url(), orjson.dumps({"key": key}), *headers)
                    status = answer.status
                except (OSError, IndexError, ValueError):
                    pass  # nobody listens, or left within the answer
                self.told[status] += 1
                if status == 202:
                    return
                await asyncio.sleep(0.05)

    def _url(self) -> str:
        return self.urls[next(self._turn) % len(self.urls)] if self.urls else "http://127.0.0.1:1"

    def key(self, event: Event) -> str:
        return str(event.value["key"]) if event.type == "ofevents.webhook" else ""

    async def poison(self) -> bool:
        answer = await call(self._url(), b"{", ("content-type", "application/cloudevents+json"))
        self.told[answer.status] += 1
        return answer.status == 202

    async def break_(self) -> None:
        raise NotImplementedError("there is no server but the source itself")

    async def restart(self) -> None:
        raise NotImplementedError("there is no server but the source itself")

    async def close(self) -> None:
        for task in self._senders:
            task.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)


class _Balanced:
    """A worker that the balancer knows while it listens."""

    features = WebhookSource.features

    def __init__(self, rig: WebhookRig) -> None:
        self._rig = rig
        spec = WebhookSpec(port=rig.port, id_header="X-Delivery")
        identity = SourceIdentity("default", "hooks", "webhook", "in")
        self._source = WebhookSource(spec, identity, clock=SystemClock())

    async def run(self, emit: Emit, *, store: Store | None, started: Callable[[str], None]) -> None:
        mine: list[str] = []

        def live(address: str) -> None:
            mine.append(address)
            self._rig.urls.append(address)
            started(address)

        try:
            await self._source.run(emit, store=store, started=live)
        finally:
            for address in mine:
                self._rig.urls.remove(address)


@asynccontextmanager
async def open_rig() -> AsyncIterator[WebhookRig]:
    """A rig whose senders end with it."""
    rig = WebhookRig()
    try:
        yield rig
    finally:
        await rig.close()


@asynccontextmanager
async def open_process() -> AsyncIterator[WebhookRig]:
    """A rig for one worker that is a process of its own, at a port that is known before."""
    rig = WebhookRig(free_port())
    rig.urls.append(f"http://127.0.0.1:{rig.port}/hooks/in")
    try:
        yield rig
    finally:
        await rig.close()
