"""Consuming over a stream: one lane is one component, one topic, one message at a time.

The form for every component without real batches, and for a process without a port
for the sidecar to call. daprd sends the next message of a lane when it has the
verdict on the last one (several for Redis), so a group has several lanes.

A stream that ends is opened again; what was in hand then comes again by the broker's
own rule. Until 1.15 a component and topic can have one stream: a lane that somebody
else has is tried again.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
from dapr.proto.runtime.v1 import appcallback_pb2, pubsub_pb2

from ofevents.bus.dapr_desk import Desk
from ofevents.bus.dapr_link import Link
from ofevents.telemetry import Log

_Request: Any = pubsub_pb2.SubscribeTopicEventsRequestAlpha1
_SUCCESS: Final = appcallback_pb2.TopicEventResponse(
    status=appcallback_pb2.TopicEventResponse.SUCCESS
)
_RETRY: Final = appcallback_pb2.TopicEventResponse(status=appcallback_pb2.TopicEventResponse.RETRY)
_PAUSE: Final = 0.25
_FLUSH_WITHIN: Final = 1.0


class Lane:
    """See the module. `live` is set while the stream is open."""

    def __init__(self, link: Link, desk: Desk, component: str, topic: str, wire: str) -> None:
        """`wire` is the topic's name on the broker."""
        self.live = asyncio.Event()
        self.why = ""
        self._link = link
        self._desk = desk
        self._component = component
        self.topic = topic
        self._wire = wire
        self._session: _Session | None = None
        self._log = Log(group=desk.group)
        self._task = asyncio.create_task(self._run(), name=f"lane {component} {topic}")

    async def close(self) -> None:
        """Send the verdicts that are on their way, then end the stream."""
        session = self._session
        if session is not None:
            await session.flush()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._link.ready()
            try:
                await self._stream()
            except grpc.aio.AioRpcError as error:
                self.why = f"{error.code().name}: {error.details()}"
                self._log.debug("reconnecting", reason=self.why, lane=self._component)
            finally:
                self.live.clear()
            await asyncio.sleep(_PAUSE)

    async def _stream(self) -> None:
        call = self._link.stub.SubscribeTopicEventsAlpha1(metadata=self._link.metadata)
        session = self._session = _Session(call)
        writer = asyncio.create_task(session.write())
        try:
            await call.write(
                _Request(
                    initial_request=pubsub_pb2.SubscribeTopicEventsRequestInitialAlpha1(
                        pubsub_name=self._component,
                        topic=self._wire,
                        metadata={"rawPayload": "true"},
                    )
                )
            )
            while (response := await call.read()) is not grpc.aio.EOF:
                if response.HasField("event_message"):
                    event = response.event_message
                    self._desk.offer(self.topic, [(event.data, _Verdict(session, event.id), {})])
                else:
                    self.live.set()
        finally:
            session.close()
            writer.cancel()
            call.cancel()
            await asyncio.gather(writer, return_exceptions=True)


class _Session:
    """One stream's verdicts: settling never blocks, one task writes."""

    def __init__(self, call: Any) -> None:
        self.open = True
        self._call = call
        self._waiting: list[tuple[str, bool]] = []
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, id: str, done: bool) -> None:
        self._waiting.append((id, done))
        self._idle.clear()
        self._more.set()

    async def write(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            verdicts, self._waiting = self._waiting, []
            for id, done in verdicts:
                await self._call.write(
                    _Request(
                        event_processed=pubsub_pb2.SubscribeTopicEventsRequestProcessedAlpha1(
                            id=id, status=_SUCCESS if done else _RETRY
                        )
                    )
                )
            if not self._waiting:
                self._idle.set()

    async def flush(self) -> None:
        try:
            async with asyncio.timeout(_FLUSH_WITHIN):
                await self._idle.wait()
        except TimeoutError:
            pass  # the sidecar does not read: what is not acknowledged comes again

    def close(self) -> None:
        self.open = False
        self._idle.set()


class _Verdict:
    """See `dapr_received.Answer`."""

    __slots__ = ("_id", "_session")

    def __init__(self, session: _Session, id: str) -> None:
        self._session = session
        self._id = id

    @property
    def gone(self) -> bool:
        return not self._session.open

    def __call__(self, done: bool) -> None:
        if self._session.open:
            self._session.add(self._id, done)
