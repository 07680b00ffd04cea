"""Cron survives: a worker killed, and one frozen, each with a tick in hand on a full bus.

The part of `test_sources_survive` whose world is the time.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

import pytest

from ofevents.errors import BusFull
from ofevents.event import Event
from ofevents.ports import Bus, Consumer, Message
from ofevents_adapters.cron_turns import CLAIM
from tests.e2e.orders import bus, write
from tests.e2e.processes import Ofevents, specs
from tests.e2e.survival import full, in_hand
from tests.e2e.ticks import Ticks, connect, ticks
from tests.servers import until
from tests.servers.nats import NatsServer

TAKEN_OVER = CLAIM + 25
"""Seconds within which another worker emits the tick that a dead one had claimed."""


async def fill(connection: Bus, topic: str) -> None:
    """Until there is no room for anything."""
    for size in (50_000, 1000, 1):
        for number in itertools.count():
            event = Event.create(
                id=f"{size}-{number}", source="/filler", type="filler", data=b"x" * size
            )
            try:
                await connection.publish(topic, Message(event, writer="filler"))
            except BusFull:
                break


@pytest.mark.timeout(500)
async def test_a_worker_dies_or_stands_still_with_a_tick_in_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bus is full, so that both schedules have a tick in emit: of `tick0` the only worker
    is killed, of `tick1` the one of two that has it is frozen, and goes on at the end."""
    step = 0.5
    filler = "event.default.clock.filler"
    async with (
        NatsServer(tmp_path / "nats") as server,
        connect(server, max_bytes=2**20) as connection,
    ):
        ours = [Ticks(connection, "tick0"), Ticks(connection, "tick1")]
        # Nobody settles them: what is settled would go where room is wanted.
        names = (*(one.topic for one in ours), filler)
        await connection.ensure(names, [Consumer("nobody", names, "earliest")])
        every = f"@every {step * 1000:.0f}ms"
        schedules = ticks(every, every, missedRuns="all")
        made = await specs(
            write(tmp_path / "all.yaml", bus(server.url, maxBytes="1Mi"), schedules),
            tmp_path / "specs",
        )
        alone, *pair = (
            Ofevents(tmp_path, "source", "-f", made[f"clock/tick{n}"], worker=True)
            for n in (0, 1, 1)
        )
        async with alone, pair[0], pair[1]:
            for worker in (alone, *pair):
                await worker.ready()
            for one in ours:
                await one.more(3)
            await fill(connection, filler)

            async def held() -> bool:
                hands = [await in_hand(worker) for worker in (alone, *pair)]
                return hands[0] == sum(hands[1:]) == 1

            await until(held, seconds=60, what="each schedule has a tick in emit")
            most = max([await full(worker) for worker in (alone, *pair)])
            frozen = max([(await in_hand(worker), n) for n, worker in enumerate(pair)])[1]
            await pair[frozen].freeze()
            await alone.kill()
            before = [len(await one.ids()) for one in ours]
            await connection.remove(topics=[filler])
            began = time.monotonic()
            await alone.start()
            waited = [0.0, 0.0]

            async def go_on() -> bool:
                for n, one in enumerate(ours):
                    if not waited[n] and len(await one.ids()) > before[n]:
                        waited[n] = time.monotonic() - began
                return all(waited)

            await until(go_on, seconds=TAKEN_OVER, what="both schedules go on")
            pair[frozen].thaw()

            async def let_go() -> bool:
                return await in_hand(pair[frozen]) == 0

            await until(let_go, seconds=90, what="the frozen one has emitted its tick, too")
            now = time.time()
            for one in ours:
                await one.later_than(now)
        missed, twice = 0, 0
        for one in ours:
            times = await one.times()
            steps = {round((later - times[0]) / step) for later in times}
            twice += len(times) - len(steps)
            missed += max(steps) + 1 - len(steps)
    with capsys.disabled():
        sys.stdout.write(
            f"\ncron: {missed} ticks missed, {twice} twice (at most 0); {most} in emit on a full "
            f"bus (at most 1); on after {waited[0]:.1f} s where the worker was killed, after "
            f"{waited[1]:.1f} s where it was frozen (at most {TAKEN_OVER:.0f})\n"
        )
    assert (missed, twice, most) == (0, 0, 1)
    assert max(waited) <= TAKEN_OVER
