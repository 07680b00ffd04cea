"""JetStream: messages of a durable consumer, at least once; run by `nats`, one life per
connection.

    pull request -> messages in hand (waiting, then open) -> emit -> ack

One emit is open at a time, with all that has come, in the stream's order; so what one
worker emits comes in order as long as nothing comes again. A message is acknowledged
only after emit has returned for it. While it is in hand the server is told so, however
long emit takes. When emit fails, the messages are given back for a while, and come
again with the same ids, to whichever worker is free. One request is out at a time, for
no more messages and bytes than there is room for (promise 7).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import nats.errors
import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from ofevents.clock import Clock
from ofevents.errors import Disconnected, PermanentError, TemporaryError
from ofevents.ports import Emit
from ofevents.process import end_if_cancelled
from ofevents.telemetry import Log
from ofevents_adapters.nats_connection import ANSWER, Connection
from ofevents_adapters.nats_consumer import NANO, Consumer, Consumers
from ofevents_adapters.nats_record import Taken

IN_FLIGHT: Final = 1000
"""Most messages in hand, ..."""
IN_FLIGHT_BYTES: Final = 32 * 1024 * 1024
"""... and most bytes; twice the server's largest message where that is more."""
BATCH: Final = 500
"""Most messages of one emit on a bus."""
EXPIRES: Final = 30.0
"""Seconds that a request waits at the server."""
HEARTBEAT: Final = 5.0
"""Seconds between the server's signs of life while it has nothing for us."""
LOOK: Final = 5.0
"""Most seconds between two looks at the lag and at the heartbeats."""
_FIRST: Final = 0.05
_LONGEST: Final = 5.0
"""Seconds after which what emit has refused comes again: from, to."""
_LEAVE: Final = 2.0
_BATCH_BYTES: Final = 4 * 1024 * 1024
"""An emit takes no further message beyond: decoded, messages are several times as large."""

_ACK: Final = b"+ACK"
_NAK: Final = b"-NAK"
_PROGRESS: Final = b"+WPI"


