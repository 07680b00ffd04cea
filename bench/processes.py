"""Child processes of the benchmarks, with the CPU time and memory they used.

A process is stopped by its pid after its figures were read, so start-up counts.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(slots=True)
class Measured:
    """A running child; `cpu` in seconds (user + system), `rss` in MB, since its start."""

    name: str
    process: psutil.Process

    @property
    def cpu(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system

    @property
    def rss(self) -> float:
        return self.process.memory_info().rss / 1e6


@asynccontextmanager
async def child(
    name: str, arguments: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None
) -> AsyncIterator[Measured]:
    """Run `python ARGUMENTS` until the block ends; its output goes to `log`.

    `env` is set beside what is in the environment.
    """
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdout=output,
            stderr=output,
            env={**os.environ, **(env or {})},
        )
    try:
        yield Measured(name, psutil.Process(process.pid))
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(10):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def ofevents(*arguments: str) -> list[str]:
    """The command line of ofevents, run by this interpreter."""
    return ["-c", "from ofevents.cli import main; main()", *arguments]
