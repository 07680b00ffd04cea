"""Called by the sidecar: the gRPC server that is the sidecar's app.

    daprd -> OnBindingEvent, OnTopicEvent, OnBulkTopicEvent -> emit -> the answer

The answer is the acknowledgement, and each call is answered when its messages are
emitted. UNIMPLEMENTED would have Dapr drop the events, so every form of the callback
is here, and all end with a verdict, with an error that Dapr tries again, or with the
call's cancelling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc
from dapr.proto.runtime.v1 import appcallback_pb2, appcallback_pb2_grpc

from ofevents.errors import ConfigError
from ofevents.event import Event
from ofevents.sidecar import LIMITS
from ofevents_adapters.dapr_config import Settings
from ofevents_adapters.dapr_hand import IN_FLIGHT, Hand
from ofevents_adapters.dapr_record import Message, lower

AWAIT_MS: Final = 20
"""How long the sidecar waits for a batch to fill."""
_SUCCESS: Final[Any] = appcallback_pb2.TopicEventResponse.SUCCESS
_RETRY: Final[Any] = appcallback_pb2.TopicEventResponse.RETRY
_SERVICES: Final = ("AppCallback", "AppCallbackAlpha", "AppCallbackHealthCheck")

Read = Callable[[Message], list[Event]]


class Callbacks(
    appcallback_pb2_grpc.AppCallbackServicer,
    appcallback_pb2_grpc.AppCallbackAlphaServicer,
    appcallback_pb2_grpc.AppCallbackHealthCheckServicer,
):
    """Used as `async with`: it listens while it is entered."""

    def __init__(self, settings: Settings, hand: Hand, read: Read) -> None:
        self._settings = settings
        self._hand = hand
        self._read = read
        self._server: Any = None
        self._calls: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Callbacks:
        """Listen.

        Raises:
            ConfigError: another process has the port.
        """
        where = self._settings
        server = grpc.aio.server(
            options=(
                *LIMITS,
                ("grpc.max_concurrent_streams", 2 * IN_FLIGHT),
                ("grpc.so_reuseport", 0),
            )
        )
        generated: Any = appcallback_pb2_grpc  # without types
        for service in _SERVICES:
            getattr(generated, f"add_{service}Servicer_to_server")(self, server)
        try:
            server.add_insecure_port(f"{where.app_host}:{where.app_port}")
        except RuntimeError as error:
            raise ConfigError(
                f"port {where.app_port} is in use: it is where the Dapr sidecar calls this "
                "worker (its app port), so that only one worker can have it",
                path=f"{where.path}.appPort",
            ) from error
        await server.start()
        self._server = server
        return self

    async def __aexit__(self, *_: object) -> None:
        """End what is in hand: it is not acknowledged."""
        server, self._server = self._server, None
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await server.stop(None)

    # -- called by daprd ----------------------------------------------------

    async def ListTopicSubscriptions(self, request: Any, context: Any) -> Any:
        """Which topic to read, and how."""
        where = self._settings
        if where.topic is None:
            return appcallback_pb2.ListTopicSubscriptionsResponse()
        one = appcallback_pb2.TopicSubscription(
            pubsub_name=where.component, topic=where.topic, metadata=dict(where.metadata)
        )
        # Of a component without real batches daprd makes batches of one, each after a wait.
        if where.kind.bulk:
            one.bulk_subscribe.enabled = True
            one.bulk_subscribe.max_messages_count = IN_FLIGHT
            one.bulk_subscribe.max_await_duration_ms = AWAIT_MS
        return appcallback_pb2.ListTopicSubscriptionsResponse(subscriptions=[one])

    async def ListInputBindings(self, request: Any, context: Any) -> Any:
        """Which input binding to read."""
        where = self._settings
        bindings = [] if where.topic is not None else [where.component]
        return appcallback_pb2.ListInputBindingsResponse(bindings=bindings)

    async def HealthCheck(self, request: Any, context: Any) -> Any:
        return appcallback_pb2.HealthCheckResponse()

    async def OnBindingEvent(self, request: Any, context: Any) -> Any:
        """One event of an input binding; an error is all that Dapr has for giving back."""
        if self._settings.topic is not None or request.name != self._settings.component:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"{request.name} is not read here")
        message = Message(request.data, lower(request.metadata), request.name)
        if not await self._emitted(message):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not taken")
        return appcallback_pb2.BindingEventResponse()

    async def OnTopicEvent(self, request: Any, context: Any) -> Any:
        """One message; what Dapr knows of it beside its bytes is in the call's metadata."""
        done = False
        if self._serves(request):
            told = {
                name: value
                for name, value in context.invocation_metadata()
                if isinstance(value, str)
            }
            done = await self._emitted(Message(request.data, lower(told), request.topic))
        return appcallback_pb2.TopicEventResponse(status=_SUCCESS if done else _RETRY)

    async def OnBulkTopicEvent(self, request: Any, context: Any) -> Any:
        """A batch; of 1.17 and newer under this name."""
        verdicts = [False] * len(request.entries)
        if self._serves(request):
            batch = [
                self._read(Message(one.bytes, lower(one.metadata), request.topic))
                for one in request.entries
            ]
            verdicts = await self._in_hand(self._hand.batch(batch))
        return appcallback_pb2.TopicEventBulkResponse(
            statuses=[
                appcallback_pb2.TopicEventBulkResponseEntry(
                    entry_id=one.entry_id, status=_SUCCESS if done else _RETRY
                )
                for one, done in zip(request.entries, verdicts, strict=True)
            ]
        )

    OnBulkTopicEventAlpha1 = OnBulkTopicEvent

    def _serves(self, request: Any) -> bool:
        where = self._settings
        return bool(request.pubsub_name == where.component and request.topic == where.topic)

    async def _emitted(self, message: Message) -> bool:
        return bool(await self._in_hand(self._hand.settled(self._read(message))))

    async def _in_hand(self, settling: Any) -> Any:
        """Settle it in a task that ends with the server, whatever gRPC does."""
        task = asyncio.ensure_future(settling)
        self._calls.add(task)
        try:
            return await task
        finally:
            task.cancel()
            self._calls.discard(task)
