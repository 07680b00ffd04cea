"""The Trigger's worker: `run` is the one way in, on a laptop as in a pod.

It connects to the bus, makes sure of its consumers, and then runs side by side:
the inputs (`inputs.py`), one server per subscriber's inbox (`serving.py`), and a
monitor that reports health and lag. A lost bus is waited for; nothing but a wrong
resource ends it before it is asked to stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from ofevents.api.resolved import ResolvedSubscriber, ResolvedTrigger, TopicTarget
from ofevents.bus import open_bus
from ofevents.bus.topics import inbox_group
from ofevents.clock import Clock
from ofevents.errors import ConfigError, Disconnected
from ofevents.health import Health, WorkerHealth
from ofevents.ports import Bus, Consumer
from ofevents.process import first_error, unless
from ofevents.subscriber import DeadLetters
from ofevents.telemetry import RECONNECTS, Log
from ofevents.trigger.entries import Entries
from ofevents.trigger.evaluator import Evaluator
from ofevents.trigger.handover import Handover, open_handover
from ofevents.trigger.inputs import Inputs
from ofevents.trigger.join import Joins
from ofevents.trigger.monitor import Monitor
from ofevents.trigger.ownership import consume_alone
from ofevents.trigger.serving import InboxServer, most_in_hand
from ofevents.trigger.steps import Steps
from ofevents.trigger.suspects import Suspects
from ofevents.trigger.trace import Trace

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 15.0


async def run(
    spec: ResolvedTrigger,
    *,
    health: Health,
    clock: Clock,
    stop: asyncio.Event,
    trace: Trace | None = None,
) -> None:
    """Run the Trigger until `stop` is set, then settle what is in hand and return.

    The caller bounds the end by cancelling: what is unsettled then comes again.

    Args:
        health: gets a worker `Trigger`, `namespace/owner` (see `ResolvedTrigger.owner`).
        trace: is told each event's way; see `Trace`.

    Raises:
        ConfigError: an expression or a target is wrong, or the bus's driver is missing.
    """
    worker = health.worker("Trigger", f"{spec.namespace}/{spec.owner}")
    log = Log(trigger=f"{spec.namespace}/{spec.owner}")
    try:
        evaluator = Evaluator(spec)
        backoff = FIRST_BACKOFF
        while not stop.is_set():
            began = clock.monotonic()
            try:
                await _Session(spec, evaluator, worker, clock, stop, trace).run()
            except Disconnected as error:
                if clock.monotonic() - began > LONGEST_BACKOFF:
                    backoff = FIRST_BACKOFF
                worker.stalled(error.reason, str(error))
                RECONNECTS.labels(spec.namespace, spec.owner, "bus").inc()
                log.warning("reconnecting", delay=backoff, reason=str(error))
                with worker.waiting(f"EventBus {spec.bus.name}"):
                    await unless(stop, clock.sleep(max(error.delay, backoff)))
                backoff = min(LONGEST_BACKOFF, 2 * backoff)
    except ConfigError as error:
        worker.stalled(error.reason, str(error))
        raise
    worker.stopped()
    log.info("stopped", in_flight=worker.in_flight)


def consumers(spec: ResolvedTrigger) -> list[Consumer]:
    """The Trigger's durable positions: on its inputs, and on each inbox."""
    topics = tuple(sorted({one.topic for one in spec.inputs}))
    inboxes = [
        Consumer(inbox_group(one.inbox), (one.inbox,), "earliest") for one in spec.subscribers
    ]
    return [Consumer(spec.group, topics, spec.start, spec.since), *inboxes]


def topics(spec: ResolvedTrigger) -> list[str]:
    """Every topic that the Trigger reads or writes."""
    found = {spec.dead_topic, *(one.topic for one in spec.inputs)}
    for one in spec.subscribers:
        found |= {one.inbox, one.reply_topic or one.inbox}
        found |= {t.topic for t in (one.target, one.dead_letter) if isinstance(t, TopicTarget)}
    return sorted(found)


