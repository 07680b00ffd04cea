"""Consumer groups on Dapr: who exists, from when on, and what brings their messages.

Dapr begins every group at the oldest message that the broker has, as anything else
loses events at a rebalance. Where a group starts is therefore kept in the store, and
older messages are acknowledged unread. Without a store a group starts at the oldest.

While a group is consumed here its desk is fed by lanes (streams) or by subscriptions
(batches). They stay for a moment after the last consumer left: the next one in this
process gets at once what was given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import orjson

from ofevents.bus import dapr_components as components
from ofevents.bus.dapr_callback import Callbacks
from ofevents.bus.dapr_components import Names
from ofevents.bus.dapr_desk import Desk
from ofevents.bus.dapr_link import Link
from ofevents.bus.dapr_options import DaprOptions
from ofevents.bus.dapr_resources import Resources
from ofevents.bus.dapr_store import StateStore
from ofevents.bus.dapr_stream import Lane
from ofevents.clock import Clock
from ofevents.errors import Conflict, Disconnected
from ofevents.ports import Consumer

PREFIX: Final = "dapr-groups/"
OTHERS: Final = 2.0
"""Seconds to wait for the other lanes of a topic once one is open."""
LINGER: Final = 1.0
"""Seconds that a desk stays open without a consumer."""


class Groups:
    """See the module. `callbacks` is None where messages come over streams."""

    def __init__(
        self,
        link: Link,
        options: DaprOptions,
        names: Names,
        resources: Resources,
        store: StateStore | None,
        clock: Clock,
    ) -> None:
        self.callbacks: Callbacks | None = None
        self._link = link
        self._options = options
        self._names = names
        self._resources = resources
        self._store = store
        self._clock = clock
        self._open: dict[str, _Source] = {}

    async def ensure(self, consumer: Consumer) -> None:
        """Write down where the group starts, and have its components loaded."""
        await self._record(consumer)
        await self._resources.provide(
            components.consumer(self._options, self._names, consumer.group, consumer.topics),
            consumer.group,
        )

    async def _record(self, consumer: Consumer) -> None:
        if self._store is None:
            return
        key, now = PREFIX + consumer.group, int(self._clock.now() * 1e9)
        while True:
            entry = await self._store.get(key)
            known: dict[str, int] = {} if entry is None else orjson.loads(entry.value)
            starts = {topic: known.get(topic, _begins(consumer, topic, now))
                      for topic in consumer.topics}  # fmt: skip
            if starts == known:
                return
            try:
                await self._store.put(
                    key, orjson.dumps(starts), revision=entry.revision if entry else 0
                )
            except Conflict:
                continue
            return

    async def starts(self, group: str) -> dict[str, int]:
        """Nanoseconds per topic.

        Raises:
            Disconnected: there is no such group (any more).
        """
        if self._store is None:
            return {}
        entry = await self._store.get(PREFIX + group)
        if entry is None:
            raise gone(group)
        starts: dict[str, int] = orjson.loads(entry.value)
        return starts

    async def remove(self, group: str) -> None:
        """Forget it, and what it needs of the sidecar."""
        if self._store is not None:
            await self._store.delete(PREFIX + group)
        source = self._open.get(group)
        if source is not None:
            source.desk.lose(gone(group))
        await self._resources.withdraw(group, "Subscription", "Component")

    @asynccontextmanager
    async def using(self, group: str, topics: Sequence[str]) -> AsyncIterator[Desk]:
        """The group's desk, fed with messages of these topics."""
        starts = await self.starts(group)
        source = self._open.get(group)
        if source is not None and source.desk.lost is not None:
            await self._end(source)
            source = None
        if source is None:
            source = self._open[group] = _Source(Desk(group, starts, self._clock))
        source.desk.starts.update(starts)
        source.users += 1
        try:
            await self._feed(source, topics)
            yield source.desk
        finally:
            source.users -= 1
            if not source.users and source.linger is None:
                source.linger = asyncio.create_task(self._linger(source))

    async def _feed(self, source: _Source, topics: Sequence[str]) -> None:
        async with source.lock:
            new = [topic for topic in topics if topic not in source.topics]
            if not new:
                return
            group = source.desk.group
            options, names = self._options, self._names
            await self._resources.provide(components.consumer(options, names, group, topics), group)
            for topic in new:
                wire = names.topic(topic)
                for lane in names.lanes(group, topic):
                    if self.callbacks is not None:
                        self.callbacks.serve(lane, wire, source.desk, topic)
                    else:
                        source.lanes.append(Lane(self._link, source.desk, lane, topic, wire))
            if self.callbacks is not None:
                self._check_health()
                await self._resources.provide(
                    components.subscriptions(options, names, group, new), group
                )
            source.topics.update(new)
        if self.callbacks is None:
            await source.live(topics)

    def _check_health(self) -> None:
        """daprd asks its app for subscriptions when it first sees its port, and begins none
        at all, without a word to anybody, when that fails: as it does where gRPC has backed
        off for long, waiting for the port. The health check begins them again."""
        if not self._link.looks_after_app:
            raise Disconnected(
                "the Dapr sidecar must run with --enable-app-health-check (annotation "
                "dapr.io/enable-app-health-check): without it, one that waited long for this "
                "process hands nothing over"
            )

    async def _linger(self, source: _Source) -> None:
        await self._clock.sleep(LINGER)
        source.linger = None
        if not source.users:
            await self._end(source)

    async def _end(self, source: _Source) -> None:
        group = source.desk.group
        if self._open.get(group) is source:
            del self._open[group]
        if self.callbacks is not None:
            # First no more comes, then what is here is given back.
            try:
                await self._resources.withdraw(group, "Subscription")
            except Disconnected:
                pass  # a sidecar that is gone hands nothing out
        source.desk.close()
        await asyncio.gather(*(lane.close() for lane in source.lanes))
        if self.callbacks is not None:
            for topic in source.topics:
                for lane in self._names.lanes(group, topic):
                    self.callbacks.leave(lane, self._names.topic(topic), source.desk)

    async def close(self) -> None:
        """Give everything back."""
        for source in list(self._open.values()):
            if source.linger is not None:
                source.linger.cancel()
                await asyncio.gather(source.linger, return_exceptions=True)
            await self._end(source)

    def in_hand(self) -> dict[str, tuple[tuple[str, ...], int]]:
        """Per group: its topics here, and how many messages daprd waits for."""
        return {
            name: (tuple(sorted(source.topics)), source.desk.held)
            for name, source in self._open.items()
        }


class _Source:
    """One group's desk and what feeds it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.topics: set[str] = set()
        self.lanes: list[Lane] = []
        self.users = 0
        self.linger: asyncio.Task[None] | None = None
        self.lock = asyncio.Lock()

    async def live(self, topics: Sequence[str]) -> None:
        """Wait until a lane of each topic is open, and for a moment for the others: the
        broker deals messages to those that are there."""
        await asyncio.gather(*(self._opened(topic) for topic in topics))

    async def _opened(self, topic: str) -> None:
        waits = [asyncio.create_task(one.live.wait()) for one in self.lanes if one.topic == topic]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(waits, timeout=OTHERS)
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def _begins(consumer: Consumer, topic: str, now: int) -> int:
    """Where a new group does, in nanoseconds."""
    if consumer.start == "earliest":
        return 0
    return int(consumer.since[topic] * 1e9) if topic in consumer.since else now


def gone(group: str) -> Disconnected:
    return Disconnected(
        f"consumer group {group!r} does not exist on the bus (any more): it has to be ensured again"
    )
