"""The broker inside the process: what several `MemoryBus` connections share.

Plain synchronous state: topics' logs, consumer groups, the deduplication
window and the store's entries. It wakes whoever waits through `changed`;
nothing here sleeps or does IO.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from ofevents.errors import BusFull, Disconnected
from ofevents.ports import Consumer

_PLACES: Final = {
    "event": "events",
    "topic": "user topics",
    "inbox": "deliveries in inboxes",
    "dead": "dead letters",
}
_REPLAYED: Final = ("events", "user topics")
"""Where what is settled is kept until its space is needed."""


@dataclass(slots=True)
class Record:
    """A stored message; `owed` are the groups that have not settled it."""

    sequence: int
    topic: str
    stored: float
    headers: dict[str, str]
    body: bytes
    owed: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Group:
    """A consumer group: what waits for it, what it has in hand."""

    name: str
    topics: tuple[str, ...]
    ready: deque[Record] = field(default_factory=deque)
    delayed: list[tuple[float, int, Record]] = field(default_factory=list)
    open: int = 0
    attempts: dict[int, int] = field(default_factory=dict)

    @property
    def pending(self) -> int:
        return len(self.ready) + len(self.delayed)


class Broker:
    """All state of one memory bus. Times are Unix seconds, sizes bytes.

    Attributes:
        max_bytes: most bytes of events, of user topics, of inboxes, and of dead letters:
            four places as on JetStream, or a bus full of events could not take what is
            written to settle them.
        sizes: bytes in each of the four.
    """

    def __init__(self, *, max_bytes: int, window: float) -> None:
        self.max_bytes = max_bytes
        self.window = window
        self.down = ""
        self.sizes = dict.fromkeys(_PLACES.values(), 0)
        self.logs: dict[str, deque[Record]] = {}
        self.groups: dict[str, Group] = {}
        self.entries: dict[str, tuple[bytes, int, float]] = {}
        self.revision = itertools.count(1)
        self._sequence = itertools.count(1)
        self._seen: dict[str, float] = {}
        self._due: list[tuple[float, int, Record]] = []
        self._listeners: set[asyncio.Event] = set()

    # -- waking -------------------------------------------------------------

    @contextmanager
    def listening(self, change: asyncio.Event) -> Iterator[None]:
        """Set that event at each change, while in the `with`."""
        self._listeners.add(change)
        try:
            yield
        finally:
            self._listeners.discard(change)

    def changed(self) -> None:
        for change in self._listeners:
            change.set()

    def fail(self, reason: str) -> None:
        """From now on every call is refused as Disconnected, with that sentence."""
        self.down = reason

    def heal(self) -> None:
        """End what `fail` began."""
        self.down = ""
        self.changed()

    # -- publishing ---------------------------------------------------------

    def publish(
        self, topic: str, headers: dict[str, str], body: bytes, id: str, due: float, now: float
    ) -> None:
        """Store one message, or nothing when its id was seen within the window.

        Raises:
            BusFull: no room, and nothing settled is left to remove.
        """
        for old in list(
            itertools.takewhile(lambda i: self._seen[i] <= now - self.window, self._seen)
        ):
            del self._seen[old]
        if id in self._seen:
            return
        self._make_room(_place(topic), len(body))
        self._seen[id] = now
        record = Record(next(self._sequence), topic, now, headers, body)
        self.sizes[_place(topic)] += len(body)
        if due > now:
            heapq.heappush(self._due, (due, record.sequence, record))
        else:
            self._store(record)
        self.changed()

    def _store(self, record: Record) -> None:
        self.logs.setdefault(record.topic, deque()).append(record)
        for group in self.groups.values():
            if record.topic in group.topics:
                record.owed.add(group.name)
                group.ready.append(record)

    def _make_room(self, place: str, size: int) -> None:
        if self.sizes[place] + size <= self.max_bytes:
            return
        settled = [
            record
            for topic, log in self.logs.items()
            if place == _place(topic) and place in _REPLAYED
            for record in log
            if not record.owed
        ]
        for record in sorted(settled, key=lambda one: one.sequence):
            self._forget(record)
            if self.sizes[place] + size <= self.max_bytes:
                return
        raise BusFull(
            f"the bus holds {self.sizes[place]} bytes of {place} that are not settled, of "
            f"{self.max_bytes} allowed (maxBytes): it takes no more until consumers settle some"
        )

    def _forget(self, record: Record) -> None:
        self.logs[record.topic].remove(record)
        self.sizes[_place(record.topic)] -= len(record.body)

    # -- time ---------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Move what has become due to its topic or back to its group."""
        while self._due and self._due[0][0] <= now:
            record = heapq.heappop(self._due)[2]
            record.stored = now
            self._store(record)
        for group in self.groups.values():
            while group.delayed and group.delayed[0][0] <= now:
                group.ready.append(heapq.heappop(group.delayed)[2])

    def next_due(self, group: Group | None) -> float | None:
        """When `advance` will have something to do, for that group or for readers."""
        times = [heap[0][0] for heap in (self._due, group.delayed if group else []) if heap]
        return min(times, default=None)

    # -- consuming ----------------------------------------------------------

    def ensure(self, topics: Sequence[str], consumers: Sequence[Consumer]) -> None:
        for topic in topics:
            self.logs.setdefault(topic, deque())
        for wanted in consumers:
            group = self.groups.get(wanted.group)
            if group is not None:
                group.topics = tuple(wanted.topics)
                continue
            group = self.groups[wanted.group] = Group(wanted.group, tuple(wanted.topics))
            if wanted.start == "earliest" or wanted.topics[0].startswith("inbox."):
                backlog = [one for topic in group.topics for one in self.logs.get(topic, ())]
                for record in sorted(backlog, key=lambda one: one.sequence):
                    record.owed.add(group.name)
                    group.ready.append(record)
        self.changed()

    def group(self, name: str) -> Group:
        group = self.groups.get(name)
        if group is None:
            raise Disconnected(
                f"consumer group {name!r} does not exist on the bus (any more): it has to be "
                "ensured again"
            )
        return group

    def take(self, group: Group, most: int) -> list[tuple[Record, int]]:
        """Up to that many records, each with how often it has been handed out."""
        taken: list[tuple[Record, int]] = []
        while group.ready and len(taken) < most:
            record = group.ready.popleft()
            attempt = group.attempts[record.sequence] = group.attempts.get(record.sequence, 0) + 1
            taken.append((record, attempt))
        group.open += len(taken)
        return taken

    def settle(self, group: Group, record: Record) -> None:
        group.open -= 1
        group.attempts.pop(record.sequence, None)
        record.owed.discard(group.name)
        if not record.owed and record.topic.startswith("inbox."):
            self._forget(record)
        self.changed()

    def put_back(self, group: Group, record: Record, due: float, now: float) -> None:
        group.open -= 1
        if due > now:
            heapq.heappush(group.delayed, (due, record.sequence, record))
        else:
            group.ready.appendleft(record)
        self.changed()

    # -- looking and removing -----------------------------------------------

    def scheduled(self, topic: str) -> Iterator[Record]:
        """Messages of that topic that are not due yet."""
        return (record for _, _, record in self._due if record.topic == topic)

    def remove(self, topics: Sequence[str], groups: Sequence[str]) -> None:
        for name in groups:
            group = self.groups.pop(name, None)
            for record in (one for log in self.logs.values() for one in log) if group else ():
                record.owed.discard(name)
        for topic in topics:
            gone = {one.sequence for one in self.logs.pop(topic, ())}
            gone |= {one.sequence for one in self.scheduled(topic)}
            self._due = [entry for entry in self._due if entry[1] not in gone]
            heapq.heapify(self._due)
            for group in self.groups.values():
                group.ready = deque(one for one in group.ready if one.sequence not in gone)
                group.delayed = [entry for entry in group.delayed if entry[1] not in gone]
                heapq.heapify(group.delayed)
        self.sizes = dict.fromkeys(self.sizes, 0)
        kept = itertools.chain(*self.logs.values(), (record for _, _, record in self._due))
        for record in kept:
            self.sizes[_place(record.topic)] += len(record.body)
        self.changed()


def _place(topic: str) -> str:
    return _PLACES[topic.partition(".")[0]]


_BROKERS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Broker]] = WeakKeyDictionary()


def shared(name: str, *, max_bytes: int, window: float) -> Broker:
    """The running loop's broker of that name: made once, gone with the loop."""
    brokers = _BROKERS.setdefault(asyncio.get_running_loop(), {})
    if name not in brokers:
        brokers[name] = Broker(max_bytes=max_bytes, window=window)
    return brokers[name]
