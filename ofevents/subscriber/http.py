"""HttpSubscriber: a function called over HTTP, one POST per delivery.

Called once per delivery by the wrappers of this package, so it is the hottest
path out: the client and the headers that never change are made once, an answer
that nobody reads is drained and dropped, and the timeout is the client's own.

`Idempotency-Key` is the digest over the delivery's events (source and id, in
order), namespace, Trigger and subscriber: the same delivery has the same key in
every attempt, from whichever worker (promise 3). A `traceparent` or `tracestate`
attribute of the event goes out as the header of that name, too.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Literal

from pyreqwest.client import Client
from pyreqwest.exceptions import PyreqwestError, RequestTimeoutError
from pyreqwest.response import Response

from ofevents.api.resolved import HttpTarget
from ofevents.clock import Clock
from ofevents.errors import BadEvent, Misconfigured, OfeventsError, Unavailable
from ofevents.event import Event, digest, to_http, to_http_batch
from ofevents.ports import Delivery, Reply
from ofevents.subscriber import answer, client
from ofevents.subscriber.answer import Answers
from ofevents.subscriber.dapr import through_sidecar
from ofevents.subscriber.oauth2 import OAuth2
from ofevents.subscriber.outcome import TimedOut

Format = Literal["binary", "structured", "raw"]

_TRACE: Final = ("traceparent", "tracestate")
_SHORTEST_SECRET: Final = 4
"""Shorter header values are left alone when secrets are cut from a quoted answer."""


class HttpSubscriber:
    """A function at one address. Made by `open_http`."""

    def __init__(
        self,
        target: HttpTarget,
        http: Client,
        oauth2: OAuth2 | None,
        *,
        subscriber: str,
        format: Format,
        batch: bool,
        answers: Answers,
        timeout: float,
        clock: Clock,
    ) -> None:
        self.address = client.shown(target.uri)
        """The address without credentials and query, for people."""
        self._url = client.parse(target.uri, "sink.uri")
        self._http = http
        self._oauth2 = oauth2
        self._owner = subscriber.split("/", 2)
        self._format: Format = format
        self._batch = batch
        self._answers: Answers = answers
        self._timeout = timeout
        self._clock = clock
        self._secrets = _secrets(target)

    async def deliver(self, delivery: Delivery) -> Reply:
        """One call; a 2xx is the acknowledgement.

        Raises:
            Rejected: 400, 409, 410, 413, 415, 422: the event itself is refused.
            Misconfigured: 401, 403, 404, 405, 3xx: we call it wrongly.
            Unavailable: any other answer or none (TimedOut among them); `delay` is
                its Retry-After.
            TooLarge: its answer is wanted and longer than the limit.
            BadEvent: an attribute cannot be written as a header.
        """
        if self._batch:
            events = [*delivery.events[:-1], delivery.event]
            headers, body = to_http_batch(events)
        else:
            event = delivery.event
            headers, body = to_http(event, self._format)
            _trace(event, headers)
        headers["idempotency-key"] = self._key(delivery.events)
        return await self.post(headers, body, delivery.events[-1].id)

    def _key(self, events: tuple[Event, ...]) -> str:
        if len(events) == 1:
            event = events[0]
            return digest(event.source, event.id, *self._owner)
        parts = [part for event in events for part in (event.source, event.id)]
        return digest(*parts, *self._owner)

    async def post(self, headers: dict[str, str], body: bytes, event_id: str) -> Reply:
        """One POST of anything; see `deliver` for what comes of it."""
        if self._oauth2 is None:
            return await self._post(headers, body, event_id)
        token = await self._oauth2.token()
        headers["authorization"] = f"Bearer {token}"
        try:
            reply = await self._post(headers, body, event_id)
        except Misconfigured as error:
            if error.status != 401:
                raise
        else:
            if reply.status != 401:
                return reply
        # Revoked before its time: one new token, one more try.
        headers["authorization"] = f"Bearer {await self._oauth2.token(refused=token)}"
        return await self._post(headers, body, event_id)

    async def _post(self, headers: dict[str, str], body: bytes, event_id: str) -> Reply:
        try:
            request = self._http.post(self._url).headers(headers).body_bytes(body)
        except ValueError as error:
            raise BadEvent(
                f"event {event_id[:80]} cannot be sent to {self.address}: one of its attributes "
                "has a character that no HTTP header may hold"
            ) from error
        try:
            async with request.build_streamed() as response:
                status = response.status
                if 200 <= status < 300 and self._answers == "ignore":
                    await answer.drain(response)
                    return answer.ACCEPTED[status]
                return await self._read(response, status)
        except PyreqwestError as error:
            raise self._broken(error) from error

    async def _read(self, response: Response, status: int) -> Reply:
        if self._answers == "pass":
            return await answer.keep(response, self.address)
        if 200 <= status < 300:
            if answer.is_event(response):
                return await answer.keep(response, self.address)
            await answer.drain(response)
            return answer.ACCEPTED[status]
        raise await self._failure(response, status)

    async def _failure(self, response: Response, status: int) -> OfeventsError:
        headers = {
            name: value
            for name in ("retry-after", "location")
            if (value := response.get_header(name)) is not None
        }
        said = await answer.quote(response)
        for secret in self._secrets:
            said = said.replace(secret, "***")
        return answer.failure(status, headers, self.address, said, self._clock)

    def _broken(self, error: PyreqwestError) -> OfeventsError:
        """No answer, or half of one: both mean that the call is not acknowledged."""
        if isinstance(error, RequestTimeoutError):
            return TimedOut(f"{self.address} did not answer within {self._timeout:g} s")
        return Unavailable(f"{self.address}: {_cause(error)}", status=0)


def _trace(event: Event, headers: dict[str, str]) -> None:
    attributes = event.attributes
    for name in _TRACE:
        if name in attributes:
            headers[name] = str(attributes[name])


def _cause(error: PyreqwestError) -> str:
    """The innermost cause: the outer ones quote the address with its query."""
    details = getattr(error, "details", None) or {}
    causes = details.get("causes") or []
    inner = str(causes[-1]["message"]) if len(causes) > 1 else ""
    return f"{error.message} ({inner})" if inner and inner != error.message else error.message


def _secrets(target: HttpTarget) -> tuple[str, ...]:
    found = [*target.headers.values()]
    if target.auth is not None:
        found += [target.auth.bearer or "", *(target.auth.basic or ())]
    return tuple(secret for secret in found if len(secret) >= _SHORTEST_SECRET)


def _fixed_headers(target: HttpTarget) -> Mapping[str, str]:
    headers = dict(target.headers)
    if target.auth is not None and target.auth.bearer is not None:
        headers["authorization"] = f"Bearer {target.auth.bearer}"
    if target.auth is not None and target.auth.basic is not None:
        pair = ":".join(target.auth.basic).encode()
        headers["authorization"] = "Basic " + base64.b64encode(pair).decode()
    return headers


@asynccontextmanager
async def open_http(
    target: HttpTarget,
    *,
    subscriber: str,
    clock: Clock,
    format: Format = "binary",
    batch: bool = False,
    answers: Answers = "ignore",
    timeout: float = 30.0,
    connections: int = 32,
) -> AsyncIterator[HttpSubscriber]:
    """An HttpSubscriber with its connections; nothing is connected before the first call.

    Args:
        subscriber: `namespace/trigger/name`, for the Idempotency-Key.
        batch: send all events of a delivery as one CloudEvents batch, whatever `format`.
        timeout: seconds for one call, its answer's body included.
        connections: most connections open at once.

    Raises:
        ConfigError: the target is wrong; the path begins with `sink`.
    """
    target = through_sidecar(target)
    async with AsyncExitStack() as stack:
        oauth2 = None
        if target.auth is not None and target.auth.oauth2 is not None:
            oauth2 = await stack.enter_async_context(OAuth2(target, target.auth.oauth2, clock))
        http = await stack.enter_async_context(
            client.build(
                target, timeout=timeout, connections=connections, headers=_fixed_headers(target)
            )
        )
        yield HttpSubscriber(
            target,
            http,
            oauth2,
            subscriber=subscriber,
            format=format,
            batch=batch,
            answers=answers,
            timeout=timeout,
            clock=clock,
        )
