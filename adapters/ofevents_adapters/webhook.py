"""The `webhook` source: an HTTP request becomes an event, and its answer says how it went.

202 only once `emit` has returned: whoever gets another answer, or none, sends
again. A CloudEvent in any of HTTP's three modes keeps its identity (a batch is
taken as a whole or not at all); any other body becomes the data of an event.
Without a bus the function's answer passes through (promise 11).

An answer's body is JSON: `{"id": ...}`, `{"ids": [...]}` for a batch, or
`{"error": "<sentence>"}`. `webhook_listener` is the server, `webhook_guard` the
door, `webhook_request` reads what comes in.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ofevents.api.meta import reveal
from ofevents.api.webhook import WebhookSpec
from ofevents.clock import Clock
from ofevents.errors import (
    BadEvent,
    Disconnected,
    OfeventsError,
    PermanentError,
    TemporaryError,
    TooLarge,
)
from ofevents.event import Event
from ofevents.ports import Emit, SourceFeatures, SourceIdentity, Store
from ofevents.telemetry import Log
from ofevents_adapters.webhook_guard import Guard, Refused
from ofevents_adapters.webhook_listener import Pem, listen
from ofevents_adapters.webhook_request import events_of, read

AT_ONCE: Final = 256
"""Requests in hand; with the body limit it bounds the memory (promise 7)."""
_GRACE: Final = 3.0
"""Seconds that requests in hand get once the source is stopped."""


class WebhookSource:
    """Listens at one path."""

    features = SourceFeatures(
        guarantee="at-least-once", stable_ids=False, ordered=False, scales=True, replies=True
    )

    def __init__(self, spec: WebhookSpec, identity: SourceIdentity, *, clock: Clock) -> None:
        self._spec = spec
        self._clock = clock
        self._guard = Guard(spec.auth, clock)
        parts = (identity.namespace, identity.name, identity.entry)
        self._source = "/ofevents/" + "/".join(quote(part, safe="") for part in parts)
        self._path = spec.path or f"/{identity.name}/{identity.entry}"
        self._owner = f"webhook {identity.entry} of EventSource {identity.name}"
        self._log = Log(namespace=identity.namespace, name=identity.name, entry=identity.entry)
        self._tls: Pem | None = None
        if spec.tls is not None:
            self._tls = (reveal(spec.tls.cert) or "", reveal(spec.tls.key) or "")

    async def run(self, emit: Emit, *, store: Store | None, started: Callable[[str], None]) -> None:
        """See `ofevents.ports.Source`. Cancelled, it answers what is in hand first.

        Raises:
            ConfigError: the port or the path is taken, or the certificate is none.
            Disconnected: the server ended by itself.
        """
        in_hand = _InHand()
        late = 503 if store is not None else 504

        async def answer(request: Request) -> Response:
            if in_hand.full:
                return _error(503, "too many requests at once, or stopping", delay=1.0)
            try:
                async with in_hand.one():
                    return await self._answer(request, emit, late)
            except TimeoutError:
                return _error(503, "stopping; send it again", delay=1.0)

        spec = self._spec
        async with listen(
            spec.host, spec.port, self._path, tls=self._tls, handler=answer, owner=self._owner
        ) as listener:
            started(listener.address + self._path)
            try:
                await listener.ended()
            finally:
                await in_hand.finish(_GRACE)
        raise Disconnected(f"the server on {listener.address} has ended")

    async def _answer(self, request: Request, emit: Emit, late: int) -> Response:
        try:
            if request.method not in self._spec.methods:
                allowed = ", ".join(self._spec.methods)
                return _error(405, f"{request.method} is not taken here", {"allow": allowed})
            events = await self._admit(request)
            async with asyncio.timeout(self._spec.timeout):
                reply = await emit(*events) if events else None
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except TimeoutError:
            return _error(late, f"no answer within {self._spec.timeout:g} s", delay=1.0)
        except Refused as error:
            self._log.info("refused", status=401, reason=str(error))
            challenge = {"www-authenticate": error.challenge} if error.challenge else {}
            return _error(401, str(error), challenge)
        except OfeventsError as error:
            response = _of_error(error)
            self._log.info("refused", status=response.status_code, reason=str(error))
            return response
        if reply is not None:
            return Response(reply.body, reply.status, dict(reply.headers))
        return self._accepted(events)

    async def _admit(self, request: Request) -> list[Event]:
        """The events of a request that may come in."""
        headers = request.scope["headers"]
        self._guard.admit(headers)
        body = await read(request, self._spec.max_body_bytes)
        self._guard.verify(headers, body)
        now = self._clock.now()
        return events_of(request, body, self._spec, source=self._source, now=now)

    def _accepted(self, events: list[Event]) -> Response:
        if len(events) == 1:
            return _json(self._spec.reply_status, {"id": events[0].id})
        return _json(self._spec.reply_status, {"ids": [event.id for event in events]})


class _InHand:
    """The requests of one run that have no answer yet."""

    def __init__(self) -> None:
        self._open: set[asyncio.Timeout] = set()
        self._closing = False
        self._none = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether no further one is taken."""
        return self._closing or len(self._open) >= AT_ONCE

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Count a request; raises TimeoutError in it once `finish` has waited enough."""
        async with asyncio.timeout(None) as timeout:
            self._open.add(timeout)
            try:
                yield
            finally:
                self._open.discard(timeout)
                if not self._open:
                    self._none.set()

    async def finish(self, grace: float) -> None:
        """Take no more; return when each one has its answer, at most `grace` seconds later."""
        self._closing = True
        end = asyncio.get_running_loop().time() + grace
        for timeout in self._open:
            timeout.reschedule(end)
        while self._open:
            self._none.clear()
            await self._none.wait()


def _of_error(error: OfeventsError) -> Response:
    if isinstance(error, TooLarge):
        # The rest of the body may be on its way: this connection is of no more use.
        return _error(413, str(error), {"connection": "close"})
    if isinstance(error, BadEvent):
        return _error(400, str(error))
    if isinstance(error, TemporaryError):
        return _error(503, str(error), delay=error.delay)
    assert isinstance(error, PermanentError)
    return _error(422, str(error))


def _error(
    status: int,
    sentence: str,
    headers: dict[str, str] | None = None,
    *,
    delay: float | None = None,
) -> Response:
    """A sentence for the caller; `delay` in seconds becomes Retry-After."""
    if delay is not None:
        headers = {**(headers or {}), "retry-after": str(max(1, math.ceil(delay)))}
    return _json(status, {"error": sentence}, headers)


def _json(status: int, body: object, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")
