"""A function that is away (promise 6), on Dapr's buses: as `test_away`, at a smaller pace.

Its healthy neighbour's rate is compared with what it was in the same run, before the
outage: the pace is far below what a lane of Dapr can carry.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from ofevents.bus import topics
from tests.e2e.faults.away import MODES, judge, judge_poison, numbered, outage, rate, shop
from tests.e2e.faults.dapr_buses import Chain
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


@pytest.mark.parametrize(("kind", "mode"), [(DaprJetStream, "500"), (DaprKafka, "gone")])
async def test_away_for_a_while(
    kind: type[DaprJetStream | DaprKafka], mode: str, tmp_path: Path
) -> None:
    ids = numbered(COUNT)
    async with shop(tmp_path, kind(tmp_path / "bus", SHOP)) as made:
        async with asyncio.TaskGroup() as group:
            group.create_task(pace(made.bus, ids, PER_SECOND))
            await asyncio.sleep(AWAY_AT / 2)
            began = time.time()
            await asyncio.sleep(AWAY_AT / 2)
            # No more than the pace: it may have caught up with the start of the run.
            healthy = min(PER_SECOND, rate(made.audit, began, time.time()))
            away = await outage(made, MODES[mode], AWAY_FOR)
        await judge(made, ids, away, healthy)


@pytest.mark.parametrize("kind", [DaprJetStream, DaprKafka], ids=["jetstream", "kafka"])
async def test_an_event_that_kills_the_function(
    kind: type[DaprJetStream | DaprKafka], tmp_path: Path
) -> None:
    ids = numbered(COUNT)
    poison = ids[COUNT // 16]
    async with shop(tmp_path, kind(tmp_path / "bus", SHOP), keep=True) as made:
        made.charge.mode(poison=poison)
        await pace(made.bus, ids, PER_SECOND)
        await judge_poison(made, ids, poison, PER_SECOND)
