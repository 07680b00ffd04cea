"""A function that is away for a while: the shop, the outage, and what is asked of both.

Two workers of one Trigger with two subscribers, both functions in processes of their
own: `charge` is away, `audit` is healthy. Used by `test_away` and `test_away_on_dapr`,
which say for how long, at which pace, and on which bus (`Ground`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from ofevents.ports import Bus, Delivery
from tests.e2e.faults.buses import JetStream, Sidecar
from tests.e2e.faults.figures import Figures
from tests.e2e.faults.orders import DEAD, bus_at, checkout
from tests.e2e.processes import Ofevents, get
from tests.servers import until
from tests.servers.function import Call, Function

TIMEOUT = 2.0
RETRIES = 3
DELIVERY = f"{{timeout: {TIMEOUT:g}s, retries: {RETRIES}, backoff: 500ms, maxBackoff: 2s}}"
"""Used up within about 2 s: an outage that counted against them would cost every event."""
MOST_CALLS = 2.0
"""Per second, in all workers together, while it is away; and so many more at the edges."""
LEAST_SHARE = 0.5
"""One that waited for its neighbour's calls would have a tenth of it."""
LONGEST_RETURN = 15.0
"""A probe comes each 3 s at least."""
LONGEST_DRAIN = 60.0
"""At the pace of the probes it would be an hour."""
PATIENCE = 120.0
"""Seconds that the test waits for what should take LONGEST_DRAIN, to say how much is missing."""


MODES: dict[str, dict[str, Any] | None] = {
    "500": {"answer": "500"},
    "502": {"answer": "502"},
    "503": {"answer": "503"},
    "504": {"answer": "504"},
    "drop": {"answer": "drop"},
    "hang": {"answer": "hang"},
    "gone": None,
}


@dataclass(frozen=True, slots=True)
class Shop:
    """What runs.

    Attributes:
        bus: what publishes.
        dead_letters: event id and reason of each.
    """

    bus: Bus
    charge: Function
    audit: Function
    workers: tuple[Ofevents, Ofevents]
    dead_letters: Callable[[], Awaitable[list[tuple[str, str]]]]

    async def failed_calls(self) -> float:
        """Of `charge`, counted by the workers: also where nobody listened."""
        total = 0.0
        for worker in self.workers:
            _, text = await get(f"{worker.probes}/metrics")
            total += sum(
                float(line.rsplit(" ", 1)[1])
                for line in text.splitlines()
                if line.startswith("ofevents_call_seconds_count{")
                and 'subscriber="charge"' in line
                and 'outcome="retry"' in line
            )
        return total


