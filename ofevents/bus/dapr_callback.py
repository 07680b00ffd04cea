"""Consuming in batches: the gRPC server that the sidecar calls, its app.

One per port and process: the buses of one sidecar share it, and each desk takes the
messages of its components. A call is answered when every message of it is settled; a
call for a group that nobody consumes here for now waits, as daprd would, after
anything else but success, deliver again or skip what it has.

UNIMPLEMENTED would have Dapr drop the events, so both forms of the bulk callback are
here, the single one too, and all end with a verdict or with the call's cancelling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import grpc
from dapr.proto.runtime.v1 import appcallback_pb2, appcallback_pb2_grpc

from ofevents.bus.dapr_desk import Desk
from ofevents.clock import Clock
from ofevents.errors import ConfigError
from ofevents.process import unless
from ofevents.sidecar import LIMITS

_SUCCESS: Final[Any] = appcallback_pb2.TopicEventResponse.SUCCESS
_RETRY: Final[Any] = appcallback_pb2.TopicEventResponse.RETRY
CALLS_WITHIN: Final = 15.0
"""Seconds: a sidecar that is there looks after its app every 5 s, if not set otherwise."""


class Callbacks(
    appcallback_pb2_grpc.AppCallbackServicer,
    appcallback_pb2_grpc.AppCallbackAlphaServicer,
    appcallback_pb2_grpc.AppCallbackHealthCheckServicer,
):
    """See the module. `desks` are found by component and topic's name on the broker."""

    def __init__(self, port: int, clock: Clock) -> None:
        self.users = 0
        self.server: Any = None
        self._port = port
        self._clock = clock
        self._waits_since = 0.0
        self._called = False
        self._desks: dict[tuple[str, str], tuple[Desk, str]] = {}
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()

    def serve(self, component: str, wire: str, desk: Desk, topic: str) -> None:
        """Messages of that component and topic go to this desk from now on."""
        if not self._desks:
            self._waits_since = self._clock.monotonic()
        self._desks[component, wire] = (desk, topic)
        self._changed.set()

    def leave(self, component: str, wire: str, desk: Desk) -> None:
        """The desk takes no more; nothing when another one has taken over."""
        if self._desks.get((component, wire), (None, ""))[0] is desk:
            del self._desks[component, wire]

    @property
    def unheard(self) -> str:
        """Why nothing comes though a desk is here, as a sentence; "" as soon as the sidecar
        has called, and for the first moments."""
        waited = self._clock.monotonic() - self._waits_since
        if self._called or not self._desks or waited < CALLS_WITHIN:
            return ""
        return (
            f"the Dapr sidecar has not called this process at port {self._port} yet, so nothing "
            "arrives: its --app-port must be that one and its --app-protocol grpc. A sidecar that "
            "was there long before looks again after half that time, two minutes at most"
        )

    def close(self) -> None:
        """End the calls that wait for a desk."""
        self._closing.set()

    # -- called by daprd ----------------------------------------------------

    async def ListTopicSubscriptions(self, request: Any, context: Any) -> Any:
        """None: they are declared, beside the components."""
        self._called = True
        return appcallback_pb2.ListTopicSubscriptionsResponse()

    async def ListInputBindings(self, request: Any, context: Any) -> Any:
        return appcallback_pb2.ListInputBindingsResponse()

    async def HealthCheck(self, request: Any, context: Any) -> Any:
        self._called = True
        return appcallback_pb2.HealthCheckResponse()

    async def OnBulkTopicEvent(self, request: Any, context: Any) -> Any:
        """Of 1.17 and newer."""
        messages = [(one.bytes, one.metadata) for one in request.entries]
        verdicts = await self._settled(request.pubsub_name, request.topic, messages)
        return appcallback_pb2.TopicEventBulkResponse(
            statuses=[
                appcallback_pb2.TopicEventBulkResponseEntry(
                    entry_id=one.entry_id, status=_SUCCESS if done else _RETRY
                )
                for one, done in zip(request.entries, verdicts, strict=True)
            ]
        )

    OnBulkTopicEventAlpha1 = OnBulkTopicEvent

    async def OnTopicEvent(self, request: Any, context: Any) -> Any:
        """Of a subscription without bulk, that somebody else declared."""
        (done,) = await self._settled(request.pubsub_name, request.topic, [(request.data, {})])
        return appcallback_pb2.TopicEventResponse(status=_SUCCESS if done else _RETRY)

    async def _settled(
        self, component: str, wire: str, messages: Sequence[tuple[bytes, Mapping[str, str]]]
    ) -> list[bool]:
        while (found := self._desks.get((component, wire))) is None:
            self._changed.clear()
            if not await unless(self._closing, self._changed.wait()):
                return [False] * len(messages)
        batch = _Batch(len(messages))
        desk, topic = found
        desk.offer(
            topic,
            [
                (raw, _Verdict(batch, at), _lower(headers))
                for at, (raw, headers) in enumerate(messages)
            ],
        )
        try:
            await batch.settled
        finally:
            batch.gone = True
        return batch.verdicts


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    """The hop's headers, which only a stranger's message needs."""
    return {name.lower(): value for name, value in headers.items()}


class _Batch:
    """Counts the verdicts of one call."""

    def __init__(self, count: int) -> None:
        self.verdicts = [False] * count
        self.gone = False
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = count
        if not count:
            self.settled.set_result(None)

    def settle(self, at: int, done: bool) -> None:
        self.verdicts[at] = done
        self._left -= 1
        if self._left == 0 and not self.settled.done():
            self.settled.set_result(None)


class _Verdict:
    """See `dapr_received.Answer`."""

    __slots__ = ("_at", "_batch")

    def __init__(self, batch: _Batch, at: int) -> None:
        self._batch = batch
        self._at = at

    @property
    def gone(self) -> bool:
        return self._batch.gone

    def __call__(self, done: bool) -> None:
        self._batch.settle(self._at, done)


_open: dict[tuple[asyncio.AbstractEventLoop, int], Callbacks] = {}


async def open_callbacks(host: str, port: int, clock: Clock) -> Callbacks:
    """The server on that port, started by its first user.

    Raises:
        ConfigError: another process has the port.
    """
    key = (asyncio.get_running_loop(), port)
    callbacks = _open.get(key)
    if callbacks is None:
        callbacks = _open[key] = Callbacks(port, clock)
        server = callbacks.server = grpc.aio.server(
            options=(
                *LIMITS,
                ("grpc.so_reuseport", 0),
            )
        )
        grpc_names: Any = appcallback_pb2_grpc  # generated without types
        for service in ("AppCallback", "AppCallbackAlpha", "AppCallbackHealthCheck"):
            getattr(grpc_names, f"add_{service}Servicer_to_server")(callbacks, server)
        try:
            server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            del _open[key]
            raise ConfigError(
                f"port {port} is in use: it is where the Dapr sidecar calls this process (its "
                "--app-port), so only one process can have it",
                path="dapr.app_port",
            ) from error
        await server.start()
    callbacks.users += 1
    return callbacks


async def close_callbacks(callbacks: Callbacks) -> None:
    """End the server with its last user."""
    callbacks.users -= 1
    if callbacks.users:
        return
    for key, one in list(_open.items()):
        if one is callbacks:
            del _open[key]
    callbacks.close()
    await callbacks.server.stop(1.0)
