"""Dapr on pubsub.in-memory and state.in-memory: one sidecar, and what is lost with it.

The component keeps nothing for a group that nobody consumes, and has no groups: what
the suite asks of such a bus is its store, and what is published while it is consumed.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from dapr.proto.runtime.v1 import dapr_pb2_grpc, pubsub_pb2

from ofevents.api.resolved import ResolvedBus
from ofevents.bus.dapr import DaprBus
from ofevents.bus.dapr_components import Names
from ofevents.bus.dapr_options import read_options
from ofevents.clock import SystemClock
from tests.conformance.rigs.dapr import DaprRig


class MemoryRig(DaprRig):
    """All connections use one sidecar, as its memory is the broker."""

    def make(self, **options: Any) -> Any:
        if not self.running:
            return super().make(**options)
        (daprd,) = self.running
        given = {
            "sidecar": daprd.address,
            "resources": str(daprd.resources),
            "ack_wait": self.ack_wait,
            **self.options,
            **options,
        }
        return DaprBus(ResolvedBus(driver="dapr", options=given), clock=SystemClock())


@asynccontextmanager
async def open_rig() -> AsyncIterator[DaprRig]:
    with tempfile.TemporaryDirectory() as name:

        async def foreign(topic: str, headers: dict[str, str], body: bytes) -> None:
            names = Names(read_options(rig.options), "default")
            async with grpc.aio.insecure_channel(rig.running[0].address) as channel:
                await dapr_pb2_grpc.DaprStub(channel).PublishEvent(  # type: ignore[no-untyped-call]
                    pubsub_pb2.PublishEventRequest(
                        pubsub_name=names.pubsub,
                        topic=names.topic(topic),
                        data=body,
                        metadata={"rawPayload": "true"},
                    )
                )

        rig = MemoryRig(
            Path(name), ("pubsub.in-memory", {}), ("state.in-memory", {}), foreign, ack_wait=8.0
        )
        rig.breakable = False
        yield rig
