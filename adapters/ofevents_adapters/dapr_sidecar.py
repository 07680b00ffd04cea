"""The connection to a sidecar, for as long as it lasts; `dapr` makes a new one after it.

Only what is the same for a source and a sink is here: the channel, what a sidecar has
loaded, and what its errors mean.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final, Self

import grpc
from dapr.proto.runtime.v1 import metadata_pb2

from ofevents.clock import Clock
from ofevents.errors import Disconnected
from ofevents.sidecar import ANSWER, READY, connect, token

LOOK: Final = 5.0
"""Seconds between looks at what the sidecar has loaded."""


class Sidecar:
    """Used as `async with`; `stub` calls Dapr, each call with `metadata`."""

    def __init__(self, address: str, clock: Clock) -> None:
        self.address = address
        self._clock = clock
        self.metadata = token()
        self.stub: Any = None
        self._channel: Any = None

    async def __aenter__(self) -> Self:
        self._channel, self.stub = connect(self.address)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channel.close()
        self._channel = self.stub = None

    async def ready(self) -> None:
        """Return once it answers.

        Raises:
            Disconnected: not within `ANSWER` seconds.
        """
        try:
            async with asyncio.timeout(ANSWER):
                await self._channel.channel_ready()
        except TimeoutError:
            raise Disconnected(f"the Dapr sidecar at {self.address} does not answer") from None

    async def loaded(self) -> tuple[dict[str, str], set[tuple[str, str]]]:
        """Its components, name -> type, and its subscriptions as (component, topic).

        Raises:
            Disconnected: it does not answer.
        """
        request = metadata_pb2.GetMetadataRequest()
        try:
            found = await self.stub.GetMetadata(request, timeout=ANSWER, metadata=self.metadata)
        except grpc.aio.AioRpcError as error:
            raise self.failed(error, "does not answer") from error
        components = {one.name: one.type for one in found.registered_components}
        return components, {(one.pubsub_name, one.topic) for one in found.subscriptions}

    async def lost(self) -> None:
        """Return never; a channel that is not ready any more is a lost sidecar.

        Raises:
            Disconnected: it is lost.
        """
        while self._channel.get_state() is READY:
            await self._channel.wait_for_state_change(READY)
        raise Disconnected(f"the Dapr sidecar at {self.address} is gone")

    def failed(self, error: grpc.aio.AioRpcError, what: str) -> Disconnected:
        return Disconnected(
            f"the Dapr sidecar at {self.address} {what}: {error.code().name}: {error.details()}"
        )
