"""An HTTP request as bytes within a limit, and as events; called by the `webhook` source."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import uuid4

import orjson
from starlette.requests import Request

from ofevents.api.webhook import WebhookSpec
from ofevents.errors import BadEvent, TemporaryError, TooLarge
from ofevents.event import Event, Scalar, check_attributes, format_time, from_http, is_json

TYPE: Final = "ofevents.webhook"
_BODY_TIME: Final = 30.0
"""Seconds a caller has to send its body."""
_DRAIN: Final = 32 * 1024 * 1024
"""Bytes over the limit that are read and dropped, so that the caller is still there
to read the answer."""


async def read(request: Request, limit: int) -> bytes:
    """The whole body; never more than `limit` bytes of it are kept.

    Raises:
        TooLarge: it is longer.
        TemporaryError: it does not arrive.
        ClientDisconnect: the caller has gone.
    """
    declared = int(request.headers.get("content-length", "0"))
    if declared > limit and ("expect" in request.headers or declared > limit + _DRAIN):
        raise _too_large(limit, str(declared))
    try:
        async with asyncio.timeout(_BODY_TIME):
            chunks, size = await _collect(request, limit)
    except TimeoutError as error:
        raise TemporaryError(f"the body did not arrive within {_BODY_TIME:g} s") from error
    if size > limit:
        raise _too_large(limit, str(declared) if declared else f"at least {size}")
    return b"".join(chunks)


async def _collect(request: Request, limit: int) -> tuple[list[bytes], int]:
    """The body while it is within the limit, and how much of it was seen."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        else:
            chunks.clear()
        if size > limit + _DRAIN:
            break
    return chunks, size


def _too_large(limit: int, found: str) -> TooLarge:
    return TooLarge(f"the body has {found} bytes; maxBodyBytes allows {limit}")


def events_of(
    request: Request, body: bytes, spec: WebhookSpec, *, source: str, now: float
) -> list[Event]:
    """The CloudEvents of a request, or the one event that its body becomes.

    That one has the id of `idHeader` or a new one, the type `ofevents.webhook` or
    `ofevents.webhook.<typeHeader>`, the source that is given, and a query as `query`.

    Raises:
        BadEvent: it claims to hold CloudEvents and holds none, or a header that
            becomes an attribute is not UTF-8.
    """
    headers = request.scope["headers"]
    events = from_http(headers, body)
    if events is not None:
        return events
    attributes: dict[str, Scalar] = {
        "specversion": "1.0",
        "id": _header(request, spec.id_header) or str(uuid4()),
        "source": source,
        "type": TYPE,
        "time": format_time(now),
    }
    if kind := _header(request, spec.type_header):
        attributes["type"] = f"{TYPE}.{kind}"
    if query := request.scope["query_string"]:
        attributes["query"] = query.decode("latin-1")
    content_type = _header(request, "content-type")
    if content_type is None and body:
        content_type = "application/json" if _is_json(body) else "application/octet-stream"
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    check_attributes(attributes)
    # No bytes are no JSON value, but they are an empty text.
    return [Event(attributes, body if body or not is_json(content_type) else None)]


def _header(request: Request, name: str | None) -> str | None:
    """A header's value; None where there is none, or it is empty."""
    if name is None:
        return None
    wanted = name.lower().encode("latin-1", "replace")
    for found, value in request.scope["headers"]:
        if found == wanted:
            try:
                return value.decode().strip() or None
            except UnicodeDecodeError as error:
                raise BadEvent(
                    f"header {name} is not UTF-8: {error.reason} at byte {error.start}"
                ) from error
    return None


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True
