"""The `dapr` source as a process of its own: one sidecar for all its lives, and a broker that
breaks, too. Used by the survival test of the sources; the rest is `dapr_source`.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.conformance.rigs import dapr_source
from tests.conformance.rigs.dapr_source import BesideSidecar, DaprRig
from tests.servers.kafka import KafkaServer

close = dapr_source.close


class OfProcess(DaprRig):
    """The worker is a process, of which the rig has the spec; its sidecar outlives it.

    `break_` takes the broker and the sidecar in turn, the broker first.
    """

    server: KafkaServer

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__(*args, **fields)
        self._breaks = itertools.cycle((True, False))

    def make(self) -> BesideSidecar:
        if not self.daprds:
            self.daprds.append(self.sidecar())
        return self.beside(self.daprds[0])

    async def break_(self) -> None:
        if next(self._breaks):
            await self.server.kill()
        else:
            await super().break_()

    async def restart(self) -> None:
        if self.server.running:
            await super().restart()
        else:
            await self.server.start()


@asynccontextmanager
async def open_process() -> AsyncIterator[OfProcess]:
    """A Kafka topic; its sidecar runs."""
    async with dapr_source.kafka("pubsub.kafka", OfProcess) as rig:
        assert isinstance(rig, OfProcess)
        rig.server = dapr_source.servers[0]
        await rig.restart()
        yield rig
