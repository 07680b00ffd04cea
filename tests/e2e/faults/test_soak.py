"""`make soak`: the chain for half an hour at five times the rate, and more that breaks.

Kills go on as in `test_kills`, at their pace by the clock; beside them processes stand
still, the bus's disk fills up, and the workers' wall clocks are wrong. What the machine
does not allow (mounting, libfaketime) is left out and said, or with `--require-servers`
a failure. `--soak-minutes 2` tries it out.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.faults.buses import JetStream
from tests.e2e.faults.course import course
from tests.e2e.faults.feed import Feed
from tests.e2e.faults.killing import SPAN, Fault, kill_at_random
from tests.e2e.faults.rig import TRIGGERS, Bounds, rig
from tests.e2e.faults.stalling import fill_at_random, freeze_at_random, jump_at_random
from tests.servers import ServerMissing
from tests.servers.disk import SmallDisk
from tests.servers.faketime import FakeClock

RATE: Final = 1000
"""Records a second: five times that of the kill test."""
CALL: Final = 0.02
BOUNDS: Final = Bounds(concurrency=32, in_flight=256)
EVERY: Final = {"source": 25, "trigger": 25, "bus": 25, "function": 25, "kafka": 60}
"""Seconds of the run for each kill of a kind."""
FREEZE_EVERY: Final = 50
FULL_EVERY: Final = 100
JUMP_EVERY: Final = 15
DISK: Final = "384m"
MAX_BYTES: Final = "64Mi"
"""Of events; with the share of the inboxes and dead letters it leaves the disk room."""


# nats-py leaves a connection open that a frozen or dying server did not answer; the
# questions of the suite are asked of such a server.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.soak
@pytest.mark.timeout(0)  # as long as it was told
async def test_a_long_run_under_every_fault(
    tmp_path: Path, seed: int, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = request.config.getoption("--soak-minutes") * 60.0
    broken = seconds * (SPAN[1] - SPAN[0])
    missing: list[str] = []
    with ExitStack() as stack:
        disk, clocks = None, []
        try:
            disk = stack.enter_context(SmallDisk(tmp_path / "bus", DISK))
        except ServerMissing as error:
            missing.append(str(error))
        try:
            clocks = [FakeClock(tmp_path / f"clock{number}") for number in range(TRIGGERS)]
        except ServerMissing as error:
            missing.append(str(error))
        if missing and request.config.getoption("--require-servers"):
            raise ServerMissing("; ".join(missing))
        bus = JetStream(tmp_path / "bus", max_bytes=MAX_BYTES)
        async with rig(tmp_path, bus, delay=CALL, bounds=BOUNDS, clocks=clocks) as made:
            feed = Feed(made.kafka.brokers, count=int(RATE * seconds), seconds=seconds, seed=seed)

            async def breaking() -> list[Fault]:
                def progress() -> float:
                    return feed.progress

                kills = {kind: round(broken / every) for kind, every in EVERY.items()}
                freezes = round(broken / FREEZE_EVERY)
                async with asyncio.TaskGroup() as tasks:
                    found = [
                        tasks.create_task(kill_at_random(made, progress, kills, seed)),
                        tasks.create_task(freeze_at_random(made, progress, freezes, seed)),
                    ]
                    if disk is not None:
                        fills = round(broken / FULL_EVERY)
                        filling = fill_at_random(made, disk, progress, fills, seed)
                        found.append(tasks.create_task(filling))
                    if clocks:
                        jumps = round(broken / JUMP_EVERY)
                        jumping = jump_at_random(clocks, progress, jumps, seed)
                        found.append(tasks.create_task(jumping))
                return [fault for one in found for fault in one.result()]

            said = await course(made, feed, breaking())
    left_out = f"; left out: {'; '.join(missing)}" if missing else ""
    with capsys.disabled():
        sys.stdout.write(f"\nseed {seed}, {said}{left_out}\n")
