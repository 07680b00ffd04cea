"""A pub/sub channel: at most once; run by `redis`, one life per connection.

Redis keeps nothing of a channel: what is published while nobody is subscribed is gone,
and a client that does not read is thrown out. So messages are taken off the connection
at once and wait here for emit, as many as there is room for (`WAITING`,
`WAITING_BYTES`). What comes when there is none is dropped and told in the log. Every
subscriber gets every message: a second worker doubles the events. A stream has neither
fault.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio.connection import Connection
from redis.exceptions import ResponseError

from ofevents.clock import Clock
from ofevents.errors import Disconnected, PermanentError, TemporaryError
from ofevents.event import Event
from ofevents.ports import Emit
from ofevents.process import end_if_cancelled
from ofevents.telemetry import Log
from ofevents_adapters.redis_config import Settings
from ofevents_adapters.redis_connection import FAILURES, Server
from ofevents_adapters.redis_record import message

BATCH: Final = 500
"""Most messages of one emit on a bus."""
WAITING: Final = 50_000
"""Most messages that wait for emit, ..."""
WAITING_BYTES: Final = 64 * 1024 * 1024
"""... and most bytes."""
_FIRST: Final = 0.05
_LONGEST: Final = 5.0
"""Seconds between two tries, at least. The engine has waited by itself already."""
_TELL: Final = 5.0
"""Seconds between two log lines about what was dropped."""


class ChannelSession:
    """One connection's subscription, and what waits for emit."""

    def __init__(
        self,
        server: Server,
        settings: Settings,
        emit: Emit,
        *,
        batch: int,
        source: str,
        clock: Clock,
        log: Log,
    ) -> None:
        self._server = server
        self._settings = settings
        self._emit = emit
        self._batch = batch
        self._source = source
        self._clock = clock
        self._log = log
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._bytes = 0
        self._dropped = 0
        self._tell_at = 0.0
        self._filled = asyncio.Event()

    async def run(self, started: Callable[[], None]) -> None:
        """Emit what comes until cancelled; `started` once the server has the subscription.

        Raises:
            Disconnected: the connection is lost.
            ConfigError: the server refuses the subscription.
        """
        try:
            connection = await self._server.connection()
            try:
                await connection.send_command("SUBSCRIBE", self._settings.channel)
                await connection.read_response()
                end_if_cancelled()
                started()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._read(connection), name="redis: reads the channel")
                    await self._work()
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
            finally:
                await connection.disconnect(nowait=True)
        except FAILURES as error:
            what = f"subscribing to {self._settings.channel!r}"
            raise self._server.failed(error, what) from error

    async def _read(self, connection: Connection) -> None:
        """Take messages off the connection; ask for a sign of life where none comes."""
        asked = False
        while True:
            found: Any = await connection.read_response(
                timeout=self._settings.answer, disconnect_on_error=False
            )
            if found is None:  # nothing came in that time
                if asked:
                    raise Disconnected(
                        f"redis-server {self._server.where} does not answer any more"
                    )
                await connection.send_command("PING", check_health=False)
                end_if_cancelled()
                asked = True
                continue
            asked = False
            if found[0] == b"message":
                self._take(found[2])
            elif found[0] == b"unsubscribe":
                raise ResponseError("the subscription was ended")

    def _take(self, data: bytes) -> None:
        if len(self._waiting) >= WAITING or self._bytes + len(data) > WAITING_BYTES:
            self._drop()
            return
        self._bytes += len(data)
        self._waiting.append((data, self._clock.now()))
        self._filled.set()

    def _drop(self) -> None:
        self._dropped += 1
        now = self._clock.monotonic()
        if now >= self._tell_at:
            self._log.error(
                "refused",
                count=self._dropped,
                reason=f"dropped: {len(self._waiting)} messages wait already, and a channel keeps "
                "none; in a stream nothing is lost",
            )
            self._dropped, self._tell_at = 0, now + _TELL

    async def _work(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._waiting:
                await self._settle(self._next())

    def _next(self) -> list[Event]:
        events: list[Event] = []
        while self._waiting and len(events) < self._batch:
            data, came = self._waiting.popleft()
            self._bytes -= len(data)
            id = str(uuid.uuid4())
            events += message(data, self._source, self._settings.channel, id, came)
        return events

    async def _settle(self, events: list[Event]) -> None:
        delay = _FIRST
        while events:
            try:
                for at in range(0, len(events), self._batch):
                    await self._emit(*events[at : at + self._batch])
                return
            except TemporaryError as error:
                await self._clock.sleep(max(delay, error.delay))
                delay = min(delay * 2, _LONGEST)
            except PermanentError as error:
                if len(events) == 1:
                    self._log.error("refused", id=events[0].id, reason=str(error))
                    return
                for event in events:  # it is one of them; the others go on
                    await self._settle([event])
                return
