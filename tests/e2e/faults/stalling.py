"""What else happens to a machine: processes that stand still, a full disk, a wrong clock.

Beside `killing`, in the soak. As there, each kind of fault has a task of its own, and
what is broken is held until it is whole again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Final

from tests.e2e.faults.killing import Fault, Progress, in_hand, moments, reached
from tests.e2e.faults.rig import Part, Rig
from tests.servers.disk import SmallDisk
from tests.servers.faketime import FakeClock

FROZEN: Final = {"source": (0.5, 10.0), "trigger": (0.5, 40.0), "bus": (0.5, 10.0)}
"""Seconds from SIGSTOP to SIGCONT: from, to. The ack wait of 30 s passes over a Trigger's
worker at times; the bus is back before what it had handed out is overdue."""
FULL: Final = (2.0, 6.0)
"""Seconds that no byte is free."""
JUMP: Final = 45.0
"""Most seconds that a worker's wall clock is wrong. What it puts into the inbox may be due
so much later: less than the run waits for at its end."""


async def freeze_at_random(rig: Rig, progress: Progress, times: int, seed: int) -> list[Fault]:
    """SIGSTOP and SIGCONT of the source, the Trigger's workers and the bus."""
    found: list[Fault] = []
    async with asyncio.TaskGroup() as tasks:
        for kind in FROZEN:
            drawn = random.Random(f"{seed} freeze {kind}")
            parts = [part for part in rig.parts if part.kind == kind]
            tasks.create_task(_freeze(parts, progress, times, drawn, found))
    return found


async def _freeze(
    parts: Sequence[Part], progress: Progress, times: int, drawn: random.Random, found: list[Fault]
) -> None:
    for moment in moments(times, drawn):
        await reached(progress, moment)
        part = drawn.choice(parts)
        async with part.alone:
            owed, since = await in_hand(part), time.time()
            await part.freeze()
            try:
                await asyncio.sleep(drawn.uniform(*FROZEN[part.kind]))
            finally:
                part.thaw()
            found.append(Fault("freeze", part.kind, since, time.time(), owed))


async def fill_at_random(
    rig: Rig, disk: SmallDisk, progress: Progress, times: int, seed: int
) -> list[Fault]:
    """Fill the bus's disk, make room again, and start the bus anew.

    A server that cannot write takes no more messages, and some stay so until they are
    started again: so does whoever runs it.
    """
    [part] = [part for part in rig.parts if part.kind == "bus"]
    drawn, found = random.Random(f"{seed} full"), list[Fault]()
    for moment in moments(times, drawn):
        await reached(progress, moment)
        async with part.alone:
            owed, since = await in_hand(part), time.time()
            disk.fill()
            try:
                await asyncio.sleep(drawn.uniform(*FULL))
            finally:
                disk.free()
            at = time.time()
            await part.kill()
            await part.start()
            found.append(Fault("full", part.kind, since, at, owed))
    return found


async def jump_at_random(
    clocks: Sequence[FakeClock], progress: Progress, times: int, seed: int
) -> list[Fault]:
    """Set one worker's wall clock to another time, there and back; at last, all are right."""
    drawn, found = random.Random(f"{seed} jump"), list[Fault]()
    for moment in moments(times, drawn):
        await reached(progress, moment)
        since = time.time()
        drawn.choice(clocks).jump(drawn.uniform(-JUMP, JUMP))
        found.append(Fault("jump", "clock", since, since))
    for clock in clocks:
        clock.jump(0)
    return found
