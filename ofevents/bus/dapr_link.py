"""The connection to the sidecar: one gRPC channel, watched.

The driver's other modules call Dapr through `stub`. gRPC reconnects by itself, for as
long as it takes; this module knows whether the sidecar answers, says why not, and
waits for it. A sidecar that is up but has not loaded the bus's component counts as
away: nothing can be published on it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
from dapr.proto.runtime.v1 import metadata_pb2

from ofevents.bus.dapr_options import DaprOptions
from ofevents.clock import Clock
from ofevents.errors import Disconnected
from ofevents.sidecar import ANSWER, READY, connect, token
from ofevents.telemetry import Log

_LOOK_EVERY: Final = 0.1


class Link:
    """See the module. `stub` may be used once it is open; each call gets `metadata`."""

    def __init__(self, options: DaprOptions, component: str, clock: Clock, name: str) -> None:
        self.address = options.sidecar or ""
        self.why = f"the Dapr sidecar at {options.sidecar} does not answer"
        self.stub: Any = None
        self.metadata = token()
        self.looks_after_app = False
        self.capabilities: dict[str, frozenset[str]] = {}
        self._component = component
        self._clock = clock
        self._log = Log(bus=name)
        self._channel: Any = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, waiting as long as it takes."""
        self._channel, self.stub = connect(self.address)
        self._keeper = asyncio.create_task(self._keep(), name="bus: sidecar")
        try:
            await self.ready()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()
        self.why = "closed"
        self._up.clear()

    async def ready(self, within: float | None = None) -> None:
        """Wait for the sidecar.

        Raises:
            Disconnected: not within that many seconds.
        """
        try:
            async with asyncio.timeout(within):
                await self._up.wait()
        except TimeoutError:
            raise Disconnected(self.why or "the sidecar does not answer") from None

    async def components(self) -> frozenset[str]:
        """Names of what the sidecar has loaded: components, and `topic@component` for
        each subscription.

        Raises:
            Disconnected: it does not answer.
        """
        try:
            found = await self.stub.GetMetadata(
                metadata_pb2.GetMetadataRequest(), timeout=ANSWER, metadata=self.metadata
            )
        except grpc.aio.AioRpcError as error:
            raise refused(error, "the sidecar does not answer") from error
        self.looks_after_app = found.app_connection_properties.HasField("health")
        self.capabilities = {
            one.name: frozenset(one.capabilities) for one in found.registered_components
        }
        subscribed = [f"{one.topic}@{one.pubsub_name}" for one in found.subscriptions]
        return frozenset([*self.capabilities, *subscribed])

    def lost(self, why: str) -> None:
        """A call has failed as if the sidecar were gone: look again before the next."""
        self._up.clear()
        if why != self.why:
            self.why = why
            self._log.debug("reconnecting", reason=why)

    async def _keep(self) -> None:
        """Follow the channel's state, and look whether the component is there."""
        while True:
            if self._channel.get_state(try_to_connect=True) is not READY:
                self.lost(f"the Dapr sidecar at {self.address} does not answer")
            elif not self._up.is_set():
                await self._look()
            await asyncio.sleep(_LOOK_EVERY)

    async def _look(self) -> None:
        try:
            found = await self.components()
        except Disconnected as error:
            self.why = str(error)
            return
        if self._component in found:
            self.why = ""
            self._up.set()
        else:
            self.why = (
                f"the Dapr sidecar at {self.address} has no component {self._component!r}: it "
                "needs the component files of this bus"
            )


def refused(error: Any, what: str) -> Disconnected:
    """What a gRPC error means to a caller: `what` failed, it may heal."""
    return Disconnected(f"{what}: {error.code().name}: {error.details()}")
