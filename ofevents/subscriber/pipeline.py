"""Puts the way out together: what the trigger and the source call.

    ReplyTo( Retry( Limit( Gate( Measure( a bare subscriber: HTTP, topic, sink )))))

The trigger's `Handover` stands around all of this: what Retry postpones it puts
into the inbox, what is given up it stores with `DeadLetters`. A source without a
bus does the same without an inbox: it gives no `hold`, and so waits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

from ofevents.api.resolved import ResolvedDelivery, SinkTarget, Target, TopicTarget
from ofevents.clock import Clock
from ofevents.errors import ConfigError
from ofevents.ports import Bus, Subscriber
from ofevents.subscriber.answer import Answers
from ofevents.subscriber.gate import Gate, Observer, Unwatched
from ofevents.subscriber.http import open_http
from ofevents.subscriber.limit import Limit
from ofevents.subscriber.measure import Measure
from ofevents.subscriber.reply import ReplyTo
from ofevents.subscriber.retry import Backoff, Retry
from ofevents.subscriber.sink import open_sink
from ofevents.subscriber.timeout import Timeout
from ofevents.subscriber.topic import TopicSubscriber

DEFAULTS = ResolvedDelivery()


@asynccontextmanager
async def open_subscriber(
    target: Target,
    *,
    bus: Bus | None,
    subscriber_id: str,
    clock: Clock,
    options: ResolvedDelivery = DEFAULTS,
    answers: Answers = "ignore",
) -> AsyncIterator[Subscriber]:
    """The bare subscriber, one attempt per delivery, with the timeout of `options`.

    Args:
        bus: for a topic; None where there is none.
        subscriber_id: `namespace/trigger/name`.
        answers: which answers are kept; `pass` returns any status as a Reply, for a
            caller who waits (promise 11).

    Raises:
        ConfigError: the target is wrong, or a topic and there is no bus.
    """
    batch = options.batch_size > 0
    if isinstance(target, TopicTarget):
        if bus is None:
            raise ConfigError("a topic needs an eventBus", path="topic")
        # No timeout of its own: a publish has the bus's deadline, and a bus that is slow
        # must not count as a subscriber that is away.
        yield TopicSubscriber(bus, target.topic, batch=batch)
        return
    if isinstance(target, SinkTarget):
        # A broker's answer is that it has the event: a 202, also for a caller who waits.
        async with open_sink(target, clock=clock, options=options) as sink:
            yield sink
        return
    async with open_http(
        target,
        subscriber=subscriber_id,
        clock=clock,
        format=options.format,
        batch=batch,
        answers=answers,
        timeout=options.timeout,
        connections=options.concurrency,
    ) as subscriber:
        # Who waits for the answer waits for an OAuth 2 token, too, which has its own timeout.
        yield Timeout(subscriber, options.timeout) if answers == "pass" else subscriber


def _wrap(
    inner: Subscriber,
    options: ResolvedDelivery,
    *,
    bus: Bus | None,
    subscriber_id: str,
    clock: Clock,
    reply_topic: str | None,
    hold: float,
    observer: Observer | None,
) -> Subscriber:
    """The standard wrappers around a bare subscriber; see `pipeline`."""
    measured = Measure(inner, subscriber=subscriber_id, clock=clock)
    gated = Gate(measured, observer or Unwatched())
    limited = Limit(gated, concurrency=options.concurrency, rate=options.rate, clock=clock)
    backoff = Backoff(options.retries, options.backoff, options.max_backoff, hold)
    made: Subscriber = Retry(limited, backoff, subscriber=subscriber_id, clock=clock)
    if reply_topic is not None:
        if bus is None:
            raise ConfigError("a reply topic needs an eventBus", path="reply")
        made = ReplyTo(made, bus, reply_topic)
    return made


@asynccontextmanager
async def pipeline(
    target: Target,
    options: ResolvedDelivery,
    *,
    bus: Bus | None,
    subscriber_id: str,
    clock: Clock,
    reply_topic: str | None = None,
    hold: float = inf,
    observer: Observer | None = None,
) -> AsyncIterator[Subscriber]:
    """A subscriber as its resource describes it; its connections live as long as this.

    `deliver` returns when the delivery is accepted, and raises `Postponed` (for the
    inbox), another TemporaryError (nothing is settled), or a PermanentError such as
    `GivenUp` (for the dead letters).

    Args:
        reply_topic: where answers that are CloudEvents go.
        hold: seconds that a delivery may wait here for its next attempt (`Bus.hold`).
        observer: says before each call whether it may be made, and afterwards whether
            its failure counts.

    Raises:
        ConfigError: the target is wrong.
    """
    async with open_subscriber(
        target,
        bus=bus,
        subscriber_id=subscriber_id,
        clock=clock,
        options=options,
        answers="ignore" if reply_topic is None else "events",
    ) as inner:
        yield _wrap(
            inner,
            options,
            subscriber_id=subscriber_id,
            clock=clock,
            bus=bus,
            reply_topic=reply_topic,
            hold=hold,
            observer=observer,
        )
