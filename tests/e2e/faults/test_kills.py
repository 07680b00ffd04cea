"""kill -9 of any process at any moment loses no event and strands none (promise 1).

20,000 records go from Kafka over the bus to a function while each link of the chain
is killed again and again; half of the records match the Trigger's filter, and at the
end exactly those have arrived. How many may arrive twice is derived in `ledger`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.faults.buses import JetStream
from tests.e2e.faults.course import course
from tests.e2e.faults.dapr_jetstream import DaprJetStream
from tests.e2e.faults.dapr_kafka import DaprKafka
from tests.e2e.faults.feed import Feed
from tests.e2e.faults.killing import kill_at_random
from tests.e2e.faults.rig import Bounds, rig

RECORDS: Final = 20_000
SECONDS: Final = 90.0
TIMES: Final = {"source": 5, "trigger": 5, "bus": 5, "function": 5, "kafka": 2}
CALL: Final = 0.1
"""Seconds that the function takes: some ten calls are open at any moment."""

DAPR_RECORDS: Final = 3_000
DAPR_SECONDS: Final = 25.0
DAPR_TIMES: Final = {"source": 1, "trigger": 2, "sidecar": 3, "bus": 2, "function": 2}
DAPR_BOUNDS: Final = Bounds(concurrency=16, in_flight=32, backoff="4s")


# nats-py leaves a connection open that a frozen or dying server did not answer; the
# questions of the suite are asked of such a server.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(700)
async def test_nothing_is_lost_whatever_is_killed(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async with rig(tmp_path, JetStream(tmp_path / "bus"), delay=CALL) as made:
        feed = Feed(made.kafka.brokers, count=RECORDS, seconds=SECONDS, seed=seed)
        said = await course(made, feed, kill_at_random(made, lambda: feed.progress, TIMES, seed))
    with capsys.disabled():
        sys.stdout.write(f"\nseed {seed}, {said}\n")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(700)
@pytest.mark.parametrize("kind", [DaprJetStream, DaprKafka], ids=["jetstream", "kafka"])
async def test_nothing_is_lost_on_dapr(
    kind: type[DaprJetStream | DaprKafka],
    tmp_path: Path,
    seed: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bus = kind(tmp_path / "bus")
    async with rig(tmp_path, bus, delay=CALL, bounds=DAPR_BOUNDS) as made:
        feed = Feed(made.kafka.brokers, count=DAPR_RECORDS, seconds=DAPR_SECONDS, seed=seed)
        breaking = kill_at_random(made, lambda: feed.progress, DAPR_TIMES, seed)
        said = await course(made, feed, breaking)
    with capsys.disabled():
        sys.stdout.write(f"\nseed {seed}, {said}\n")
