"""The bus on Dapr: any pub/sub component of a sidecar, and a state component beside it.

Built by `open_bus` from a ResolvedBus; the work is in the modules it joins:
`dapr_link` (the sidecar), `dapr_publish` with `dapr_bulk`, `dapr_groups` with
`dapr_desk` (consuming, over `dapr_stream` or `dapr_callback`), `dapr_store`, `dapr_due`
(deliveries that are due later), `dapr_components` and `dapr_resources` (what the
sidecar needs for each consumer group). What it promises depends on the component:
`dapr_kinds`.

Made for daprd 1.14 and newer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import dapr_components as components
from ofevents.bus.dapr_callback import close_callbacks, open_callbacks
from ofevents.bus.dapr_documents import Documents
from ofevents.bus.dapr_due import Due
from ofevents.bus.dapr_groups import Groups
from ofevents.bus.dapr_kinds import WEAKEST
from ofevents.bus.dapr_link import Link
from ofevents.bus.dapr_options import read_options
from ofevents.bus.dapr_publish import Publisher
from ofevents.bus.dapr_resources import Resources
from ofevents.bus.dapr_store import NoStore, StateStore
from ofevents.bus.intake import Intake
from ofevents.clock import Clock
from ofevents.errors import ConfigError
from ofevents.ports import (
    BusFeatures,
    BusReport,
    Consumer,
    ConsumerReport,
    Handler,
    Message,
    Received,
    Store,
)


class DaprBus:
    """See the module. One channel; safe to share between tasks of one event loop."""

    features: BusFeatures = WEAKEST
    """Of a component that nothing is known of; an instance has its own component's."""

    def __init__(self, bus: ResolvedBus, *, clock: Clock) -> None:
        options = self._options = read_options(bus.options)
        self.features = options.features
        self._clock = clock
        self._names = names = components.Names(options, bus.name)
        self._link = link = Link(options, names.pubsub, clock, bus.name)
        self._resources = Resources(link, options.resources)
        self._publisher = Publisher(link, names, options, clock)
        self._state: StateStore | None = None
        if options.state is not None:
            self._state = StateStore(Documents(link, names.state, clock))
        self._due = Due(self._state, self._publisher, clock)
        self._groups = Groups(link, options, names, self._resources, self._state, clock)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._options.bulk:
                port = self._options.app_port
                assert port is not None
                callbacks = await open_callbacks(self._options.app_host, port, self._clock)
                stack.push_async_callback(close_callbacks, callbacks)
                self._groups.callbacks = callbacks
            await self._link.open()
            stack.push_async_callback(self._link.close)
            stack.push_async_callback(self._publisher.close)
            stack.push_async_callback(self._groups.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def store(self) -> Store:
        return self._state if self._state is not None else NoStore()

    @property
    def connection(self) -> str:
        callbacks = self._groups.callbacks
        return self._link.why or (callbacks.unheard if callbacks is not None else "")

    @property
    def max_size(self) -> int:
        return self._publisher.max_size

    @property
    def hold(self) -> float:
        return self._options.ack_wait / 3

    async def publish(self, topic: str, *messages: Message) -> None:
        """See the port."""
        now = self._clock.now()
        if any(one.due for one in messages) and not topic.startswith("inbox."):
            raise ConfigError(f"{topic} keeps nothing back until it is due: only an inbox does")
        later = [one for one in messages if one.due > now]
        if later and self._state is None:
            raise ConfigError("a dapr bus without a state component keeps nothing back until due")
        encoded = [(one, *self._publisher.encode(topic, one)) for one in messages]
        await self._publisher.publish_raw(
            topic, [(raw, key) for one, raw, key in encoded if one.due <= now]
        )
        for one, raw, key in encoded:
            if one.due > now:
                await self._due.keep(topic, raw, key, one.due)

    async def ensure(self, topics: Sequence[str], consumers: Sequence[Consumer]) -> None:
        """See the port. Topics are the broker's to create."""
        for one in consumers:
            await self._groups.ensure(one)

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
        async with (
            self._groups.using(group, topics) as desk,
            self._due.watching(topics),
            Intake(handler, in_flight, group, stop) as intake,
        ):
            with desk.attached(intake):
                started()
                while not intake.stopping:
                    if desk.lost is not None:
                        raise desk.lost
                    await intake.changed.wait()
                    intake.changed.clear()
                    desk.pump()
            while intake.open:
                intake.changed.clear()
                await intake.changed.wait()

    async def browse(
        self, topics: Sequence[str], *, since: float | None = 0.0, follow: bool = False
    ) -> AsyncIterator[Received]:
        """Dapr can only read as a group does.

        Raises:
            ConfigError: always, when it is iterated.
        """
        raise ConfigError("a dapr bus cannot be browsed: Dapr reads as a consumer group only")
        yield  # pragma: no cover

    async def inspect(self) -> BusReport:
        """See the port. Dapr counts nothing: what this process has in hand is told, and
        nothing of topics."""
        await self._link.ready(5.0)
        return BusReport(
            topics=(),
            consumers=tuple(
                ConsumerReport(group, topics, 0, held)
                for group, (topics, held) in sorted(self._groups.in_hand().items())
            ),
        )

    async def remove(self, *, topics: Sequence[str] = (), groups: Sequence[str] = ()) -> None:
        """See the port. Dapr deletes no messages: those of a group that comes again are
        skipped, as it starts later than they were published."""
        for topic in topics:
            await self._due.forget(topic)
        for group in groups:
            await self._groups.remove(group)
