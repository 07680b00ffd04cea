"""The `nats` sink: events are published on a NATS subject.

With `jetstream`, a stream's acknowledgement is the confirmation, and `Nats-Msg-Id` lets
the stream know a repetition within its duplicate window. Without, the server's pong is:
the server has it, but keeps it for nobody. The form is the NATS binding of CloudEvents:
`binary` (`ce-` headers, encoded as in HTTP), `structured`, or the data alone.

One connection after the other; a lost one fails at once what waits for an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable
from types import TracebackType
from typing import Final, Self, TypeVar

import nats.errors
import nats.js.errors
from nats.js.api import PubAck

from ofevents.api.sink import NatsSink as Spec
from ofevents.clock import Clock
from ofevents.errors import (
    BadEvent,
    ConfigError,
    Disconnected,
    Misconfigured,
    OfeventsError,
    TooLarge,
    Unavailable,
)
from ofevents.event import Event, digest, to_http
from ofevents.event.record import CONTROL
from ofevents.ports import Format
from ofevents_adapters.nats_config import sink_access
from ofevents_adapters.nats_connection import Connection
from ofevents_adapters.redial import Redial

_TOO_LARGE: Final = 10054
"""The server's error code: over the stream's maximum message size."""

T = TypeVar("T")


class NatsSink:
    """Publishes on one subject; see `ofevents.ports.Sink`."""

    def __init__(self, spec: Spec, *, format: Format, timeout: float, clock: Clock) -> None:
        """Checks the spec (ConfigError); connects to nothing."""
        self._subject = spec.subject
        self._jetstream = spec.jetstream
        self._format: Format = format
        self._timeout = timeout
        access = sink_access(spec)
        self.address = f"NATS subject {spec.subject} at {access.shown}"
        self._redial = Redial(lambda: Connection(access, "ofevents"), clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._redial.close()

    async def send(self, event: Event, key: str | None) -> None:
        """See `ofevents.ports.Sink`."""
        headers, body = to_http(event, self._format)
        for name, value in headers.items():
            if CONTROL.search(value):
                raise BadEvent(
                    f"event {event.id[:80]!r} cannot be sent to {self.address}: {name} has a "
                    "character that no header may hold"
                )
        try:
            connection = await self._redial.get()
            await self._send(connection, headers, body, event)
        except ConfigError as error:  # the server refuses the login, or the subject
            raise Misconfigured(f"{self.address}: {error.message}") from error
        except Disconnected as error:
            raise Unavailable(f"{self.address}: {error}") from error

    async def _send(
        self, connection: Connection, headers: dict[str, str], body: bytes, event: Event
    ) -> None:
        try:
            if self._jetstream:
                headers["Nats-Msg-Id"] = self._message_id(event, body)
                jetstream = connection.client.jetstream(timeout=self._timeout)
                stored: Awaitable[PubAck] = jetstream.publish(self._subject, body, headers=headers)
                await self._unless_lost(connection, stored)
            else:
                await connection.client.publish(self._subject, body, headers=headers)
                await self._unless_lost(connection, connection.client.flush(int(self._timeout + 1)))
                connection.check()
        except nats.errors.Error as error:
            raise self._meaning(connection, error, len(body)) from error

    def _message_id(self, event: Event, body: bytes) -> str:
        """Of the subject and the data, too: a stream may have several subjects, and what an

        event is sent as may differ; only the same message is a repetition.
        """
        data = hashlib.blake2b(body, digest_size=16).hexdigest()
        return digest(self._subject, event.source, event.id, data)

    async def _unless_lost(self, connection: Connection, answer: Awaitable[T]) -> T:
        """The answer; Disconnected or ConfigError if the connection ends before it."""
        asking = asyncio.ensure_future(answer)
        lost = asyncio.ensure_future(connection.lost())
        try:
            await asyncio.wait((asking, lost), return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
            lost.result()
            raise AssertionError("lost() returns with an error only")
        finally:
            for one in (asking, lost):
                one.cancel()
            await asyncio.gather(asking, lost, return_exceptions=True)

    def _meaning(
        self, connection: Connection, error: nats.errors.Error, size: int
    ) -> OfeventsError:
        if isinstance(error, nats.errors.MaxPayloadError):
            most = connection.client.max_payload
            return TooLarge(f"{self.address}: {size} bytes and headers; the server takes {most}")
        if isinstance(error, nats.js.errors.NoStreamResponseError):
            return Misconfigured(
                f"{self.address}: no stream takes this subject; create one, or set jetstream: false"
            )
        if isinstance(error, nats.js.errors.APIError):
            text = f"{self.address}: {error.description}"
            return TooLarge(text) if error.err_code == _TOO_LARGE else Unavailable(text)
        return connection.failed(error, "publishing")
