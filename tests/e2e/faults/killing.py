"""kill -9 at random moments, each with proof that there was something to lose.

Each kind of part has a task of its own, so that kills overlap as they do in life. A
kind's moments are drawn one from each equal piece of the run, and a part is killed
right after the broker beside it has said that it owes events: only such kills are
made, so all of them count. It is started again after a short random while, and has
to become ready before it is killed again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.e2e.faults.rig import BACK, Part, Rig
from tests.servers import until

SPAN: Final = (0.04, 0.85)
"""The part of the run in which something breaks: there is work before and after."""
DOWN: Final = (0.05, 1.0)
"""Seconds until a part is started again: from, to."""
_DAY: Final = 86400.0

Progress = Callable[[], float]
"""How far the run is, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to a part.

    Attributes:
        what: `kill`, `freeze`, `full`, `jump`.
        kind: of the part.
        since: Unix time at which it began, ...
        until: ... and at which it had its effect; the same for a kill.
        owed: unsettled events at that moment, as the broker beside the part said.
        back: Unix time at which the part was whole again; 0 where nobody has to know.
    """

    what: str
    kind: str
    since: float
    until: float
    owed: int = 0
    back: float = 0.0


async def kill_at_random(
    rig: Rig, progress: Progress, times: Mapping[str, int], seed: int
) -> list[Fault]:
    """Kill each kind of part so many times in the course of the run.

    Raises:
        TimeoutError: a part had no work in hand for too long, or did not come back.
    """
    kills: list[Fault] = []
    async with asyncio.TaskGroup() as tasks:
        for kind, count in times.items():
            drawn = random.Random(f"{seed} kill {kind}")
            parts = [part for part in rig.parts if part.kind == kind]
            tasks.create_task(_kill(parts, progress, count, drawn, kills))
    return kills


async def _kill(
    parts: list[Part], progress: Progress, count: int, drawn: random.Random, kills: list[Fault]
) -> None:
    for moment in moments(count, drawn):
        await reached(progress, moment)
        part = drawn.choice(parts)
        async with part.alone:
            owed = await in_hand(part)
            at = time.time()
            await part.kill()
            await asyncio.sleep(drawn.uniform(*DOWN))
            await part.start()
            kills.append(Fault("kill", part.kind, at, at, owed, time.time()))


def moments(count: int, drawn: random.Random) -> list[float]:
    """One from each of so many equal pieces of the run, in order."""
    first, last = SPAN
    piece = (last - first) / count if count else 0.0
    return [first + piece * (number + drawn.random()) for number in range(count)]


async def reached(progress: Progress, moment: float) -> None:
    """Return when the run is so far."""
    await until(lambda: progress() >= moment, seconds=_DAY, what=f"{moment:.0%} of the run")


async def in_hand(part: Part) -> int:
    """What is owed there, once it is something; a broker may be down just now."""
    owed = 0

    async def something() -> bool:
        nonlocal owed
        owed = await part.owed()
        return owed > 0

    await until(something, seconds=BACK, what=f"the {part.kind} has work in hand")
    return owed
