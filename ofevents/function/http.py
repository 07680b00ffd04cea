"""A function called over HTTP: a CloudEvent in, its return value as the answer.

    None -> 204      an Event -> a CloudEvent (binary)      bytes, str, JSON -> 200
    Rejected -> 422  TemporaryError -> 503 with Retry-After  not a CloudEvent -> 400
    any other exception -> 500: the Trigger tries again

A request that is no CloudEvent (a subscriber with `format: raw`, a person with
curl) becomes an Event of type `http.request`; a batch calls the function once
per event, and the first that raises decides the answer.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ofevents.errors import BadEvent, PermanentError, Rejected, TemporaryError, TooLarge
from ofevents.event import Event
from ofevents.event.http import from_http, to_http
from ofevents.function.call import Context, Handler, call
from ofevents.telemetry import Log

MAX_BODY: Final = 16 * 1024 * 1024

Endpoint = Callable[[Request], Any]


def endpoint(handler: Handler, context: Callable[[Event], Context], log: Log) -> Endpoint:
    """The Starlette endpoint that calls `handler`; `context` makes each call's Context."""

    async def answer(request: Request) -> Response:
        try:
            events = await _events(request)
            results = [await call(handler, context(event)) for event in events]
            return _response(results[0] if len(results) == 1 else None)
        except TemporaryError as error:
            delay = {"retry-after": str(math.ceil(error.delay))} if error.delay else {}
            return Response(f"{error}\n", 503, delay)
        except TooLarge as error:
            return Response(f"{error}\n", 413)
        except BadEvent as error:
            return Response(f"{error}\n", 400)
        except PermanentError as error:
            status = error.status if isinstance(error, Rejected) else 0
            return Response(f"{error}\n", status or 422)
        except Exception as error:
            log.error("retrying", reason=f"{type(error).__name__}: {error}", exc_info=error)
            return Response(f"{type(error).__name__}: {error}\n", 500)

    return answer


async def _events(request: Request) -> list[Event]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise TooLarge(f"the request is over {MAX_BODY} bytes")
    found = from_http(request.headers.raw, bytes(body))
    if found is not None:
        return found
    return [
        Event.create(
            id=request.headers.get("idempotency-key") or str(uuid.uuid4()),
            source=request.url.path,
            type="http.request",
            data=bytes(body) or None,
            datacontenttype=request.headers.get("content-type"),
        )
    ]


def _response(result: Any) -> Response:
    match result:
        case None:
            return Response(status_code=204)
        case Event():
            headers, body = to_http(result)
            return Response(body, headers=headers)
        case bytes():
            return Response(result, media_type="application/octet-stream")
        case str():
            return Response(result, media_type="text/plain")
    return Response(orjson.dumps(result), media_type="application/json")
