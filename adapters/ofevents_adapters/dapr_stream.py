"""A topic over a stream, for a worker without a port that the sidecar could call.

    daprd -> the stream -> emit -> a verdict on the stream

Slower than being called, and without what Dapr knows of a message beside its bytes.
On Dapr 1.14 and 1.15 a stream that ends with a message in hand makes its Kafka
component wait for the verdict, unless a Resiliency gives it a timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc
from dapr.proto.runtime.v1 import appcallback_pb2, pubsub_pb2

from ofevents.errors import Disconnected
from ofevents.event import Event
from ofevents_adapters.dapr_config import Settings
from ofevents_adapters.dapr_hand import Hand
from ofevents_adapters.dapr_record import Message
from ofevents_adapters.dapr_sidecar import Sidecar

_Request: Any = pubsub_pb2.SubscribeTopicEventsRequestAlpha1
_STATUS: Final = {
    True: appcallback_pb2.TopicEventResponse.SUCCESS,
    False: appcallback_pb2.TopicEventResponse.RETRY,
}


async def read_stream(
    sidecar: Sidecar,
    settings: Settings,
    hand: Hand,
    read: Callable[[Message], list[Event]],
    live: Callable[[], None],
) -> None:
    """Read until cancelled; `live` is called when the subscription stands.

    Raises:
        Disconnected: the stream has ended, or Dapr refuses it.
    """
    call = sidecar.stub.SubscribeTopicEventsAlpha1(metadata=sidecar.metadata)
    writing = asyncio.Lock()

    async def settle(event: Any) -> None:
        done = await hand.settled(read(Message(event.data, {}, event.topic)))
        verdict = _Request(
            event_processed=pubsub_pb2.SubscribeTopicEventsRequestProcessedAlpha1(
                id=event.id, status=appcallback_pb2.TopicEventResponse(status=_STATUS[done])
            )
        )
        async with writing:
            await call.write(verdict)

    initial = pubsub_pb2.SubscribeTopicEventsRequestInitialAlpha1(
        pubsub_name=settings.component, topic=settings.topic or "", metadata=dict(settings.metadata)
    )
    try:
        async with asyncio.TaskGroup() as settling:
            await call.write(_Request(initial_request=initial))
            while (response := await call.read()) is not grpc.aio.EOF:
                if response.HasField("event_message"):
                    settling.create_task(settle(response.event_message))
                else:
                    live()
            raise Disconnected(f"the stream of {settings.shown} has ended")
    except ExceptionGroup as group:
        error = group.exceptions[0]
        if isinstance(error, grpc.aio.AioRpcError):
            raise sidecar.failed(error, f"ends the stream of topic {settings.topic}") from error
        raise error from None
    finally:
        call.cancel()
