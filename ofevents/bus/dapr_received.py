"""A message from daprd: kept until it is settled, handed out as often as it takes.

daprd asks once and waits for one verdict; retries and their delays are ours. `Held`
is the message with the way to answer daprd, `DaprReceived` one handing out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from ofevents.bus import codec
from ofevents.bus import dapr_envelope as envelope
from ofevents.event import Event
from ofevents.ports import Delivery, Verdict

_UNREAD: Final[Any] = object()


class Answer(Protocol):
    """Tells daprd the verdict on one message; never blocks."""

    @property
    def gone(self) -> bool:
        """Whether daprd waits no more: it hands the message out again by itself."""
        ...

    def __call__(self, done: bool) -> None: ...


class Both:
    """A message that daprd has delivered again while the first delivery was in hand."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: Answer, second: Answer) -> None:
        self._first = first
        self._second = second

    @property
    def gone(self) -> bool:
        return self._first.gone and self._second.gone

    def __call__(self, done: bool) -> None:
        self._first(done)
        self._second(done)


class Held:
    """One message in this process. `key` tells a redelivery of it; None for strangers'."""

    __slots__ = ("_body", "_split", "answer", "at", "attempt", "key", "raw", "strange", "topic")

    def __init__(
        self, topic: str, raw: bytes, answer: Answer, strange: Mapping[str, str], now: int
    ) -> None:
        """`strange` are the hop's headers where daprd tells them, `now` nanoseconds."""
        found = envelope.head(raw)
        self.topic = topic
        self.raw = raw
        self.answer = answer
        self.at = now if found is None else found.at
        self.key = None if found is None else (topic, found.id)
        self.strange = strange
        self.attempt = 0
        self._split: Any = _UNREAD
        self._body: Any = _UNREAD

    @property
    def parts(self) -> tuple[Mapping[str, str], bytes]:
        """Headers and body."""
        if self._split is _UNREAD:
            found = envelope.split(self.raw) if self.key is not None else None
            self._split = found or (self.strange, self.raw)
        parts: tuple[Mapping[str, str], bytes] = self._split
        return parts

    @property
    def body(self) -> Event | Delivery:
        """As `Received.body`."""
        if self._body is _UNREAD:
            self._body = codec.decode(*self.parts)
        body: Event | Delivery = self._body
        return body


class DaprReceived:
    """See `ofevents.ports.Received`. `attempt` counts within this process: Dapr tells no
    count of its own."""

    __slots__ = ("_held", "_settle", "attempt", "settled")

    def __init__(self, held: Held, settle: Callable[[Held, Verdict], None]) -> None:
        self._held = held
        self._settle = settle
        self.attempt = held.attempt
        self.settled = False

    @property
    def topic(self) -> str:
        return self._held.topic

    @property
    def stored(self) -> float:
        return self._held.at / 1e9

    @property
    def position(self) -> str:
        return str(self._held.at)

    @property
    def headers(self) -> Mapping[str, str]:
        return self._held.parts[0]

    @property
    def raw(self) -> bytes:
        return self._held.parts[1]

    @property
    def size(self) -> int:
        return len(self.raw)

    @property
    def body(self) -> Event | Delivery:
        return self._held.body

    def settle(self, verdict: Verdict) -> None:
        """See the port."""
        if self.settled:
            return
        self.settled = True
        self._settle(self._held, verdict)
