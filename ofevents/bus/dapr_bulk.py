"""Storing one batch through the sidecar: its bulk call, in the newest form that it knows.

Called by `dapr_publish`, which forms the batches and insists.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
from dapr.proto.runtime.v1 import pubsub_pb2

from ofevents.bus.dapr_components import Names
from ofevents.bus.dapr_link import Link, refused
from ofevents.bus.dapr_options import DaprOptions
from ofevents.errors import Disconnected

_UNDELIVERED: Final = "failed to deliver"
"""What Dapr's Kafka component says of a topic that is not there, too, and no more."""
_NOT_STORED: Final = "the bus did not store the messages"
_RAW: Final = {"rawPayload": "true"}
_FORMS: Final = ("BulkPublishEvent", "BulkPublishEventAlpha1", "PublishEvent")
"""Dapr's calls, the newest first: stable since 1.17, Alpha1 before, one by one at last."""


class NoAnswer(Disconnected):
    """A try had no answer by the deadline: it says less than the try before."""


class Bulk:
    """See the module."""

    def __init__(self, link: Link, names: Names, options: DaprOptions) -> None:
        self._link = link
        self._names = names
        self._options = options
        self._form = 0

    async def send(self, topic: str, entries: list[Any], within: float) -> None:
        """One attempt to store a batch.

        Raises:
            Disconnected: not known to be stored.
        """
        await self._link.ready(within)
        request = pubsub_pb2.BulkPublishRequest(
            pubsub_name=self._names.pubsub,
            topic=self._names.topic(topic),
            entries=entries,
            metadata=_RAW,
        )
        while True:
            at = self._form
            form = _FORMS[at]
            try:
                if form == "PublishEvent":
                    await self._one_by_one(topic, entries, within)
                    return
                call = getattr(self._link.stub, form)
                done = await call(request, timeout=within, metadata=self._link.metadata)
            except grpc.aio.AioRpcError as error:
                if _unknown(error) and at + 1 < len(_FORMS):
                    # Of this form: batches that ask together must not pass over the next form.
                    self._form = max(self._form, at + 1)
                    continue
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise NoAnswer("the bus did not answer in time") from error
                raise self._advised(topic, refused(error, _NOT_STORED)) from error
            if done.failedEntries:
                failed = Disconnected(f"{_NOT_STORED}: {done.failedEntries[0].error}")
                raise self._advised(topic, failed)
            return

    def _advised(self, topic: str, error: Disconnected) -> Disconnected:
        """With what a person can do, where Dapr's sentence does not say it."""
        text = str(error)
        if self._options.pubsub.type != "pubsub.kafka" or _UNDELIVERED not in text.lower():
            return error
        return Disconnected(
            f"{text.rstrip('.')}; has Kafka the topic {self._names.topic(topic)}? Whoever "
            "runs the broker creates topics, unless it has auto.create.topics.enable"
        )

    async def _one_by_one(self, topic: str, entries: list[Any], within: float) -> None:
        async def publish(entry: Any) -> None:
            request = pubsub_pb2.PublishEventRequest(
                pubsub_name=self._names.pubsub,
                topic=self._names.topic(topic),
                data=entry.event,
                data_content_type=entry.content_type,
                metadata={**_RAW, **entry.metadata},
            )
            await self._link.stub.PublishEvent(
                request, timeout=within, metadata=self._link.metadata
            )

        if self._options.features.ordered:
            for entry in entries:
                await publish(entry)
            return
        results = await asyncio.gather(*map(publish, entries), return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException):
                raise error


def _unknown(error: grpc.aio.AioRpcError) -> bool:
    """Whether the sidecar is too old for this call: it says so, or tries to pass it on to
    another app, as it does with what it does not know."""
    return error.code() is grpc.StatusCode.UNIMPLEMENTED or "failed to proxy" in (
        error.details() or ""
    )
