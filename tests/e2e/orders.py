"""What the tests share that change things in the stream: numbered orders, counted.

webhook -> EventSource shop/orders -> Trigger checkout -> functions in the test's own loop

`posting` posts an order after the other with a number; `Calls` keeps what each function
was called with. Trigger specs are written by the tests, with `document`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.servers import until
from tests.servers.sink import ACCEPT, Answer, Seen, Sink

API = "events.openfunction.io/v1alpha1"
KEYS = 5
"""Orders have so many partitionkeys, by their number."""


def document(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    """A resource."""
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}


def bus(url: str, **options: Any) -> dict[str, Any]:
    """The EventBus on that server; "" for the embedded one."""
    return document("EventBus", "default", jetstream={**({"url": url} if url else {}), **options})


def source(port: int, **spec: Any) -> dict[str, Any]:
    """The EventSource of the orders."""
    entry = {
        "host": "127.0.0.1",
        "port": port,
        "path": "/orders",
        "attributes": {"partitionkey": f"string(event.data.n % {KEYS})"},
    }
    return document("EventSource", "shop", eventBus="default", webhook={"orders": entry}, **spec)


def trigger(*subscribers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """The Trigger of the orders."""
    inputs = {"orders": {"eventSource": "shop", "event": "orders"}}
    return document(
        "Trigger",
        "checkout",
        **{
            "eventBus": "default",
            "startFrom": "earliest",
            "inputs": inputs,
            "subscribers": list(subscribers),
            **spec,
        },
    )


def write(path: Path, *documents: dict[str, Any]) -> Path:
    """Write the resources there, replacing the file as editors do."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(yaml.safe_dump_all(documents))
    os.replace(draft, path)
    return path


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function: when it came, and how many ran then, itself included."""

    path: str
    data: Any
    time: float
    at_once: int

    @property
    def number(self) -> int:
        n: int = self.data["n"]
        return n


@dataclass
class Calls:
    """The functions, one per path: what they answer, and what they were called with.

    Attributes:
        answers: by path; others answer 202.
        refused: calls that were not answered with a 2xx.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    accepted: list[Call] = field(default_factory=list)
    refused: list[Call] = field(default_factory=list)
    sink: Sink = field(default_factory=Sink)

    def __post_init__(self) -> None:
        self.sink.answer = self._answer

    def _answer(self, seen: Seen) -> Answer:
        self.sink.seen.clear()
        answer = self.answers.get(seen.url, ACCEPT)
        now = asyncio.get_running_loop().time()
        call = Call(seen.url, json.loads(seen.body), now, self.sink.busy + 1)
        well = answer.status < 300 and answer.how == "whole"
        (self.accepted if well else self.refused).append(call)
        return answer

    def target(self, path: str) -> dict[str, str]:
        """The `sink` that leads there."""
        return {"uri": self.sink.url + path}

    def of(self, path: str) -> list[Call]:
        """The accepted calls of one function."""
        return [call for call in self.accepted if call.path == path]

    def numbers(self, path: str) -> list[int]:
        """Of the orders that it accepted, in their order of arrival."""
        return [call.number for call in self.of(path)]

    async def all_of(self, path: str, numbers: set[int], *, seconds: float = 120) -> None:
        """Wait until the function has accepted these orders.

        Much longer than the ack wait of 30 s: what the bus was just sending to a worker that
        ended comes again only then.
        """

        def there() -> bool:
            return numbers <= set(self.numbers(path))

        try:
            await until(there, seconds=seconds, what=f"{len(numbers)} orders at {path}")
        except TimeoutError as error:
            missing = sorted(numbers - set(self.numbers(path)))
            raise AssertionError(f"{error}; missing {len(missing)}: {missing[:20]}") from None


@asynccontextmanager
async def functions() -> AsyncIterator[Calls]:
    """They listen while in the `with`."""
    calls = Calls()
    async with calls.sink:
        yield calls


@dataclass
class Posted:
    """Posts numbered orders, and keeps what became of them.

    Attributes:
        answered: number -> status and seconds that the answer took.
        accepted: the numbers that were answered 202, in their order.
        begun: orders that were posted, answered or not.
        retry_after: that header of each 503.
    """

    url: str
    session: aiohttp.ClientSession
    answered: dict[int, tuple[int, float]] = field(default_factory=dict)
    accepted: list[int] = field(default_factory=list)
    retry_after: list[str] = field(default_factory=list)
    begun: int = 0

    async def order(self, **more: Any) -> int:
        """Post the next one; the status."""
        loop, number = asyncio.get_running_loop(), self.begun
        self.begun += 1
        began = loop.time()
        async with self.session.post(self.url, json={"n": number, **more}) as answer:
            await answer.read()
        self.answered[number] = answer.status, loop.time() - began
        if answer.status == 202:
            self.accepted.append(number)
        elif answer.status == 503:
            self.retry_after.append(answer.headers.get("retry-after", ""))
        return answer.status

    async def some(self, count: int) -> None:
        """Wait until so many more have been accepted."""
        enough = len(self.accepted) + count
        await until(lambda: len(self.accepted) >= enough, seconds=60, what=f"{count} more orders")


@asynccontextmanager
async def caller(port: int) -> AsyncIterator[Posted]:
    """Who posts orders to the webhook on that port."""
    async with aiohttp.ClientSession() as session:
        yield Posted(f"http://127.0.0.1:{port}/orders", session)


@asynccontextmanager
async def posting(
    port: int, *, pause: float = 0.01, expected: Container[int] = (202,)
) -> AsyncIterator[Posted]:
    """Post one order after the other while in the `with`; `expected` are the statuses that may be.

    The last one has its answer when the block is left.
    """
    enough = asyncio.Event()

    async def keep_on(posted: Posted) -> None:
        while not enough.is_set():
            status = await posted.order()
            assert status in expected, f"order {posted.begun - 1} was answered {status}"
            await asyncio.sleep(pause)

    async with caller(port) as posted, asyncio.TaskGroup() as group:
        group.create_task(keep_on(posted))
        yield posted
        enough.set()
