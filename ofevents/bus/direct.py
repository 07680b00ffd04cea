"""Reading stored messages by subject, many per request: JetStream's direct get.

Called by `browse` and by the store's `get` and `list`. It makes no consumer, so
it works on every stream, leaves nothing behind and changes no position.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from nats.aio.msg import Msg

from ofevents.bus.link import Link
from ofevents.errors import Disconnected

BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as the stream keeps it; `headers` in lower case, without the server's."""

    subject: str
    sequence: int
    time: float
    headers: dict[str, str]
    data: bytes


async def last(link: Link, stream: str, subject: str) -> Stored | None:
    """The last message on a subject."""
    msg = await link.ask(f"$JS.API.DIRECT.GET.{stream}.{subject}")
    return _read(msg)


async def following(
    link: Link,
    stream: str,
    subject: str,
    *,
    sequence: int = 0,
    since: float = 0.0,
    batch: int = BATCH,
) -> tuple[list[Stored], bool]:
    """Messages on a subject (wildcards allowed) from a sequence, or a time, on.

    Also whether more may follow these.

    Raises:
        Disconnected: no answer in time.
    """
    request: dict[str, Any] = {"batch": batch, "next_by_subj": subject}
    if sequence or not since:
        request["seq"] = max(1, sequence)
    else:
        request["start_time"] = datetime.fromtimestamp(since).astimezone().isoformat()
    if link.client is None:
        await link.ready(link.options.publish_deadline)
    pages = _Pages(asyncio.get_running_loop().create_future())
    token, reply = link.answers.expect(pages)
    try:
        async with asyncio.timeout(link.options.publish_deadline):
            await link.send(
                f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=reply
            )
            more = await pages.future
    except TimeoutError:
        raise Disconnected(f"no answer to reading {subject} in time") from None
    finally:
        link.answers.forget(token)
    return pages.found, more


class _Pages:
    """Collects a batch until the server's end mark."""

    def __init__(self, future: asyncio.Future[bool]) -> None:
        self.found: list[Stored] = []
        self.future = future

    def answer(self, msg: Msg) -> bool:
        status = (msg.headers or {}).get("Status")
        if status is None:
            if (stored := _read(msg)) is not None:
                self.found.append(stored)
            return False
        if not self.future.done():
            if status in ("204", "404"):
                left = int((msg.headers or {}).get("Nats-Num-Pending", "0"))
                self.future.set_result(status == "204" and left > 0)
            else:
                text = (msg.headers or {}).get("Description", "")
                self.future.set_exception(Disconnected(f"the bus cannot be read: {status} {text}"))
        return True

    def lost(self, error: Disconnected) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def _read(msg: Msg) -> Stored | None:
    headers = msg.headers or {}
    if status := headers.get("Status"):
        if status == "404":
            return None
        raise Disconnected(f"the bus cannot be read: {status} {headers.get('Description', '')}")
    time = headers["Nats-Time-Stamp"]
    return Stored(
        subject=headers["Nats-Subject"],
        sequence=int(headers["Nats-Sequence"]),
        time=_seconds(time),
        headers={k.lower(): v for k, v in headers.items() if k not in _SERVERS},
        data=msg.data or b"",
    )


_SERVERS: Final = frozenset(
    {
        "Nats-Stream",
        "Nats-Subject",
        "Nats-Sequence",
        "Nats-Time-Stamp",
        "Nats-Num-Pending",
        "Nats-Last-Sequence",
    }
)


def _seconds(text: str) -> float:
    """RFC 3339 with up to nine digits of fraction, as Go writes it."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{fraction or 0}")
