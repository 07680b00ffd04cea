"""Reading topics without a group: `Bus.browse` on JetStream.

Called by `ofevents tail`, `inspect` and replay. Messages of several topics are
merged by their time of storage. To follow, a plain subscription on the topics
wakes the reader when something is published; the messages themselves are read
from the stream, so none is missed while the connection is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from ofevents.bus import direct
from ofevents.bus.link import Link
from ofevents.bus.received import Browsed
from ofevents.bus.streams import Streams
from ofevents.clock import Clock
from ofevents.errors import Disconnected
from ofevents.ports import Received

_POLL: Final = 1.0


class _Reader:
    """One topic: what has been fetched and from where to fetch on."""

    def __init__(self, streams: Streams, topic: str) -> None:
        self.topic = topic
        self.stream = streams.layout.stream_of(topic)
        self.subject = streams.layout.subject(topic)
        self.ready: deque[direct.Stored] = deque()
        self.next = 0
        self.more = True

    async def fill(self, link: Link, since: float) -> None:
        """Fetch the next batch when nothing is left of the last one."""
        if self.ready or not self.more:
            return
        found, self.more = await direct.following(
            link, self.stream, self.subject, sequence=self.next, since=since
        )
        self.ready.extend(found)
        if found:
            self.next = found[-1].sequence + 1


async def browse(
    link: Link,
    streams: Streams,
    clock: Clock,
    topics: Sequence[str],
    *,
    since: float | None,
    follow: bool,
) -> AsyncIterator[Received]:
    """See `Bus.browse`."""
    readers = [_Reader(streams, topic) for topic in dict.fromkeys(topics)]
    start = since or 0.0
    if since is None:
        start = clock.now()
        for reader in readers:
            state = (await streams.info(reader.stream))["state"]
            reader.next = state["last_seq"] + 1
    async with contextlib.AsyncExitStack() as stack:
        alarm = _Alarm(link, [reader.subject for reader in readers])
        stack.push_async_callback(alarm.close)
        while True:
            if follow:
                await alarm.arm()
            try:
                for reader in readers:
                    await reader.fill(link, start)
            except Disconnected:
                if not follow:
                    raise
                await link.ready()
                continue
            waiting = [reader for reader in readers if reader.ready]
            if waiting:
                first = min(waiting, key=lambda one: one.ready[0].time)
                stored = first.ready.popleft()
                yield Browsed(
                    first.topic, stored.data, stored.headers, str(stored.sequence), stored.time
                )
            elif follow:
                await alarm.wait()
                for reader in readers:
                    reader.more = True
            else:
                return


class _Alarm:
    """Rings when something is published on a subject, and each second at the latest."""

    def __init__(self, link: Link, subjects: Sequence[str]) -> None:
        self._link = link
        self._subjects = subjects
        self._rung = asyncio.Event()
        self._client: Client | None = None
        self._subscriptions: list[Subscription] = []

    async def arm(self) -> None:
        """Listen, on the connection there is now."""
        client = await self._link.ready()
        if client is self._client:
            return
        self._client = client
        try:
            self._subscriptions = [
                await client.subscribe(subject, cb=self._ring) for subject in self._subjects
            ]
        except nats.errors.Error:
            self._client = None

    async def _ring(self, msg: Msg) -> None:
        self._rung.set()

    async def wait(self) -> None:
        timer = asyncio.get_running_loop().call_later(_POLL, self._rung.set)
        try:
            await self._rung.wait()
        finally:
            timer.cancel()
        self._rung.clear()

    async def close(self) -> None:
        """Listen no more."""
        for subscription in self._subscriptions:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()
