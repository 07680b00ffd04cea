"""The bus on NATS JetStream: the driver for one machine and for clusters.

Built by `open_bus` from a ResolvedBus; the work is in the modules it joins:
`link` (the connection), `streams` (what exists on the server), `publish`, `room`,
`consume`, `browse`, `report`, `store`, `watch`. It needs nats-server 2.12 or newer
and says so when it meets an older one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Self

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import consume
from ofevents.bus.acks import Acks
from ofevents.bus.browse import browse
from ofevents.bus.layout import Layout
from ofevents.bus.link import Link
from ofevents.bus.options import read_options
from ofevents.bus.publish import Publisher
from ofevents.bus.report import inspect
from ofevents.bus.room import Room
from ofevents.bus.store import BucketStore
from ofevents.bus.streams import Streams
from ofevents.bus.watch import Watch
from ofevents.clock import Clock
from ofevents.ports import BusFeatures, BusReport, Consumer, Handler, Message, Received, Store


class JetStreamBus:
    """See the module. One connection; safe to share between tasks of one event loop."""

    features = BusFeatures(
        durable=True,
        groups=True,
        ordered=True,
        delayed=True,
        deduplicates=True,
        store=True,
        browse=True,
    )

    def __init__(self, bus: ResolvedBus, *, clock: Clock) -> None:
        self._options = read_options(bus.options)
        self._clock = clock
        self._link = Link(self._options, clock, bus.name)
        layout = Layout(self._options)
        self._streams = Streams(self._link, layout)
        room = Room(self._streams, clock, bus.name)
        self._publisher = Publisher(self._link, layout, room, clock)
        self._store = BucketStore(self._link, layout, self._publisher)
        self._watch = Watch(self._link, self._streams, self._store, clock)
        self._acks = Acks(self._link)
        self._acking: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._link.open(self._streams.create)
        self._acking = asyncio.create_task(self._acks.run(), name="bus: acknowledgements")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tasks = [task for task in (self._watching, self._acking) if task is not None]
        for task in tasks:
            task.cancel()
        await self._acks.close()
        if tasks:
            # The watcher gives up its lease; not for long when there is no connection.
            await asyncio.wait(tasks, timeout=1.0)
        await self._link.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def store(self) -> Store:
        return self._store

    @property
    def connection(self) -> str:
        return self._link.why

    @property
    def max_size(self) -> int:
        return self._publisher.max_size

    @property
    def hold(self) -> float:
        return self._options.ack_wait / 3

    async def publish(self, topic: str, *messages: Message) -> None:
        """See the port."""
        await self._publisher.publish(topic, messages)

    async def ensure(self, topics: Sequence[str], consumers: Sequence[Consumer]) -> None:
        """See the port. Topics need no creating here: the streams hold any."""
        self._streams.layout.by_stream(topics)
        await self._streams.ensure(consumers)

    async def consume(
        self,
        topics: Sequence[str],
        group: str,
        handler: Handler,
        *,
        in_flight: int,
        started: Callable[[], None],
        stop: asyncio.Event | None = None,
    ) -> None:
        """See the port."""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch.run(), name="bus: watch on expiry")
        await consume.consume(
            self._link,
            self._streams,
            self._acks,
            self._clock,
            topics,
            group,
            handler,
            in_flight=in_flight,
            started=started,
            stop=stop,
        )

    def browse(
        self, topics: Sequence[str], *, since: float | None = 0.0, follow: bool = False
    ) -> AsyncIterator[Received]:
        """See the port."""
        return browse(self._link, self._streams, self._clock, topics, since=since, follow=follow)

    async def inspect(self) -> BusReport:
        """See the port."""
        return await inspect(self._streams)

    async def remove(self, *, topics: Sequence[str] = (), groups: Sequence[str] = ()) -> None:
        """See the port."""
        await self._streams.remove(topics, groups)