class _Session:
    """One connection's life."""

    def __init__(
        self,
        spec: ResolvedTrigger,
        evaluator: Evaluator,
        worker: WorkerHealth,
        clock: Clock,
        stop: asyncio.Event,
        trace: Trace | None,
    ) -> None:
        self._spec = spec
        self._evaluator = evaluator
        self._worker = worker
        self._clock = clock
        self._stop = stop
        self._trace = trace
        self._name = f"{spec.namespace}/{spec.owner}"

    async def run(self) -> None:
        """Raises Disconnected when the connection is lost for good."""
        bus = open_bus(self._spec.bus, clock=self._clock)
        async with AsyncExitStack() as stack:
            with self._worker.waiting(f"EventBus {self._spec.bus.name}"):
                if not await unless(self._stop, stack.enter_async_context(bus)):
                    return
                await bus.ensure(topics(self._spec), consumers(self._spec))
            if self._spec.suspend:
                self._worker.suspended()
                await self._stop.wait()
                return
            await self._serve(bus, stack)

    async def _serve(self, bus: Bus, stack: AsyncExitStack) -> None:
        spec = self._spec
        monitor = Monitor(spec, bus, self._worker, self._clock)
        handovers = [
            await stack.enter_async_context(
                open_handover(
                    spec,
                    one,
                    bus=bus,
                    worker=self._worker,
                    clock=self._clock,
                    report=monitor.report,
                    trace=self._trace,
                )
            )
            for one in spec.subscribers
        ]
        own = DeadLetters(
            bus=bus, target=None, dead_topic=spec.dead_topic, owner=self._name, clock=self._clock
        )
        inputs = self._inputs(bus, handovers, await stack.enter_async_context(own))
        servers = [
            InboxServer(one, self._entries(bus, one, handover))
            for one, handover in zip(spec.subscribers, handovers, strict=True)
        ]
        try:
            async with asyncio.TaskGroup() as group:
                watching = [group.create_task(monitor.run())]
                watching += [group.create_task(one.door.watch()) for one in handovers]
                async with asyncio.TaskGroup() as working:
                    working.create_task(self._consume(bus, inputs, monitor))
                    for server in servers:
                        working.create_task(server.run(bus))
                for one in watching:
                    one.cancel()
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None

    async def _consume(self, bus: Bus, inputs: Inputs, monitor: Monitor) -> None:
        """Read the inputs: with the other workers, or alone where order matters."""
        spec, reads = self._spec, consumers(self._spec)[0].topics
        if any(one.delivery.ordered for one in spec.subscribers):
            monitor.started()  # standing by is all that is asked of it
            await consume_alone(
                bus,
                reads,
                spec.group,
                inputs.handle,
                in_flight=spec.in_flight,
                started=monitor.started,
                clock=self._clock,
                stop=self._stop,
            )
        else:
            await bus.consume(
                reads,
                spec.group,
                inputs.handle,
                in_flight=spec.in_flight,
                started=monitor.started,
                stop=self._stop,
            )

    def _inputs(self, bus: Bus, handovers: Sequence[Handover], own: DeadLetters) -> Inputs:
        spec = self._spec
        joins = Joins(
            bus,
            self._evaluator,
            namespace=spec.namespace,
            trigger=spec.owner,
            subscribers=tuple(one.name for one in spec.subscribers),
            window=spec.window,
            clock=self._clock,
        )
        steps = Steps(
            spec,
            evaluator=self._evaluator,
            joins=joins,
            handovers=handovers,
            clock=self._clock,
            stop=self._stop,
            trace=self._trace,
        )
        return Inputs(
            spec,
            evaluator=self._evaluator,
            steps=steps,
            dead_letters=own,
            suspects=Suspects(bus.store, spec.group),
            worker=self._worker,
            clock=self._clock,
            stop=self._stop,
            trace=self._trace,
        )

    def _entries(self, bus: Bus, one: ResolvedSubscriber, handover: Handover) -> Entries:
        return Entries(
            handover,
            trigger=self._name,
            suspects=Suspects(bus.store, inbox_group(handover.inbox.topic)),
            most=most_in_hand(one.delivery, self._spec.in_flight),
            wide=bus.features.wide,
            worker=self._worker,
            clock=self._clock,
            stop=self._stop,
        )
