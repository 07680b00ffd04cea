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
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.faults.away import (
    LEAST_SHARE,
    LONGEST_DRAIN,
    MODES,
    PATIENCE,
    RETRIES,
    all_accepted,
    judge,
    numbered,
    outage,
    rate,
    shop,
)
from tests.e2e.faults.figures import Figures
from tests.e2e.faults.orders import pace
from tests.servers import until

pytestmark = pytest.mark.timeout(200)

COUNT = 16_000
PER_SECOND = 800.0
AWAY_AT = 5.0
"""Seconds after the first order; by then every worker has called both functions."""
AWAY_FOR = 9.0


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
