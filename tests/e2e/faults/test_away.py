"""A function that is away (promise 6): nothing is lost, nobody is hammered, nobody else waits.

Two workers of one Trigger with two subscribers, both functions in processes of their
own: `charge` is away for a while, `audit` is healthy. 16,000 orders are published at a
steady pace, 800 a second and so well below what the workers can take on two cores:
then a healthy subscriber's rate is the pace, and what it falls short of that is what
its neighbour costs it, not what the machine can do. It is compared with a control run
of the same load in which nobody is away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ofevents.ports import Bus, Delivery
from tests.e2e.faults.figures import Figures
from tests.e2e.faults.orders import DEAD, bus_at, checkout, pace
from tests.e2e.processes import Ofevents, get
from tests.servers import until
from tests.servers.function import Call, Function
from tests.servers.nats import NatsServer

pytestmark = pytest.mark.timeout(200)

COUNT = 16_000
PER_SECOND = 800.0
AWAY_AT = 5.0
"""Seconds after the first order; by then every worker has called both functions."""
AWAY_FOR = 9.0
TIMEOUT = 2.0
RETRIES = 3
DELIVERY = f"{{timeout: {TIMEOUT:g}s, retries: {RETRIES}, backoff: 500ms, maxBackoff: 2s}}"
"""Used up within about 2 s: an outage that counted against them would cost every event."""
MOST_CALLS = 2.0
"""Per second, in all workers together, while it is away; and so many more at the edges."""
LEAST_SHARE = 0.8
LONGEST_RETURN = 5.0
LONGEST_DRAIN = 20.0
PATIENCE = 40.0
"""Seconds that the test waits for what should take LONGEST_DRAIN, to say how much is missing."""


@dataclass(frozen=True, slots=True)
class Shop:
    """What runs."""

    bus: Bus
    charge: Function
    audit: Function
    workers: tuple[Ofevents, Ofevents]

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

    async def dead_letters(self) -> list[tuple[str, str]]:
        """Event id and reason of each."""
        found = []
        async for letter in self.bus.browse([DEAD]):
            assert isinstance(letter.body, Delivery)
            found.append((letter.body.events[-1].id, letter.headers["ofe-dead-reason"]))
        return found


@asynccontextmanager
async def shop(folder: Path, *, keep: bool = False) -> AsyncIterator[Shop]:
    """A bus, two functions, two workers, all ready; `keep` as in `Function`."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(NatsServer(folder / "nats"))
        charge = await stack.enter_async_context(Function(folder / "charge", keep=keep))
        audit = await stack.enter_async_context(Function(folder / "audit"))
        bus = await stack.enter_async_context(bus_at(server.url))
        spec = await checkout(
            folder,
            server.url,
            f"{{name: charge, sink: {{uri: '{charge.url}'}}, delivery: {DELIVERY}}}",
            f"{{name: audit, sink: {{uri: '{audit.url}'}}, delivery: {DELIVERY}}}",
        )
        one, two = [
            await stack.enter_async_context(Ofevents(folder, "trigger", "-f", spec, worker=True))
            for _ in range(2)
        ]
        for worker in (one, two):
            await worker.ready()
        yield Shop(bus, charge, audit, (one, two))


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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def healthy(tmp_path_factory: pytest.TempPathFactory) -> float:
    """The control: calls per second that `audit` accepts while nobody is away."""
    async with shop(tmp_path_factory.mktemp("control")) as made:
        ids = numbered(COUNT)
        async with asyncio.TaskGroup() as group:
            group.create_task(pace(made.bus, ids, PER_SECOND))
            await asyncio.sleep(AWAY_AT)
            began = time.time()
            await asyncio.sleep(AWAY_FOR)
            ended = time.time()
        drained = await all_accepted(made.charge, ids, PATIENCE)
        measured = rate(made.audit, began, ended)
        with Figures() as figures:
            # Otherwise it would be the machine that is measured.
            figures.at_least("control: rate", measured, 0.95 * PER_SECOND, "calls/s")
            figures.at_most("control: everything accepted after the last order", drained, 5, "s")
        return measured


