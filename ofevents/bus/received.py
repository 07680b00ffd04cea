"""A JetStream message in a consumer's hands, decoded only as far as it is read.

This is the hot path: one object per message, made when it arrives, and nothing
parsed before somebody asks. The acknowledgement subject carries the message's
history: `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<consumer's
sequence>.<stored, ns>.<pending>`, or twelve tokens with domain and account in
front; so it is read from the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from ofevents.bus import codec
from ofevents.event import Event
from ofevents.ports import Delivery, Verdict

ACK: Final = b"+ACK"
PROGRESS: Final = b"+WPI"
_UNREAD: Final[Any] = object()


class JetStreamReceived:
    """See `ofevents.ports.Received`."""

    __slots__ = (
        "_acknowledge",
        "_body",
        "_done",
        "_headers",
        "_reply",
        "raw",
        "settled",
        "topic",
    )

    topic: str
    raw: bytes

    def __init__(
        self,
        topic: str,
        data: bytes,
        headers: Mapping[str, str] | None,
        reply: str,
        acknowledge: Callable[[str, bytes], None],
        done: Callable[[], None],
    ) -> None:
        self.topic = topic
        self.settled = False
        self.raw = data
        self._headers = headers or {}
        self._reply = reply
        self._acknowledge = acknowledge
        self._done = done
        self._body: Any = _UNREAD

    @property
    def attempt(self) -> int:
        return int(self._tokens()[4])

    @property
    def stored(self) -> float:
        return int(self._tokens()[7]) / 1e9

    @property
    def position(self) -> str:
        return self._tokens()[5]

    @property
    def headers(self) -> Mapping[str, str]:
        return {name.lower(): value for name, value in self._headers.items()}

    @property
    def size(self) -> int:
        return len(self.raw)

    @property
    def body(self) -> Event | Delivery:
        if self._body is _UNREAD:
            self._body = self._decode()
        body: Event | Delivery = self._body
        return body

    def _decode(self) -> Event | Delivery:
        data_at = self._headers.get(codec.DATA_AT)
        if data_at is not None and data_at.isdecimal():
            # The common case without a copy of the headers.
            return codec.decode({codec.DATA_AT: data_at}, self.raw)
        return codec.decode(self.headers, self.raw)

    def _tokens(self) -> list[str]:
        tokens = self._reply.split(".")
        return tokens if len(tokens) == 9 else tokens[2:]

    def settle(self, verdict: Verdict) -> None:
        """See the port."""
        if self.settled:
            return
        self.settled = True
        if verdict.done:
            self._acknowledge(self._reply, ACK)
        elif verdict.after > 0:
            delay = json.dumps({"delay": int(verdict.after * 1e9)})
            self._acknowledge(self._reply, b"-NAK " + delay.encode())
        else:
            self._acknowledge(self._reply, b"-NAK")
        self._done()

    def progress(self) -> None:
        """Keep the server from handing it to another consumer for an ack wait more."""
        if not self.settled:
            self._acknowledge(self._reply, PROGRESS)


class Browsed:
    """A message read without a group: nothing to settle."""

    __slots__ = ("_body", "headers", "position", "raw", "stored", "topic")

    topic: str
    stored: float
    position: str
    headers: Mapping[str, str]

    def __init__(
        self, topic: str, data: bytes, headers: Mapping[str, str], position: str, stored: float
    ) -> None:
        self.topic = topic
        self.headers = headers
        self.position = position
        self.stored = stored
        self.raw = data
        self._body: Any = _UNREAD

    @property
    def attempt(self) -> int:
        return 1

    @property
    def size(self) -> int:
        return len(self.raw)

    @property
    def body(self) -> Event | Delivery:
        if self._body is _UNREAD:
            self._body = codec.decode(self.headers, self.raw)
        body: Event | Delivery = self._body
        return body

    def settle(self, verdict: Verdict) -> None:
        """Does nothing: it belongs to no group."""
