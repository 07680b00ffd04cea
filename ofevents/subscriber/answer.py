"""What an HTTP answer means for the event (promise 6), and its body within a limit.

Called by `http.py` for every answer. The body is always read up to a limit and
no further: drained so that the connection can be used again, kept only where
somebody wants it, quoted in an error's text.
"""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from typing import Final, Literal

from pyreqwest.response import Response

from ofevents.clock import Clock
from ofevents.errors import Misconfigured, OfeventsError, Rejected, TooLarge, Unavailable
from ofevents.ports import Reply

Answers = Literal["ignore", "events", "pass"]
"""Which answers are kept: none, those that are CloudEvents, or every one as it is.

With `pass` any status is a Reply: the answer goes to a caller who waits (promise 11).
"""

BODY_LIMIT: Final = 1024 * 1024
"""Bytes kept of an answer; a longer one that is wanted is an error."""
_DRAIN_LIMIT: Final = 256 * 1024
_QUOTED: Final = 200
_LONGEST_RETRY_AFTER: Final = 86_400.0

_REJECTED: Final = frozenset({400, 409, 410, 413, 415, 422})
_MISCONFIGURED: Final = frozenset({401, 403, 404, 405})
_OF_THE_HOP: Final = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
ACCEPTED: Final = {status: Reply(status) for status in range(200, 300)}
"""One Reply per status for answers that nobody reads: the usual case allocates nothing."""


async def drain(response: Response) -> None:
    """Read the rest so that the connection is free again; too much is left unread."""
    length = response.get_header("content-length")
    if length == "0" or (length is not None and int(length) > _DRAIN_LIMIT):
        return
    reader, seen = response.body_reader, 0
    while seen <= _DRAIN_LIMIT and (chunk := await reader.read_chunk()) is not None:
        seen += len(chunk)


async def keep(response: Response, what: str) -> Reply:
    """The whole answer, headers of the connection left out.

    Raises:
        TooLarge: the body is over `BODY_LIMIT` bytes.
    """
    chunks: list[bytes] = []
    reader, seen = response.body_reader, 0
    while (chunk := await reader.read_chunk()) is not None:
        seen += len(chunk)
        if seen > BODY_LIMIT:
            raise TooLarge(
                f"the answer of {what} has more than {BODY_LIMIT} bytes, which is the most "
                "that is passed on"
            )
        chunks.append(chunk.to_bytes())
    names = response.headers.keys()
    headers = {
        name: ", ".join(response.get_header_all(name)) for name in names if name not in _OF_THE_HOP
    }
    return Reply(response.status, headers, b"".join(chunks))


def is_event(response: Response) -> bool:
    """Whether the answer says of itself that it is a CloudEvent, or a batch of them."""
    if response.get_header("ce-specversion") is not None:
        return True
    content_type = response.get_header("content-type")
    return content_type is not None and content_type.lower().startswith("application/cloudevents")


async def quote(response: Response) -> str:
    """The start of a failed answer's body, for the error's text; the rest is drained."""
    chunk = await response.body_reader.read_chunk()
    if chunk is None:
        return ""
    await drain(response)
    text = chunk.to_bytes()[: 4 * _QUOTED].decode("utf-8", "replace")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _QUOTED else line[:_QUOTED] + " ..."


def failure(
    status: int, headers: Mapping[str, str], what: str, said: str, clock: Clock
) -> OfeventsError:
    """The error that a status which is not 2xx stands for.

    Args:
        headers: `retry-after` and `location` are read, names in lower case.
        what: the subscriber's address without secrets.
        said: the start of its body, without secrets.
    """
    text = f"{what} answered {status}" + (f": {said}" if said else "")
    if status in _REJECTED:
        return Rejected(text, status=status)
    delay = retry_after(headers.get("retry-after"), clock)
    if status in _MISCONFIGURED:
        return Misconfigured(text, status=status, delay=delay)
    if 300 <= status < 400:
        hint = "; redirects are not followed: set sink.uri to the final address"
        return Misconfigured(text + hint, status=status, delay=delay)
    return Unavailable(text, status=status, delay=delay)


def retry_after(value: str | None, clock: Clock) -> float:
    """Retry-After in seconds, from a number or an HTTP date; 0 where there is none.

    At most a day: a mistaken value must not put an event off for years.
    """
    if not value:
        return 0.0
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), _LONGEST_RETRY_AFTER)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return min(max(0.0, when.timestamp() - clock.now()), _LONGEST_RETRY_AFTER)
