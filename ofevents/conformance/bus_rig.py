"""What a Bus brings to its conformance suite, and the tools of the checks.

A `BusRig` is one empty bus and its server: the suite asks it for connections, to
break and mend the server, and to publish as a stranger would. `Taken` plays a
Trigger: it remembers what it was handed and settles it as the check wants.

Write your own rig, then await every check of `check_bus.CHECKS` that `applies`
to it; each raises `NotConformant` with a sentence.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from ofevents.bus import topics
from ofevents.conformance.verdict import NotConformant, come_true, require
from ofevents.event import Event
from ofevents.ports import (
    DONE,
    Bus,
    BusFeatures,
    Consumer,
    Delivery,
    Message,
    Received,
    Verdict,
    retry,
)

PATIENCE = 60.0
"""Seconds that anything may take; a check fails after it. Beside other work a group of Kafka
takes half of it to form anew: a sidecar starts, a dead member's session ends, all join."""

TOPIC = topics.event("default", "shop", "orders")
OTHER = topics.event("default", "shop", "payments")
USER = topics.user("default", "metrics")
INBOX = topics.inbox("default", "billing", "charge")
DEAD = topics.dead("default", "billing")
GROUP = topics.trigger_group("default", "billing")
GROUP_2 = topics.trigger_group("default", "audit")


class BusRig(Protocol):
    """One empty bus and its server; made anew for each check.

    Attributes:
        features: of the driver.
        breakable: there is a server to take away; `break_` and `restart` work.
        ack_wait: seconds after which a message that nobody holds comes again.
    """

    features: BusFeatures
    breakable: bool
    ack_wait: float

    def make(self, **options: Any) -> Bus:
        """A new connection to the same bus; `options` as in a ResolvedBus, `ack_wait` in
        seconds in place of the rig's own.

        `max_bytes` bounds the events that the bus holds, in bytes; what it keeps of
        user topics beside them is bounded too, by a small multiple of it or 2 MiB.
        """
        ...

    async def foreign(self, topic: str, headers: dict[str, str], body: bytes) -> None:
        """Publish bytes on the topic without any of our code."""
        ...

    async def break_(self) -> None:
        """Take the server away, as a crash does."""
        ...

    async def restart(self) -> None:
        """Bring the server back, with all it held."""
        ...


@dataclass(frozen=True, slots=True)
class Check:
    """One check: `run` raises NotConformant; `applies` says whether it is asked."""

    run: Callable[[BusRig], Awaitable[None]]
    applies: Callable[[BusRig], bool] = lambda rig: True

    @property
    def name(self) -> str:
        return self.run.__name__


async def within(condition: Callable[[], bool], sentence: str, seconds: float = PATIENCE) -> None:
    """Wait for a condition; NotConformant when it does not come."""
    await come_true(condition, sentence, seconds)


