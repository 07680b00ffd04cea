"""One event entry of an EventSource, running: `run` is the only way in.

It connects to the bus, builds the adapter that the registry knows for the kind,
and runs it until it is told to stop: again, with a growing pause, whenever the
adapter or the bus loses its connection. An adapter reads and emits; reconnecting,
waiting, health and the end are here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

from pydantic import ValidationError

from ofevents import registry
from ofevents.api.eventsource import CUSTOM, SPECS
from ofevents.api.resolved import ResolvedSource
from ofevents.bus import open_bus
from ofevents.clock import Clock
from ofevents.errors import ConfigError, Disconnected, TemporaryError
from ofevents.event import Event
from ofevents.health import Health
from ofevents.ports import Bus, Emit, Reply, Source, SourceFeatures, SourceIdentity, Store
from ofevents.process import unless
from ofevents.source.direct import open_direct
from ofevents.source.emit import BusEmit
from ofevents.source.hand import Hand
from ofevents.source.letters import Letters
from ofevents.source.screen import Screen
from ofevents.source.standing import Backoff, Standing
from ofevents.subscriber import DeadLetters
from ofevents.telemetry import RECONNECTS

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
HEALED: Final = 5.0
"""Seconds that an adapter was live, after which a loss is a new one: its first pause is
short again. Each that is shorter counts as the same trouble going on."""
_SUSPENDED_AGAIN: Final = 60.0
"""Retry-After of a webhook that is suspended, in seconds."""


async def run(spec: ResolvedSource, *, health: Health, clock: Clock, stop: asyncio.Event) -> None:
    """Run the entry until `stop` is set; then it reads no more and returns.

    What is in hand is settled first; an adapter that somebody waits on answers it. The
    caller bounds the end by cancelling: what is not acknowledged then comes again.

    Args:
        health: gets a worker `EventSource`, `namespace/name/entry`.

    Raises:
        ConfigError: the spec, an expression, the sink, or what the adapter finds outside.
    """
    worker = health.worker("EventSource", f"{spec.namespace}/{spec.name}/{spec.entry}")
    standing = Standing(spec, worker, clock, stop)
    screen = Screen(spec)
    identity = SourceIdentity(spec.namespace, spec.name, spec.source, spec.entry)
    source = build(spec, identity, clock)
    entry = _Entry(spec, identity, source, screen, standing, clock, stop)
    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(standing.run())
            await entry.again(entry.connect, "bus")
            watching.cancel()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    worker.stopped()
    standing.log.info("stopped", in_flight=worker.in_flight)


def build(spec: ResolvedSource, identity: SourceIdentity, clock: Clock) -> Source:
    """The adapter of that kind, given its own model of the entry.

    Of somebody else's adapter the model is its attribute `Spec`; without one it is
    given the fields as they are.

    Raises:
        ConfigError: no such kind, or a field of the entry is wrong.
    """
    ours = spec.source in SPECS
    path = f"spec.{spec.source}.{spec.entry}" if ours else f"spec.{CUSTOM}.{spec.entry}.spec"
    adapter = registry.load("ofevents.sources", spec.source)
    model = SPECS[spec.source] if ours else getattr(adapter, "Spec", None)
    try:
        own: Any = spec.spec if model is None else model.model_validate(spec.spec)
    except ValidationError as error:
        # A field that is missing has no place in a file: the sentence names it.
        told = [
            (".".join(map(str, one["loc"])), one["msg"])
            for one in error.errors(include_input=False, include_url=False)
        ]
        message = "; ".join(f"{field}: {what}" if field else what for field, what in told)
        raise ConfigError(message, path=f"{path}.{told[0][0]}".rstrip(".")) from None
    source: Source = adapter(own, identity, clock=clock)
    return source


class _Entry:
    """A running entry; `connect` and `_read` are its two lives, one inside the other."""

    def __init__(
        self,
        spec: ResolvedSource,
        identity: SourceIdentity,
        source: Source,
        screen: Screen,
        standing: Standing,
        clock: Clock,
        stop: asyncio.Event,
    ) -> None:
        self._spec = spec
        self._identity = identity
        self._source = source
        self._screen = screen
        self._clock = clock
        self.standing = standing
        self.stop = stop

    async def connect(self) -> None:
        """With a bus: one connection's life. Without one: the sink's clients' life."""
        features: SourceFeatures = self._source.features
        async with AsyncExitStack() as stack:
            if self._spec.bus is None:
                direct = open_direct(
                    self._spec,
                    features=features,
                    screen=self._screen,
                    standing=self.standing,
                    clock=self._clock,
                )
                await self._serve(await stack.enter_async_context(direct), None)
                return
            bus = open_bus(self._spec.bus, clock=self._clock)
            self.standing.watch(bus)
            with self.standing.worker.waiting(f"EventBus {self._spec.bus.name}"):
                if not await unless(self.stop, self._enter(bus, stack)):
                    return
            emit = await self._bus_emit(bus, features, stack)
            await self._serve(emit, bus.store if bus.features.store else None)

    async def _enter(self, bus: Bus, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(bus)
        await bus.ensure([self._spec.topic], [])

    async def _bus_emit(self, bus: Bus, features: SourceFeatures, stack: AsyncExitStack) -> Emit:
        dead = DeadLetters(
            bus=bus,
            target=self._spec.dead_letter,
            dead_topic=self._spec.dead_topic,
            owner=f"{self._spec.namespace}/{self._spec.name}",
            clock=self._clock,
        )
        letters = Letters(self._spec, await stack.enter_async_context(dead), self.standing)
        return BusEmit(
            self._spec,
            identity=self._identity,
            features=features,
            bus=bus,
            screen=self._screen,
            letters=letters,
            standing=self.standing,
        )

    async def _serve(self, emit: Emit, store: Store | None) -> None:
        if self._spec.suspend:
            if not self._source.features.replies:
                self.standing.worker.suspended()
                await self.stop.wait()
                return
            emit = _suspended  # whoever calls is told so: it is ready once it listens

        async def read() -> None:
            if self._source.features.replies:
                await self._run(emit, store, self.stop)
                return
            hand = Hand(emit, self.stop)
            async with hand.emptied() as over:
                await self._run(hand, store, over)

        await self.again(read, "source")

    async def _run(self, emit: Emit, store: Store | None, over: asyncio.Event) -> None:
        started = self.standing.started
        if await unless(over, self._source.run(emit, store=store, started=started)):
            raise Disconnected(f"the {self._spec.source} source has ended by itself")

    async def again(self, work: Callable[[], Awaitable[None]], what: str) -> None:
        """Run `work`, which returns once `stop` is set; again after each TemporaryError.

        Raises:
            ConfigError: the user must act.
        """
        standing, clock = self.standing, self._clock
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while not self.stop.is_set():
            try:
                await work()
                return
            except TemporaryError as error:
                if self.stop.is_set():
                    return  # what it could not settle comes again
                if standing.live >= HEALED:
                    backoff.reset()
                standing.lost(error)
                pause = backoff.pause(error.delay)
                RECONNECTS.labels(self._spec.namespace, self._spec.name, what).inc()
                standing.log.warning("reconnecting", delay=round(pause, 3), reason=str(error))
                with standing.worker.waiting(f"{what} of {self._spec.entry}"):
                    await unless(self.stop, clock.sleep(pause))


async def _suspended(*events: Event) -> Reply | None:
    raise TemporaryError("the EventSource is suspended (spec.suspend)", delay=_SUSPENDED_AGAIN)