class JetStreamSession:
    """One connection's subscription, and what it has in hand."""

    def __init__(
        self,
        connection: Connection,
        consumers: Consumers,
        consumer: Consumer,
        emit: Emit,
        *,
        batch: int,
        source: str,
        clock: Clock,
        log: Log,
        lagging: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._client = connection.client
        self._consumers = consumers
        self._consumer = consumer
        self._emit = emit
        self._batch = batch
        self._source = source
        self._clock = clock
        self._log = log
        self._lagging = lagging
        self._room = min(IN_FLIGHT, consumer.most or IN_FLIGHT)
        self._room_bytes = max(IN_FLIGHT_BYTES, 2 * self._client.max_payload)
        self._waiting: deque[Taken] = deque()
        self._open: dict[Taken, None] = {}
        self._bytes = 0
        self._asked = 0
        self._heard = 0.0
        self._problem = ""
        self._inbox = ""
        self._changed = asyncio.Event()

    async def run(self, started: Callable[[], None]) -> None:
        """Emit what comes until cancelled; `started` once the server may send.

        Raises:
            Disconnected: the consumer is gone, or the server does not answer any more.
            ConfigError: the server refuses to let us read.
        """
        self._inbox, self._heard = self._client.new_inbox(), self._clock.monotonic()
        try:
            subscription = await self._client.subscribe(
                self._inbox, cb=self._take, pending_msgs_limit=0, pending_bytes_limit=0
            )
            await self._client.flush(int(ANSWER))
            end_if_cancelled()
        except nats.errors.Error as error:
            raise self._connection.failed(error, "subscribing") from error
        self._connection.check()
        started()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep(), name="nats: extends what is in hand")
                tasks.create_task(self._look(), name="nats: looks at the consumer")
                await self._work()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            await self._leave(subscription)

    async def _work(self) -> None:
        while True:
            if self._problem:
                raise Disconnected(
                    f"consumer {self._consumer.name} of stream {self._consumer.stream} at "
                    f"nats-server {self._connection.where}: {self._problem}"
                )
            await self._pull()
            if self._waiting:
                taken = self._next()
                self._open = dict.fromkeys(taken)
                await self._settle(taken)
            else:
                await self._changed.wait()
                self._changed.clear()

    async def _leave(self, subscription: Subscription) -> None:
        """End the subscription, and give back at once what is not settled.

        `drain` waits for the server's pong, so what it had sent already has come.
        """
        try:
            async with asyncio.timeout(_LEAVE):
                await subscription.drain()  # type: ignore[no-untyped-call]
                await self._answer([*self._open, *self._waiting], _NAK)
                await self._client.flush()
        except (TimeoutError, nats.errors.Error, Disconnected):
            pass  # the connection is gone: they come again after the ack wait

    # -- in -------------------------------------------------------------------------

    async def _pull(self) -> None:
        """Ask for what there is room for, once the last request is used up."""
        held = len(self._waiting) + len(self._open)
        most, size = self._room - held, self._room_bytes - self._bytes
        if self._asked or most < (self._room + 1) // 2 or size < self._room_bytes // 2:
            return
        consumer = self._consumer
        expires = min(EXPIRES, consumer.expires or EXPIRES)
        most = min(most, consumer.batch or most)
        request = {
            "batch": most,
            "max_bytes": min(size, consumer.bytes or size),
            "expires": int(expires * NANO),
            "idle_heartbeat": int(min(HEARTBEAT, expires / 3) * NANO),
        }
        place = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}"
        self._asked, self._heard = most, self._clock.monotonic()
        try:
            await self._client.publish(place, orjson.dumps(request), reply=self._inbox)
        except nats.errors.Error as error:
            raise self._connection.failed(error, "asking for messages") from error

    async def _take(self, message: Msg) -> None:
        """A message, or a status that the server sends in its place; called by nats-py."""
        self._heard = self._clock.monotonic()
        if message.reply.startswith("$JS.ACK."):
            self._asked -= 1
            self._bytes += len(message.data)
            self._waiting.append(Taken(message))
        else:
            self._status(message.headers or {})
        self._changed.set()

    def _status(self, headers: dict[str, str]) -> None:
        status, text = headers.get("Status", ""), headers.get("Description", "")
        if status == "100":
            return
        # 408 and most of 409 end a request, and say what it has not delivered.
        left = headers.get("Nats-Pending-Messages")
        if status in ("408", "409") and left is not None:
            self._asked = max(0, self._asked - int(left))
        else:
            self._problem = f"{status} {text}".strip()

    def _next(self) -> list[Taken]:
        taken: list[Taken] = []
        size = 0
        while self._waiting and len(taken) < self._batch and size < _BATCH_BYTES:
            taken.append(self._waiting.popleft())
            size += taken[-1].size
        return taken

    # -- out ------------------------------------------------------------------------

    async def _settle(self, taken: Sequence[Taken]) -> None:
        events = [event for one in taken for event in one.events(self._source)]
        try:
            if self._batch == 1:
                for event in events:
                    await self._emit(event)
            elif events:
                await self._emit(*events)
        except TemporaryError as error:
            self._log.debug("retrying", reason=str(error))
            await self._give_back(taken, error.delay)
        except PermanentError as error:
            if len(taken) > 1:
                # It is one of them; the others go on.
                for one in taken:
                    await self._settle([one])
                return
            # No dead letter can take it, and skipping it would lose it in silence.
            self._log.error("stalled", reason=str(error), id=events[0].id)
            await self._give_back(taken, _LONGEST)
        else:
            await self._answer(taken, _ACK)
            self._forget(taken)

    async def _give_back(self, taken: Sequence[Taken], least: float) -> None:
        for one in taken:
            delay = max(least, min(_LONGEST, _FIRST * 2 ** min(one.attempt - 1, 10)))
            await self._answer([one], b'%b {"delay": %d}' % (_NAK, delay * NANO))
        self._forget(taken)

    def _forget(self, taken: Sequence[Taken]) -> None:
        for one in taken:
            self._bytes -= one.size
            del self._open[one]

    async def _answer(self, taken: Sequence[Taken], what: bytes) -> None:
        try:
            for one in taken:
                await self._client.publish(one.reply, what)
        except nats.errors.Error as error:
            raise self._connection.failed(error, "acknowledging") from error

    # -- beside ---------------------------------------------------------------------

    async def _keep(self) -> None:
        """Tell the server, each third of the ack wait, that what is in hand is worked on."""
        while True:
            await self._clock.sleep(self._consumer.ack_wait / 3)
            await self._answer([*self._open, *self._waiting], _PROGRESS)

    async def _look(self) -> None:
        """The lag as a metric, and whether the server is still there."""
        while True:
            silent = self._clock.monotonic() - self._heard
            if self._asked and silent > 2 * HEARTBEAT + LOOK:
                raise Disconnected(
                    f"nats-server {self._connection.where}: its heartbeats have stopped"
                )
            pending = await self._consumers.pending()
            if pending is not None:
                self._lagging(pending)
            await self._clock.sleep(LOOK)