async def never(condition: Callable[[], bool], sentence: str, seconds: float) -> None:
    """Watch that a condition does not come for so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        require(not condition(), sentence)
        await asyncio.sleep(0.01)


async def raises(kind: type[Exception], call: Awaitable[object], sentence: str) -> Exception:
    """Await it; NotConformant unless it raises that kind in time."""
    try:
        async with asyncio.timeout(PATIENCE):
            await call
    except kind as error:
        require(len(str(error)) > 10, f"{kind.__name__} says nothing that helps")
        return error
    except TimeoutError:
        raise NotConformant(f"not within {PATIENCE:g} s: {sentence}") from None
    raise NotConformant(sentence)


def event(id: str, *, source: str = "/shop", data: bytes = b'{"amount": 1.50}') -> Event:
    """A small event."""
    return Event.create(id=id, source=source, type="order.created", data=data)


def messages(*ids: str, **fields: Any) -> list[Message]:
    """Small events of one writer."""
    return [Message(event(id, **fields), "default/webhook/shop/orders") for id in ids]


def ids(count: int, prefix: str = "e") -> list[str]:
    return [f"{prefix}{n}" for n in range(count)]


def width(rig: BusRig, wanted: int) -> int:
    """How many messages a check can have in hand at once: `wanted`, or one where the bus
    promises no more."""
    return wanted if rig.features.wide else 1


def owed(event: Event, **fields: Any) -> Message:
    """A delivery for the inbox."""
    delivery = Delivery("default/billing/charge", (event,), **fields)
    return Message(delivery, delivery.subscriber, due=delivery.due)


class Taken:
    """A handler. By default it settles DONE what it gets.

    Attributes:
        seen: everything that was handed out, in order.
        at: when, by the monotonic clock.
        open: what was handed out to a call that still runs.
        gate: while it is clear, nothing is settled and no call returns.
        verdicts: settled with these first, one each.
        failures: raised by the next calls, one each.
        calls: handler calls that are running.
        most: the most messages that were open at once.
    """

    def __init__(self, *verdicts: Verdict) -> None:
        self.seen: list[Received] = []
        self.at: list[float] = []
        self.open: list[Received] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.verdicts = list(verdicts)
        self.failures: list[Exception] = []
        self.calls = 0
        self.most = 0

    async def __call__(self, received: list[Received]) -> None:
        self.calls += 1
        self.seen += received
        self.at += [time.monotonic()] * len(received)
        self.open += received
        self.most = max(self.most, len(self.open))
        try:
            if self.failures:
                raise self.failures.pop(0)
            await self.gate.wait()
            for one in received:
                one.settle(self.verdicts.pop(0) if self.verdicts else DONE)
        finally:
            self.calls -= 1
            self.open = [one for one in self.open if one not in received]

    @property
    def ids(self) -> list[str]:
        """Event ids of everything seen, in order, repetitions included."""
        return [id_of(one) for one in self.seen]

    async def gets(self, wanted: Sequence[str], seconds: float = PATIENCE) -> None:
        """Wait until all of these were handed out."""
        sentence = f"{len(wanted)} messages are handed out"
        await within(lambda: set(wanted) <= set(self.ids), sentence, seconds)


def id_of(one: Received) -> str:
    body = one.body
    return body.event.id if isinstance(body, Delivery) else body.id


def once(features: BusFeatures, seen: Sequence[Received]) -> list[Received]:
    """What was handed out, in order; each once where the bus does not hold what is open: it
    may hand that out again, and settling it crosses the next handing out."""
    return list(seen) if features.holds else list({one.position: one for one in seen}.values())


class Consuming:
    """A running `consume`."""

    def __init__(self) -> None:
        self.started = 0
        self.stop = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def live(self) -> None:
        self.started += 1


_numbers = itertools.count()


@asynccontextmanager
async def consuming(
    bus: Bus,
    handler: Taken,
    topic: str | Sequence[str] = TOPIC,
    group: str = GROUP,
    *,
    in_flight: int = 100,
) -> AsyncIterator[Consuming]:
    """A consumer, live when this is entered, cancelled when it is left."""
    running = Consuming()
    on = [topic] if isinstance(topic, str) else list(topic)
    call = bus.consume(
        on, group, handler, in_flight=in_flight, started=running.live, stop=running.stop
    )
    running.task = asyncio.create_task(_run(call), name=f"consume {next(_numbers)}")
    try:
        await within(lambda: running.started > 0 or running.task.done(), "started was called")  # type: ignore[union-attr]
        yield running
    finally:
        running.task.cancel()
        _, pending = await asyncio.wait([running.task], timeout=PATIENCE)
        require(not pending, f"a cancelled consume is still running after {PATIENCE:g} s")
    if not running.task.cancelled() and (error := running.task.exception()) is not None:
        raise error


async def _run(call: Awaitable[None]) -> None:
    await call


@asynccontextmanager
async def ensured(rig: BusRig, *consumers: Consumer, **options: Any) -> AsyncIterator[Bus]:
    """A connection, with one group on TOPIC unless others are given."""
    wanted = consumers or (Consumer(GROUP, (TOPIC,)),)
    async with rig.make(**options) as bus:
        await bus.ensure([topic for one in wanted for topic in one.topics], wanted)
        yield bus


async def drained(
    bus: Bus, topic: str = TOPIC, group: str = GROUP, *, wanted: Iterable[str] = ()
) -> list[str]:
    """Take everything that the group has still to get, until half a second of silence.

    A bus that hands out less than is asked for may take its time, to begin with above all:
    a Kafka group has to be joined. And a message dealt to a consumer that has just gone
    comes only after an ack wait: silence tells nothing before what is `wanted` is there.
    That is waited for as long as for anything; what comes is returned in any case, once
    where the bus does not hold what is open: it may hand that out again.
    """
    taken, awaited = Taken(), Counter(wanted)

    def came() -> list[str]:
        return [id_of(one) for one in once(bus.features, taken.seen)]

    first, later = (0.5, 0.5) if bus.features.wide else (5.0, 1.5)
    async with consuming(bus, taken, topic, group):
        with suppress(NotConformant):  # the caller says what it misses
            await within(lambda: awaited <= Counter(came()), "what is wanted comes")
        count, since = -1, time.monotonic()
        while time.monotonic() - since < (later if taken.seen else first):
            if len(taken.seen) != count:
                count, since = len(taken.seen), time.monotonic()
            await asyncio.sleep(0.01)
    return came()


__all__ = [
    "DEAD",
    "DONE",
    "GROUP",
    "GROUP_2",
    "INBOX",
    "OTHER",
    "PATIENCE",
    "TOPIC",
    "USER",
    "BusRig",
    "Check",
    "NotConformant",
    "Taken",
    "consuming",
    "drained",
    "ensured",
    "event",
    "id_of",
    "ids",
    "messages",
    "never",
    "once",
    "owed",
    "raises",
    "require",
    "retry",
    "width",
    "within",
]
