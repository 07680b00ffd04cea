"""A function that is away (promise 6), on Dapr's buses: as `test_away`, at a smaller pace.

Its healthy neighbour's rate is compared with what it was in the same run, before the
outage: the pace is far below what a lane of Dapr can carry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ofevents.bus import topics
from tests.e2e.faults.away import MODES, judge, judge_poison, numbered, outage, rate, shop
from tests.e2e.faults.dapr_buses import Chain, DaprBus
from tests.e2e.faults.dapr_jetstream import DaprJetStream
from tests.e2e.faults.dapr_kafka import DaprKafka
from tests.e2e.faults.orders import DEAD, GROUP, ORDERS, pace

pytestmark = pytest.mark.timeout(500)

COUNT = 2_100
PER_SECOND = 150.0
AWAY_AT = 4.0
AWAY_FOR = 8.0
SHOP = Chain(
    ORDERS,
    GROUP,
    tuple(topics.inbox("default", "checkout", name) for name in ("charge", "audit")),
    (DEAD,),
)


def jetstream(folder: Path) -> DaprBus:
    return DaprJetStream(folder, SHOP)


def kafka(folder: Path) -> DaprBus:
    """No worker goes here: one that a busy machine silences for a while is waited for."""
    return DaprKafka(folder, SHOP, session=30)


@pytest.mark.parametrize(("on", "mode"), [(jetstream, "500"), (kafka, "gone")])
async def test_away_for_a_while(on: Callable[[Path], DaprBus], mode: str, tmp_path: Path) -> None:
    ids = numbered(COUNT)
    async with shop(tmp_path, on(tmp_path / "bus")) as made:
        async with asyncio.TaskGroup() as group:
            group.create_task(pace(made.bus, ids, PER_SECOND))
            await asyncio.sleep(AWAY_AT / 2)
            began = time.time()
            await asyncio.sleep(AWAY_AT / 2)
            # No more than the pace: it may have caught up with the start of the run.
            healthy = min(PER_SECOND, rate(made.audit, began, time.time()))
            away = await outage(made, MODES[mode], AWAY_FOR)
        await judge(made, ids, away, healthy)


@pytest.mark.parametrize("on", [jetstream, kafka])
async def test_an_event_that_kills_the_function(
    on: Callable[[Path], DaprBus], tmp_path: Path
) -> None:
    ids = numbered(COUNT)
    poison = ids[COUNT // 16]
    async with shop(tmp_path, on(tmp_path / "bus"), keep=True) as made:
        made.charge.mode(poison=poison)
        # Its sidecar may be behind the pace.
        published = await pace(made.bus, ids, PER_SECOND)
        await judge_poison(made, ids, poison, published)
