"""A worker in a process of its own, to be killed while its emit is not done.

    async with doomed("mqtt", IDENTITY, document) as worker:
        await worker.offered(5)
        worker.kill()

It emits into nothing: each event's id is written to its standard output, and emit
never returns, so whatever it was handed has to come again. `line_of` reads any worker's.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ofevents import registry
from ofevents.api.eventsource import SPECS
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.ports import Reply, SourceIdentity

PATIENCE = 60.0
"""Seconds that anything may take, the start of Python among it."""


async def line_of(output: asyncio.StreamReader) -> bytes:
    """The next one of a worker that has to start, and wait for the end of the last one's lease."""
    async with asyncio.timeout(PATIENCE):
        line = await output.readline()
    assert line, "the worker has ended"
    return line


class Doomed:
    """The process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def offered(self, count: int) -> list[str]:
        """The ids of the next events that came to emit."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            lines = [await self._process.stdout.readline() for _ in range(count)]
        return [line.decode().strip() for line in lines]

    async def kill(self) -> None:
        """As `kill -9` does; returns when it is gone."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()


@asynccontextmanager
async def doomed(kind: str, identity: SourceIdentity, document: Any) -> AsyncIterator[Doomed]:
    """A worker of that source and spec."""
    names = (identity.namespace, identity.name, identity.kind, identity.entry)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, kind, json.dumps(document), *names),
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    worker = Doomed(process)
    try:
        yield worker
    finally:
        await worker.kill()


async def main(kind: str, document: str, *names: str) -> None:
    spec = SPECS[kind].model_validate(json.loads(document))
    source = registry.load("ofevents.sources", kind)(
        spec, SourceIdentity(*names), clock=SystemClock()
    )

    async def emit(*events: Event) -> Reply | None:
        for event in events:
            sys.stdout.write(f"{event.id}\n")
        sys.stdout.flush()
        return await asyncio.get_running_loop().create_future()  # never

    store = MemoryStore(Broker(max_bytes=1_000_000, window=60), SystemClock())
    await source.run(emit, store=store, started=lambda address: None)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
