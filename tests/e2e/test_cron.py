"""Cron as processes: replicas that are killed, and clocks that are set under them."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from tests.e2e.orders import bus, write
from tests.e2e.processes import Ofevents, specs
from tests.e2e.ticks import Ticks, connect, ticks
from tests.servers import ServerMissing, until
from tests.servers.nats import NatsServer

pytestmark = pytest.mark.timeout(600)

STEP = 0.1
"""Seconds between two ticks."""
BERLIN = "Europe/Berlin"


async def test_two_replicas_emit_each_tick_once_whoever_is_killed(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "nats") as server, connect(server) as connection:
        files = write(tmp_path / "all.yaml", bus(server.url), ticks(f"@every {STEP * 1000:.0f}ms"))
        spec = (await specs(files, tmp_path / "specs"))["clock/tick0"]
        seen = Ticks(connection)
        async with (
            Ofevents(tmp_path, "source", "-f", spec, worker=True) as one,
            Ofevents(tmp_path, "source", "-f", spec, worker=True) as two,
        ):
            for worker in (one, two):
                await worker.ready()
            await seen.more(8)
            for victim, other in ((one, two), (two, one)):
                # The one that has just emitted is the one to be killed.
                before = await victim.metric("ofevents_source_published_total")

                async def emits(
                    victim: Ofevents = victim, other: Ofevents = other, before: float = before
                ) -> bool:
                    if await victim.metric("ofevents_source_published_total") > before:
                        return True
                    if len(await seen.ids()) % 8 == 0:  # the other one wins each time: let it rest
                        await other.freeze()
                        await seen.more(1)
                        other.thaw()
                    return False

                await until(emits, seconds=150, what="it has the ticks")
                await victim.kill()
                # A claim that it died with runs out in half a minute, and the time is late.
                await seen.more(4, seconds=90)
                await victim.start()
                await victim.ready()
                await seen.more(4)
        times = await seen.times()
        steps = [round((later - times[0]) / STEP) for later in times]
        assert steps == list(range(len(times))), "a tick is missing, or came twice"
        assert len(times) == len(set(await seen.ids()))


# -- clocks that are set ----------------------------------------------------------


def fake_clock(file: Path) -> dict[str, str]:
    """The environment in which a process takes its wall clock's time from that file.

    `+3600` is an hour ahead of the real one, `@2026-03-29 00:59:58` begins there. The
    monotonic clock stays real.
    """
    for folder in ("x86_64-linux-gnu", "aarch64-linux-gnu", ""):
        library = Path("/usr/lib") / folder / "faketime" / "libfaketime.so.1"
        if library.exists():
            break
    else:
        raise ServerMissing("a clock is set with libfaketime: apt-get install faketime")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "TZ": "UTC",
    }


def set_clock(file: Path, text: str) -> None:
    draft = file.with_suffix(".draft")
    draft.write_text(text + "\n")
    os.replace(draft, file)


async def test_clocks_of_two_replicas_are_set_back_and_forward(tmp_path: Path) -> None:
    clocks = [tmp_path / "clock0", tmp_path / "clock1"]
    for clock in clocks:
        set_clock(clock, "+0")
    async with NatsServer(tmp_path / "nats") as server, connect(server) as connection:
        files = write(tmp_path / "all.yaml", bus(server.url), ticks(f"@every {STEP * 1000:.0f}ms"))
        spec = (await specs(files, tmp_path / "specs"))["clock/tick0"]
        seen = Ticks(connection)
        async with (
            Ofevents(tmp_path, "source", "-f", spec, worker=True, **fake_clock(clocks[0])) as one,
            Ofevents(tmp_path, "source", "-f", spec, worker=True, **fake_clock(clocks[1])) as two,
        ):
            for worker in (one, two):
                await worker.ready()
            await seen.more(8)
            set_clock(clocks[0], "+3")  # they differ
            await seen.more(16)
            set_clock(clocks[0], "-3")  # and the other way round
            await seen.more(16)
            for clock in clocks:
                set_clock(clock, "+7200")
            await seen.more(16)
        # Whose clock is set forward takes a tick over that the other one is emitting: the bus
        # may have the later one first.
        times = sorted(await seen.times())
        assert len(times) == len(set(times)), "a tick came twice"
        gaps = [(a, b) for a, b in pairwise(times) if round(b - a, 3) != STEP]
        # Two hours are missed, but for the last minute, which counts as late, and for the
        # time from the last tick before to the look that sees the new clock.
        assert len(gaps) == 1, gaps
        assert 7200 - 75 < gaps[0][1] - gaps[0][0] < 7200 - 20


async def test_daylight_saving_in_a_process(tmp_path: Path) -> None:
    """Half past two in Berlin: at the end of the missing hour, and in the first of the two."""
    clock = tmp_path / "clock"
    # At the first one it learns where it begins, at each other one a half hour is just over.
    begins = [
        "2026-03-29 00:50:00",
        "2026-03-29 01:00:01",
        "2026-10-25 00:30:01",
        "2026-10-25 01:30:01",
    ]
    async with NatsServer(tmp_path / "nats") as server, connect(server) as connection:
        schedules = ticks("30 2 * * *", "*/30 * * * *", timezone=BERLIN)
        files = write(tmp_path / "all.yaml", bus(server.url), schedules)
        made = await specs(files, tmp_path / "specs")
        wanted, beside = Ticks(connection), Ticks(connection, "tick1")
        for number, begin in enumerate(begins):
            set_clock(clock, f"@{begin}")
            environment = fake_clock(clock)
            async with (
                Ofevents(
                    tmp_path, "source", "-f", made["clock/tick0"], worker=True, **environment
                ) as one,
                Ofevents(
                    tmp_path, "source", "-f", made["clock/tick1"], worker=True, **environment
                ) as two,
            ):
                await one.ready()
                await two.ready()

                async def emitted(number: int = number) -> bool:
                    there = len(await wanted.ids()) >= min(number, 2)
                    return there and len(await beside.ids()) >= number

                await until(emitted, seconds=60, what=f"the half hour before {begin}")
        half_hours = ["2026-03-29T01:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"]
        assert await beside.ids() == half_hours

        assert await wanted.ids() == half_hours[:2]
