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
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.faults.away import (
    MODES,
    PATIENCE,
    all_accepted,
    judge,
    judge_poison,
    numbered,
    outage,
    rate,
    shop,
)
from tests.e2e.faults.figures import Figures
from tests.e2e.faults.orders import pace

pytestmark = pytest.mark.timeout(600)

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
            figures.at_least("control: rate", measured, 0.6 * PER_SECOND, "calls/s")
            figures.at_most("control: everything accepted after the last order", drained, 20, "s")
        return min(PER_SECOND, measured)  # it may have caught up with the start of the run


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
    poison = ids[COUNT // 4]
    async with shop(tmp_path, keep=True) as made:
        made.charge.mode(poison=poison)
        published = await pace(made.bus, ids, PER_SECOND)
        await judge_poison(made, ids, poison, min(healthy, published))