@dataclass(frozen=True, slots=True)
class Outage:
    """It was away from `began` to `ended` (Unix seconds), and this was known from `known` on.

    Attributes:
        counted: calls that failed while it was known, as the workers count them.
        backlog: orders that were published before it came back.
    """

    began: float
    known: float
    ended: float
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
    known, before = time.time(), await made.failed_calls()
    await asyncio.sleep(seconds - settling)
    ended, counted = time.time(), await made.failed_calls() - before
    if mode is None:
        await made.charge.back()
        ended = time.time()
    else:
        made.charge.mode(answer="ok")
    # The healthy one has got what was published: it is not a moment behind.
    return Outage(began, known, ended, counted, set(made.audit.accepted()))


async def judge(made: Shop, ids: Sequence[str], away: Outage, healthy: float) -> None:
    """Wait until everything is accepted; then each figure against its bound."""
    rest = await all_accepted(made.charge, ids, PATIENCE)
    calls = made.charge.calls()
    back = [call for call in calls if call.status == 202 and call.time >= away.ended]
    first = min((call.time for call in back), default=inf) - away.ended
    owed = away.backlog - {c.id for c in calls if c.status == 202 and c.time < away.ended}
    drained = max((call.time for call in back if call.id in owed), default=inf) - away.ended
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
        figures.at_least("backlog at the return", len(owed), 0.5 * len(away.backlog), "orders")
        figures.at_most("backlog accepted after the return", drained, LONGEST_DRAIN, "s")
        figures.at_most("everything accepted after the last order", rest, LONGEST_DRAIN, "s")


MODES: dict[str, dict[str, Any] | None] = {
    "500": {"answer": "500"},
    "502": {"answer": "502"},
    "503": {"answer": "503"},
    "504": {"answer": "504"},
    "drop": {"answer": "drop"},
    "hang": {"answer": "hang"},
    "gone": None,
}


@pytest.mark.parametrize("name", MODES)
async def test_away_for_a_while(name: str, tmp_path: Path, healthy: float) -> None:
    ids = numbered(COUNT)
    async with shop(tmp_path) as made:
        async with asyncio.TaskGroup() as group:
            group.create_task(pace(made.bus, ids, PER_SECOND))
            await asyncio.sleep(AWAY_AT)
            away = await outage(made, MODES[name], AWAY_FOR)
        await judge(made, ids, away, healthy)


async def test_gone_for_a_minute(tmp_path: Path, healthy: float) -> None:
    """As many orders at a slower pace: the same share of the control's rate is asked for."""
    slower = COUNT / 66
    ids = numbered(COUNT)
    async with shop(tmp_path) as made:
        async with asyncio.TaskGroup() as group:
            group.create_task(pace(made.bus, ids, slower))
            await asyncio.sleep(3)
            away = await outage(made, None, 60)
        await judge(made, ids, away, healthy * slower / PER_SECOND)


async def test_an_event_that_kills_the_function(tmp_path: Path, healthy: float) -> None:
    """It uses up its own retries, and those of nobody that was in hand with it."""
    ids = numbered(COUNT)
    poison, others = ids[COUNT // 4], {*ids[: COUNT // 4], *ids[COUNT // 4 + 1 :]}
    async with shop(tmp_path, keep=True) as made:
        made.charge.mode(poison=poison)
        await pace(made.bus, ids, PER_SECOND)
        ended = time.time()
        drained = await all_accepted(made.charge, list(others), PATIENCE)

        async def buried() -> bool:
            await asyncio.sleep(0.2)
            return len(await made.dead_letters()) > 0

        with suppress(TimeoutError):
            await until(buried, seconds=PATIENCE, what="the poison is a dead letter")
        killed = [call.time for call in made.charge.calls() if call.id == poison]
        letters = await made.dead_letters()
        with Figures() as figures:
            figures.at_most("lost", len(others - set(made.charge.accepted())), 0, "orders")
            lost = set(ids) - set(made.audit.accepted())
            figures.at_most("lost by the healthy one", len(lost), 0, "orders")
            figures.at_most("dead letters", len(letters), 1)
            # In two outages it is one of many, then its own are counted; and it may be the
            # first probe after each.
            figures.at_most("calls of the poison", len(killed), 2 * (2 + RETRIES + 1))
            figures.at_least("calls of the poison", len(killed), 2)
            meanwhile = rate(made.audit, min(killed), ended)
            least = LEAST_SHARE * healthy
            figures.at_least("the healthy one's rate meanwhile", meanwhile, least, "calls/s")
            figures.at_most("everything accepted after the last order", drained, LONGEST_DRAIN, "s")
        assert letters == [(poison, "RetriesExhausted")]