class Ground(Protocol):
    """The bus that the shop is on, entered and left by it."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    @property
    def spec(self) -> str:
        """Of the EventBus resource, as YAML on one line."""
        ...

    def beside(self, folder: Path, spec: Path) -> tuple[Path, Sidecar | None]:
        """See `FaultBus`."""
        ...

    async def joined(self, workers: int) -> None:
        """See `FaultBus`."""
        ...

    def connected(self, folder: Path) -> AbstractAsyncContextManager[Bus]:
        """Our own driver, for the test to publish; the folder is its own."""
        ...

    async def dead_letters(self) -> list[tuple[str, str]]:
        """Event id and reason of each."""
        ...


class OnJetStream(JetStream):
    """Without Dapr."""

    @asynccontextmanager
    async def connected(self, folder: Path) -> AsyncIterator[Bus]:
        async with bus_at(self.server.url) as bus:
            self._bus = bus
            yield bus

    async def dead_letters(self) -> list[tuple[str, str]]:
        found = []
        async for letter in self._bus.browse([DEAD]):
            assert isinstance(letter.body, Delivery)
            found.append((letter.body.events[-1].id, letter.headers["ofe-dead-reason"]))
        return found


@asynccontextmanager
async def shop(
    folder: Path, on: Ground | None = None, *, keep: bool = False
) -> AsyncIterator[Shop]:
    """A bus, two functions, two workers, all ready; `keep` as in `Function`."""
    async with AsyncExitStack() as stack:
        ground = await stack.enter_async_context(on or OnJetStream(folder / "nats"))
        charge = await stack.enter_async_context(Function(folder / "charge", keep=keep))
        audit = await stack.enter_async_context(Function(folder / "audit"))
        bus = await stack.enter_async_context(ground.connected(folder / "shop"))
        spec = await checkout(
            folder,
            ground.spec,
            f"{{name: charge, sink: {{uri: '{charge.url}'}}, delivery: {DELIVERY}}}",
            f"{{name: audit, sink: {{uri: '{audit.url}'}}, delivery: {DELIVERY}}}",
        )
        workers = []
        for number in (1, 2):
            own, sidecar = ground.beside(folder / f"trigger-{number}", spec)
            if sidecar is not None:
                stack.push_async_callback(sidecar.kill)
                await sidecar.start()
            worker = Ofevents(folder, "trigger", "-f", own, worker=True)
            workers.append(await stack.enter_async_context(worker))
        for worker in workers:
            await worker.ready()
        await ground.joined(len(workers))
        one, two = workers
        yield Shop(bus, charge, audit, (one, two), ground.dead_letters)


def numbered(count: int) -> list[str]:
    return [f"order-{n}" for n in range(count)]


def between(calls: Sequence[Call], began: float, ended: float) -> list[Call]:
    return [call for call in calls if began <= call.time <= ended]


def rate(function: Function, began: float, ended: float) -> float:
    """Accepted calls per second."""
    accepted = [one for one in between(function.calls(), began, ended) if one.status == 202]
    return len(accepted) / (ended - began)


async def all_accepted(function: Function, ids: Sequence[str], within: float) -> float:
    """Seconds until every id was accepted; `within` when that did not come."""
    began = time.monotonic()

    async def there() -> bool:
        await asyncio.sleep(0.2)
        return len(function.accepted()) >= len(ids)

    with suppress(TimeoutError):
        await until(there, seconds=within, what="every order is accepted")
    return time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Outage:
    """It was away from `began` to `ended` (Unix seconds), and this was known from `known` on.

    Attributes:
        back: when it was there again, Unix seconds. A process that is started is called before
            its start is known here: those calls are none of the outage's.
        counted: calls that failed while it was known, as the workers count them.
        backlog: orders that were published before it came back.
    """

    began: float
    known: float
    ended: float
    back: float
    counted: float
    backlog: set[str]


async def outage(made: Shop, mode: dict[str, Any] | None, seconds: float) -> Outage:
    """Let `charge` be away for so long: in a mode, or None for no process at all."""
    began = time.time()
    settling = 3.0
    if mode is None:
        await made.charge.gone()
    else:
        made.charge.mode(**mode)
        if mode["answer"] == "hang":
            settling = TIMEOUT + 1.0
    await asyncio.sleep(settling)

    async def told() -> bool:
        """The calls that were open have ended, and the other worker has heard of it."""
        before = await made.failed_calls()
        await asyncio.sleep(1.0)
        return await made.failed_calls() - before <= MOST_CALLS + 1

    await until(told, seconds=PATIENCE, what="the workers know that it is away")
    known, before = time.time(), await made.failed_calls()
    await asyncio.sleep(max(2.0, began + seconds - known))
    ended, counted = time.time(), await made.failed_calls() - before
    if mode is None:
        await made.charge.back()
    else:
        made.charge.mode(answer="ok")
    # The healthy one has got what was published: it is not a moment behind.
    return Outage(began, known, ended, time.time(), counted, set(made.audit.accepted()))


async def judge(made: Shop, ids: Sequence[str], away: Outage, healthy: float) -> None:
    """Wait until everything is accepted; then each figure against its bound."""
    rest = await all_accepted(made.charge, ids, PATIENCE)
    calls = made.charge.calls()
    back = [call for call in calls if call.status == 202 and call.time >= away.ended]
    first = min((call.time for call in back), default=inf) - away.back
    owed = away.backlog - {c.id for c in calls if c.status == 202 and c.time < away.ended}
    drained = max((call.time for call in back if call.id in owed), default=inf) - away.back
    most = MOST_CALLS * (away.ended - away.known) + 2
    with Figures() as figures:
        figures.at_most("lost", len(set(ids) - set(made.charge.accepted())), 0, "orders")
        lost = set(ids) - set(made.audit.accepted())
        figures.at_most("lost by the healthy one", len(lost), 0, "orders")
        figures.at_most("dead letters", len(await made.dead_letters()), 0)
        seen = between(calls, away.known, away.ended)
        figures.at_most("calls while away, in the function's log", len(seen), most)
        figures.at_most("calls while away, as the workers count", away.counted, most)
        meanwhile = rate(made.audit, away.began, away.ended)
        least = LEAST_SHARE * healthy
        figures.at_least("the healthy one's rate meanwhile", meanwhile, least, "calls/s")
        figures.at_most("first accepted call after the return", first, LONGEST_RETURN, "s")
        while_away = least * (away.ended - away.began)  # before it, there were as many as it took
        figures.at_least("backlog at the return", len(owed), while_away, "orders")
        figures.at_most("backlog accepted after the return", drained, LONGEST_DRAIN, "s")
        figures.at_most("everything accepted after the last order", rest, LONGEST_DRAIN, "s")


async def judge_poison(made: Shop, ids: Sequence[str], poison: str, healthy: float) -> None:
    """All but one is accepted, and that one is a dead letter that nobody else paid for.

    To be called when every order is published; `charge` is killed by the poison, and kept.
    """
    others = {*ids} - {poison}
    ended = time.time()
    drained = await all_accepted(made.charge, list(others), PATIENCE)

    async def buried() -> bool:
        await asyncio.sleep(0.2)
        return len(await made.dead_letters()) > 0

    with suppress(TimeoutError):
        await until(buried, seconds=PATIENCE, what="the poison is a dead letter")
    killed = [call.time for call in made.charge.calls() if call.id == poison]
    letters = await made.dead_letters()
    # What the Trigger was handed twice is a copy for each of its subscribers.
    copies = max(1, sum(c.id == poison and c.status == 202 for c in made.audit.calls()))
    with Figures() as figures:
        figures.at_most("lost", len(others - set(made.charge.accepted())), 0, "orders")
        lost = set(ids) - set(made.audit.accepted())
        figures.at_most("lost by the healthy one", len(lost), 0, "orders")
        figures.at_most("dead letters", len(letters), copies)
        # In two outages it is one of many, then its own are counted; and it may be the
        # first probe after each.
        figures.at_most("calls of the poison", len(killed), copies * 2 * (2 + RETRIES + 1))
        figures.at_least("calls of the poison", len(killed), 2)
        meanwhile = rate(made.audit, min(killed), ended)
        least = LEAST_SHARE * healthy
        figures.at_least("the healthy one's rate meanwhile", meanwhile, least, "calls/s")
        figures.at_most("everything accepted after the last order", drained, LONGEST_DRAIN, "s")
    assert {*letters} == {(poison, "RetriesExhausted")}
