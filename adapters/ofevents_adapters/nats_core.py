"""Core NATS: messages of subjects, at most once; run by `nats`, one life per connection.

Core NATS keeps nothing: what is sent while nobody is subscribed is gone, and a client
that does not read is thrown out. So messages are taken off the connection at once and
wait here for emit, as many as there is room for (`WAITING`, `WAITING_BYTES`). What
comes when there is none is dropped and told in the log. JetStream loses nothing.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from typing import Final

import nats.errors
from nats.aio.msg import Msg

from ofevents.clock import Clock
from ofevents.errors import PermanentError, TemporaryError
from ofevents.event import Event
from ofevents.ports import Emit
from ofevents.process import end_if_cancelled
from ofevents.telemetry import Log
from ofevents_adapters.nats_config import Settings
from ofevents_adapters.nats_connection import ANSWER, Connection
from ofevents_adapters.nats_record import events_of

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


class CoreSession:
    """One connection's subscriptions, and what waits for emit."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        emit: Emit,
        *,
        batch: int,
        source: str,
        clock: Clock,
        log: Log,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._emit = emit
        self._batch = batch
        self._source = source
        self._clock = clock
        self._log = log
        self._waiting: deque[tuple[Msg, float]] = deque()
        self._bytes = 0
        self._dropped = 0
        self._tell_at = 0.0
        self._filled = asyncio.Event()

    async def run(self, started: Callable[[], None]) -> None:
        """Emit what comes until cancelled; `started` once the server has the subscriptions.

        Raises:
            Disconnected: they could not be made.
            ConfigError: the server refuses them.
        """
        client = self._connection.client
        try:
            for subject in self._settings.subjects:
                await client.subscribe(
                    subject,
                    queue=self._settings.queue,
                    cb=self._take,
                    pending_msgs_limit=0,  # counted here
                    pending_bytes_limit=0,
                )
            await client.flush(int(ANSWER))
            end_if_cancelled()
        except nats.errors.Error as error:
            what = f"subscribing to {', '.join(self._settings.subjects)}"
            raise self._connection.failed(error, what) from error
        self._connection.check()
        started()
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._waiting:
                await self._settle(self._next())

    async def _take(self, message: Msg) -> None:
        size = len(message.data)
        if len(self._waiting) >= WAITING or self._bytes + size > WAITING_BYTES:
            self._drop()
            return
        self._bytes += size
        self._waiting.append((message, self._clock.now()))
        self._filled.set()

    def _drop(self) -> None:
        self._dropped += 1
        now = self._clock.monotonic()
        if now >= self._tell_at:
            self._log.error(
                "refused",
                count=self._dropped,
                reason=f"dropped: {len(self._waiting)} messages wait already, and core NATS keeps "
                "none; with jetstream nothing is lost",
            )
            self._dropped, self._tell_at = 0, now + _TELL

    def _next(self) -> list[Event]:
        events: list[Event] = []
        while self._waiting and len(events) < self._batch:
            message, came = self._waiting.popleft()
            self._bytes -= len(message.data)
            events += events_of(message, self._source, str(uuid.uuid4()), came)
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
                # It is one of them; the others go on.
                for event in events:
                    await self._settle([event])
                return
