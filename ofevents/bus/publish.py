"""Publishing to JetStream: many in flight, every one with a deadline.

Called by the driver's `publish` and by the store's writes. A call's messages
are written one after the other without waiting; their acknowledgements come
back on the link's one inbox and are counted, one future for a whole call. A
lost connection fails what is in flight at once, a full stream is given room
once and tried again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from nats.aio.msg import Msg

from ofevents.bus import codec
from ofevents.bus.layout import Layout
from ofevents.bus.link import Link
from ofevents.bus.room import Room
from ofevents.clock import Clock
from ofevents.errors import BusFull, ConfigError, Conflict, Disconnected, OfeventsError, TooLarge
from ofevents.ports import Delivery, Message

CHUNK: Final = 1000
"""Messages in flight of one call; the deadline counts for each chunk."""
HEADER_ROOM: Final = 8 * 1024
"""Bytes of the server's max_payload that headers may take."""

_FULL: Final = (10077, 10023, 10047)
_WRONG_LAST: Final = (10071, 10164)
_TOO_LARGE: Final = 10054
_NOT_READY_PAUSE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message as it is written."""

    subject: str
    headers: dict[str, str]
    body: bytes


class Publisher:
    """Publishes on one Link."""

    def __init__(self, link: Link, layout: Layout, room: Room, clock: Clock) -> None:
        self._link = link
        self._layout = layout
        self._room = room
        self._clock = clock
        self._deadline = link.options.publish_deadline

    @property
    def max_body(self) -> int:
        """Largest body that the server takes, headers set aside."""
        client = self._link.client
        return (client.max_payload if client else 1024 * 1024) - HEADER_ROOM

    @property
    def max_size(self) -> int:
        """Largest body of an event: a Delivery of it fits too."""
        return self.max_body - codec.DELIVERY_ROOM

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """See `Bus.publish`."""
        stream = self._layout.stream_of(topic)
        outgoing = [self._encode(topic, message) for message in messages]
        for at in range(0, len(outgoing), CHUNK):
            await self._store(stream, outgoing[at : at + CHUNK])

    def _encode(self, topic: str, message: Message) -> Outgoing:
        headers, body = codec.encode(message)
        most = self.max_body if isinstance(message.body, Delivery) else self.max_size
        if len(body) > most:
            raise TooLarge(f"a message of {len(body)} bytes; the bus takes {most} at most")
        extra = sum(len(k) + len(v.encode()) + 4 for k, v in message.headers.items())
        if extra > HEADER_ROOM - 1024:
            raise TooLarge(f"headers of {extra} bytes; the bus takes {HEADER_ROOM - 1024} at most")
        id = codec.message_id(topic, message)
        headers["Nats-Msg-Id"] = id
        if not message.due:
            return Outgoing(self._layout.subject(topic), headers, body)
        if not topic.startswith("inbox."):
            raise ConfigError(f"{topic} keeps nothing back until it is due: only an inbox does")
        if message.due <= self._clock.now():
            return Outgoing(self._layout.subject(topic), headers, body)
        headers["Nats-Schedule"] = "@at " + datetime.fromtimestamp(message.due, UTC).isoformat()
        headers["Nats-Schedule-Target"] = self._layout.subject(topic)
        return Outgoing(self._layout.scheduled_subject(topic, id), headers, body)

    async def _store(self, stream: str, outgoing: list[Outgoing]) -> None:
        """Send, and again what was refused for want of room or of a ready server."""
        size = sum(len(one.body) for one in outgoing)
        try:
            async with asyncio.timeout(self._deadline), self._room.reserve(stream, size):
                await self._insist(stream, outgoing)
        except TimeoutError:
            reason = self._link.reason or "the server did not answer"
            raise Disconnected(
                f"the bus did not confirm within {self._deadline:g} s: {reason}"
            ) from None

    async def _insist(self, stream: str, outgoing: list[Outgoing]) -> None:
        seen, made = self._room.made[stream], 0
        while refused := await self._send(outgoing):
            outgoing = [one for one, _ in refused]
            error = refused[0][1]
            if isinstance(error, BusFull) and made < 3:
                await self._room.make(stream, seen)
                seen = self._room.made[stream]
                made += 1
            elif isinstance(error, Disconnected):
                await asyncio.sleep(_NOT_READY_PAUSE)
            else:
                raise error

    async def _send(self, outgoing: list[Outgoing]) -> list[tuple[Outgoing, OfeventsError]]:
        """Write all, wait for all answers; what was refused and can be tried again.

        Raises:
            Disconnected: the connection was lost before all were answered.
            PermanentError, Conflict: the server refused for good.
        """
        await self._link.ready()
        batch = _Batch(self._link, len(outgoing))
        try:
            for one in outgoing:
                await self._link.send(
                    one.subject, one.body, reply=batch.expect(), headers=one.headers
                )
            await batch.future
        finally:
            batch.forget()
        return [(outgoing[at], error) for at, error in batch.refused]

    async def put(self, subject: str, headers: dict[str, str], body: bytes) -> int:
        """Write one message to the store's bucket; its revision.

        Raises:
            Conflict: the expected revision is not the current one.
            Disconnected, BusFull: as `Bus.publish`.
        """
        msg = await self._link.ask(subject, body, headers=headers)
        if error := _refusal(msg):
            raise error
        revision: int = json.loads(msg.data)["seq"]
        return revision


class _Batch:
    """Counts the answers to one call's messages."""

    __slots__ = ("_at", "_first", "_left", "_link", "_tokens", "future", "refused")

    def __init__(self, link: Link, count: int) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.refused: list[tuple[int, OfeventsError]] = []
        self._link = link
        self._left = count
        self._tokens: dict[str, int] = {}

    def expect(self) -> str:
        token, reply = self._link.answers.expect(self)
        self._tokens[token] = len(self._tokens)
        return reply

    def answer(self, msg: Msg) -> bool:
        if (msg.headers or b'"error"' in msg.data) and (error := _refusal(msg)):
            token = msg.subject.rpartition(".")[2]
            if isinstance(error, BusFull | Disconnected):
                self.refused.append((self._tokens[token], error))
            elif not self.future.done():
                self.future.set_exception(error)
        self._left -= 1
        if self._left == 0 and not self.future.done():
            self.future.set_result(None)
        return True

    def lost(self, error: Disconnected) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def forget(self) -> None:
        """Expect nothing more; an answer that still comes is nobody's."""
        if self._left:
            for token in self._tokens:
                self._link.answers.forget(token)
        self.future.cancel()


def _refusal(msg: Msg) -> OfeventsError | None:
    """What an answer of the server means when it is no success."""
    if msg.headers and msg.headers.get("Status") == "503":
        return Disconnected("JetStream does not take messages: it is not ready")
    error = json.loads(msg.data).get("error")
    if error is None:
        return None
    code, text = error.get("err_code", 0), error.get("description", "unknown error")
    if code in _FULL:
        return BusFull(f"the bus is full: {text}")
    if code in _WRONG_LAST:
        return Conflict(f"the store's entry has changed: {text}")
    if code == _TOO_LARGE:
        return TooLarge(f"the bus refuses the message's size: {text}")
    return Disconnected(f"the bus did not store the message: {text}")
