"""Step 2' of the data's way: without a bus, a source calls its function itself.

Two kinds of caller. A source whose outside waits for the answer (a webhook) makes
one attempt and passes the answer on as it is, and nothing is dead-lettered
(promise 11). Any other source waits: for a 2xx, or until the dead letter is stored.
With nowhere to store one it is Stalled and tries again for ever, as nothing may be
dropped (promise 6).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import orjson

from ofevents.api.resolved import ResolvedSource, SinkTarget
from ofevents.clock import Clock
from ofevents.errors import ConfigError, PermanentError, Rejected, TemporaryError, TooLarge
from ofevents.event import Event
from ofevents.ports import Delivery, Emit, Reply, SourceFeatures, Subscriber
from ofevents.source.letters import Letters, subscriber_id
from ofevents.source.screen import Screen, Screened
from ofevents.source.standing import Standing
from ofevents.subscriber import DeadLetters, GivenUp, TimedOut, open_subscriber, pipeline
from ofevents.telemetry import DELIVERED, RECEIVED


@asynccontextmanager
async def open_direct(
    spec: ResolvedSource,
    *,
    features: SourceFeatures,
    screen: Screen,
    standing: Standing,
    clock: Clock,
) -> AsyncIterator[Emit]:
    """The Emit of an entry without a bus; its connections live as long as the block.

    Raises:
        ConfigError: there is no sink, or it is wrong.
    """
    if spec.target is None:
        raise ConfigError(
            "the EventSource has neither an eventBus nor a sink: its events have nowhere to go",
            path="spec",
        )
    name = subscriber_id(spec)
    async with AsyncExitStack() as stack:
        if features.replies:
            bare = open_subscriber(
                spec.target, bus=None, subscriber_id=name, clock=clock,
                options=spec.delivery, answers="pass",
            )  # fmt: skip
            yield AnsweringEmit(spec, await stack.enter_async_context(bare), screen, standing)
            return
        letters = None
        if spec.dead_letter is not None:
            dead = DeadLetters(
                bus=None,
                target=spec.dead_letter,
                dead_topic="",
                owner=f"{spec.namespace}/{spec.name}",
                clock=clock,
            )
            letters = Letters(spec, await stack.enter_async_context(dead), standing)
        inner = await stack.enter_async_context(
            pipeline(
                spec.target, spec.delivery, bus=None, subscriber_id=name, clock=clock
            )
        )  # fmt: skip
        yield WaitingEmit(spec, inner, screen, letters, standing)


class _Counting:
    """What both ways share: who calls, and what is counted."""

    def __init__(
        self, spec: ResolvedSource, subscriber: Subscriber, screen: Screen, standing: Standing
    ) -> None:
        self._subscriber = subscriber
        self._screen = screen
        self._standing = standing
        self._name = subscriber_id(spec)
        self._broker = isinstance(spec.target, SinkTarget)
        what = "broker" if self._broker else "function"
        self._on = f"the {what} of {spec.namespace}/{spec.name}"
        names = (spec.namespace, spec.name, spec.entry)
        self._received = RECEIVED.labels(*names)
        self._delivered = DELIVERED.labels(*names)

    async def _call(self, event: Event) -> Reply:
        with self._standing.worker.waiting(self._on):
            return await self._subscriber.deliver(Delivery(self._name, (event,)))


class AnsweringEmit(_Counting):
    """One attempt; the function's answer is the caller's."""

    async def __call__(self, *events: Event) -> Reply | None:
        """The answer, 504 without one in time, 502 without a connection; None if filtered.

        Of a broker the answer is 202, once it has confirmed the event.

        Raises:
            PermanentError: what the screen refuses, or several events at once.
        """
        self._received.inc(len(events))
        if len(events) != 1:
            raise Rejected(
                f"{len(events)} events in one request; without an eventBus the answer is the "
                "function's, so it must be one event"
            )
        try:
            event = self._screen.judge(events[0])
        except Screened as refused:
            raise refused.error from refused
        if event is None:
            return None
        self._standing.worker.in_flight += 1
        try:
            reply = await self._call(event)
        except TimedOut as error:
            return _sentence(504, str(error))
        except TooLarge as error:
            # Of a function it is the answer that is too large, of a broker the event.
            return _sentence(413 if self._broker else 502, str(error))
        except TemporaryError as error:
            return _sentence(502, str(error))
        finally:
            self._standing.worker.in_flight -= 1
            self._standing.worker.step()
        if reply.status < 300:
            self._delivered.inc()
        return reply


class WaitingEmit(_Counting):
    """Calls with retries, and waits until each event is settled, one after the other."""

    def __init__(
        self,
        spec: ResolvedSource,
        subscriber: Subscriber,
        screen: Screen,
        letters: Letters | None,
        standing: Standing,
    ) -> None:
        super().__init__(spec, subscriber, screen, standing)
        self._letters = letters

    async def __call__(self, *events: Event) -> None:
        """Return when every event is accepted, filtered, or stored as a dead letter."""
        worker = self._standing.worker
        self._received.inc(len(events))
        worker.in_flight += len(events)
        try:
            for event in events:
                await self._settle(event)
        finally:
            worker.in_flight -= len(events)
            worker.step()

    async def _settle(self, event: Event) -> None:
        async def attempt() -> None:
            wanted = self._screen.judge(event)
            if wanted is not None:
                await self._call(wanted)
                self._delivered.inc()

        # Where nothing can be stored, what fails for good stays in hand: Stalled.
        stubborn = self._letters is None
        try:
            await self._standing.wait_out(attempt, on=self._on, patience=None, stubborn=stubborn)
        except Screened as refused:
            await self._store(event, refused.error, refused.where)
        except PermanentError as error:
            await self._store(event, error, "delivery")

    async def _store(self, event: Event, error: PermanentError, where: str) -> None:
        assert self._letters is not None
        attempts = 0
        if isinstance(error, GivenUp):
            event, attempts = error.delivery.event, error.delivery.attempt
        await self._letters.store(event, error, where=where, patience=None, attempts=attempts)


def _sentence(status: int, error: str) -> Reply:
    body = orjson.dumps({"error": error})
    return Reply(status, {"content-type": "application/json"}, body)
