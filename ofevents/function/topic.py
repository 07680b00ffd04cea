"""A function called with the events of a topic: an async subscriber.

It shares a durable position with all processes of the same function, so several
of them share the work and a restart goes on where it was. Returning is the
acknowledgement; raising hands the event out again after a backoff, and after
`retries` times, or at once for `Rejected`, it is stored as a dead letter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from ofevents.bus import topics
from ofevents.clock import Clock
from ofevents.errors import BadEvent, PermanentError
from ofevents.event import Event
from ofevents.function.call import Context, Handler, call
from ofevents.ports import DONE, Bus, Consumer, Delivery, Received, Verdict, retry
from ofevents.subscriber.deadletter import DeadLetters
from ofevents.telemetry import Log

FIRST_BACKOFF: Final = 1.0


@dataclass(frozen=True, slots=True)
class Subscription:
    """A handler on a topic (its full name); the group is its durable position."""

    topic: str
    group: str
    handler: Handler
    start: Literal["now", "earliest"]
    in_flight: int
    retries: int
    dead_topic: str

    @property
    def consumer(self) -> Consumer:
        return Consumer(self.group, (self.topic,), self.start)


async def consume(
    bus: Bus,
    subscription: Subscription,
    context: Callable[[Event, int], Context],
    log: Log,
    *,
    owner: str,
    clock: Clock,
    stop: asyncio.Event,
    started: Callable[[], None],
) -> None:
    """Call the handler for each event until `stop`, then finish what is in hand.

    `owner` is `namespace/function`.
    """

    async def one(received: Received) -> None:
        received.settle(await _verdict(received))

    async def _verdict(received: Received) -> Verdict:
        try:
            body = received.body
        except BadEvent as error:
            log.error("refused", topic=subscription.topic, reason=str(error))
            return DONE
        event = body.event if isinstance(body, Delivery) else body
        try:
            await call(subscription.handler, context(event, received.attempt))
        except Exception as error:
            return await _failed(event, received.attempt, error)
        return DONE

    async def _failed(event: Event, attempt: int, error: Exception) -> Verdict:
        reason = f"{type(error).__name__}: {error}"
        if attempt <= subscription.retries and not isinstance(error, PermanentError):
            delay = min(FIRST_BACKOFF * 2 ** min(attempt - 1, 16), bus.hold)
            log.warning("retrying", id=event.id, attempt=attempt, delay=delay, reason=reason)
            return retry(delay)
        letter = Delivery(f"{owner}/{topics.show(subscription.topic)}", (event,), attempt=attempt)
        cause = error if isinstance(error, PermanentError) else PermanentError(reason)
        await letters.store(letter, cause, attempts=attempt, where="function")
        return DONE

    async def batch(received: list[Received]) -> None:
        async with asyncio.TaskGroup() as group:
            for message in received:
                group.create_task(one(message))

    await bus.ensure([subscription.topic, subscription.dead_topic], [subscription.consumer])
    letters = DeadLetters(
        bus=bus, target=None, dead_topic=subscription.dead_topic, owner=owner, clock=clock
    )
    async with letters:
        await bus.consume(
            [subscription.topic],
            subscription.group,
            batch,
            in_flight=subscription.in_flight,
            started=started,
            stop=stop,
        )


def group_name(namespace: str, function: str, topic: str) -> str:
    """The consumer group of a function on a topic (its full name)."""
    return f"function.{topics.escape(namespace)}.{topics.escape(function)}.{topic}"
