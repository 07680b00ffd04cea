"""The bus inside one process: no server, nothing kept after the process ends.

A driver like the others, judged by the same suite: for tests, and for a folder
that is tried out. Every `MemoryBus` of the same name (`options["name"]`, else
the EventBus's name) in one event loop shares one broker, so a source and a
Trigger meet although each opens its own connection; the broker outlives the
connections and ends with the event loop.

Options: `name`, `max_bytes` (default 256 MiB of events; as much again for user topics, for
inboxes, and for dead letters), `max_size` (an event's largest size, 1 MiB),
`duplicate_window` (120 s), `ack_wait` (30 s; only tells `hold`, as nobody can die here
without giving back).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Self

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import codec
from ofevents.bus import topics as names
from ofevents.bus.broker import Broker, Group, Record, shared
from ofevents.bus.intake import Intake
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import Clock
from ofevents.errors import ConfigError, Disconnected, TooLarge
from ofevents.event import Event
from ofevents.ports import (
    BusFeatures,
    BusReport,
    Consumer,
    ConsumerReport,
    Delivery,
    Handler,
    Message,
    Received,
    Store,
    TopicReport,
    Verdict,
)


class MemoryBus:
    """See the module. `broker.fail(reason)` acts as a lost connection until `broker.heal()`."""

    features = BusFeatures(
        durable=False,
        groups=True,
        ordered=True,
        delayed=True,
        deduplicates=True,
        store=True,
        browse=True,
    )

    def __init__(self, bus: ResolvedBus, *, clock: Clock) -> None:
        options = bus.options
        self._name = str(options.get("name", bus.name))
        self._max_bytes = int(options.get("max_bytes") or 256 * 1024 * 1024)
        self._window = float(options.get("duplicate_window", 120.0))
        self._ack_wait = float(options.get("ack_wait", 30.0))
        self.max_size = int(options.get("max_size") or 1024 * 1024)
        self._clock = clock
        self._broker: Broker | None = None

    async def __aenter__(self) -> Self:
        self._broker = shared(self._name, max_bytes=self._max_bytes, window=self._window)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._broker = None

    @property
    def broker(self) -> Broker:
        """The shared state; only while the bus is entered."""
        if self._broker is None:
            raise Disconnected("the bus is closed: use it inside `async with`")
        return self._broker

    @property
    def store(self) -> Store:
        return MemoryStore(self.broker, self._clock)

    @property
    def connection(self) -> str:
        return self._broker.down if self._broker else "closed"

    @property
    def hold(self) -> float:
        return self._ack_wait / 3

    async def publish(self, topic: str, *messages: Message) -> None:
        """See the port."""
        await asyncio.sleep(0)  # a publish is a round trip: let others run, as with a server
        self._check_up()
        if names.split(topic)[0] != "inbox" and any(one.due for one in messages):
            raise ConfigError(f"{topic} keeps nothing back until it is due: only an inbox does")
        ready = [(one, *codec.encode(one)) for one in messages]
        for one, _, body in ready:
            room = codec.DELIVERY_ROOM if isinstance(one.body, Delivery) else 0
            if len(body) > self.max_size + room:
                raise TooLarge(f"a message of {len(body)} bytes; the bus takes {self.max_size}")
        for one, headers, body in ready:
            id = codec.message_id(topic, one)
            self.broker.publish(topic, headers, body, id, one.due, self._clock.now())

    def _check_up(self) -> None:
        if self.broker.down:
            raise Disconnected(self.broker.down)

    async def ensure(self, topics: Sequence[str], consumers: Sequence[Consumer]) -> None:
        """See the port."""
        self._check_up()
        self.broker.ensure(topics, consumers)

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
        """See the port. One group has one position, so `topics` are those of `ensure`."""
        broker = self.broker
        state = broker.group(group)
        async with Intake(handler, in_flight, group, stop) as intake:
            with broker.listening(intake.changed):
                started()
                while not intake.stopping:
                    broker.group(group)
                    broker.advance(self._clock.now())
                    taken = [] if broker.down else broker.take(state, intake.free)
                    if taken:
                        intake.took(len(taken))
                        intake.hand([_Received(self, state, intake, one, n) for one, n in taken])
                    else:
                        await self._wait(intake.changed, broker.next_due(state))

    async def _wait(self, change: asyncio.Event, due: float | None) -> None:
        """Until something changed, or `due` (Unix seconds) has come."""
        timer = None
        if due is not None:
            # A timer that is cancelled says nothing, or each wait would wake the next one.
            timer = asyncio.create_task(self._clock.sleep(due - self._clock.now()))
            timer.add_done_callback(lambda done: None if done.cancelled() else change.set())
        try:
            await change.wait()
            change.clear()
        finally:
            if timer is not None:
                timer.cancel()

    async def browse(
        self, topics: Sequence[str], *, since: float | None = 0.0, follow: bool = False
    ) -> AsyncIterator[Received]:
        """See the port."""
        start = self._clock.now() if since is None else since
        broker, last = self.broker, 0
        if since is None:
            last = max((r.sequence for t in topics for r in broker.logs.get(t, ())), default=0)
        change = asyncio.Event()
        with broker.listening(change):
            while True:
                broker.advance(self._clock.now())
                found = [r for t in topics for r in broker.logs.get(t, ()) if r.sequence > last]
                for record in sorted(found, key=lambda one: one.sequence):
                    last = record.sequence
                    if record.stored >= start:
                        yield _Received(self, None, None, record, 1)
                if not found and not follow:
                    return
                if not found:
                    await self._wait(change, broker.next_due(None))

    async def inspect(self) -> BusReport:
        """See the port."""
        self._check_up()
        broker = self.broker
        broker.advance(self._clock.now())
        held = {t: [*log, *broker.scheduled(t)] for t, log in broker.logs.items()}
        return BusReport(
            topics=tuple(
                TopicReport(topic, len(found), sum(len(one.body) for one in found))
                for topic, found in sorted(held.items())
            ),
            consumers=tuple(
                ConsumerReport(
                    g.name,
                    g.topics,
                    g.pending + sum(1 for t in g.topics for _ in broker.scheduled(t)),
                    g.open,
                )
                for g in sorted(broker.groups.values(), key=lambda one: one.name)
            ),
        )

    async def remove(self, *, topics: Sequence[str] = (), groups: Sequence[str] = ()) -> None:
        """See the port."""
        self._check_up()
        self.broker.remove(topics, groups)

    def settle(self, group: Group, record: Record, verdict: Verdict) -> None:
        """What a Received's `settle` comes to."""
        now = self._clock.now()
        if self._broker is None:
            return
        if verdict.done:
            self._broker.settle(group, record)
        else:
            self._broker.put_back(group, record, now + verdict.after, now)


class _Received:
    """A record in one consumer's hands; in nobody's (`group` None) when browsed."""

    def __init__(
        self, bus: MemoryBus, group: Group | None, intake: Intake | None, record: Record, n: int
    ) -> None:
        self._bus = bus
        self._group = group
        self._intake = intake
        self._record = record
        self._attempt = n
        self._settled = group is None

    @property
    def topic(self) -> str:
        return self._record.topic

    @property
    def attempt(self) -> int:
        return self._attempt

    @property
    def stored(self) -> float:
        return self._record.stored

    @property
    def position(self) -> str:
        return str(self._record.sequence)

    @property
    def headers(self) -> Mapping[str, str]:
        return self._record.headers

    @property
    def size(self) -> int:
        return len(self._record.body)

    @property
    def settled(self) -> bool:
        return self._settled

    @property
    def raw(self) -> bytes:
        return self._record.body

    @cached_property
    def body(self) -> Event | Delivery:
        return codec.decode(self._record.headers, self._record.body)

    def settle(self, verdict: Verdict) -> None:
        """See the port."""
        if self._settled or self._group is None or self._intake is None:
            return
        self._settled = True
        self._bus.settle(self._group, self._record, verdict)
        self._intake.done()
