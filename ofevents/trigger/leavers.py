"""What subscribers leave behind that their Trigger no longer has.

Such an inbox would be served by nobody. `left_over` finds them in what the bus
reports; `retire` makes what is in one dead letters of the Trigger, as `validate`
warns for subscribers without a name, then lets go of the inbox. A subscriber that
was renamed is one that was removed and one that was added.

Called by whoever manages Triggers: `ofevents run` at its start and after each edit,
and the controller, which may have slept through an edit just the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final

from ofevents.api.resolved import ResolvedTrigger
from ofevents.bus import topics
from ofevents.clock import Clock
from ofevents.errors import BadEvent, ConfigError, PermanentError, TemporaryError
from ofevents.ports import DONE, Bus, BusReport, Consumer, Delivery, Received, Verdict, retry
from ofevents.process import first_error
from ofevents.subscriber import DeadLetters
from ofevents.trigger import away, suspects
from ofevents.trigger.ownership import key_of

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at an inbox, and before what could not be moved is tried again."""


@dataclass(frozen=True, slots=True)
class Leaver:
    """An inbox on the bus of a subscriber `name` that its Trigger does not have."""

    trigger: ResolvedTrigger
    name: str
    inbox: str


def left_over(report: BusReport, triggers: Iterable[ResolvedTrigger]) -> list[Leaver]:
    """The inboxes of these Triggers, all on the bus of the report, that nobody serves.

    A Trigger that is not among them keeps what it has: it may be without a Secret now,
    or be somebody else's.
    """
    known = {(one.namespace, one.owner): one for one in triggers}
    served = {subscriber.inbox for one in known.values() for subscriber in one.subscribers}
    seen = {one.group for one in report.consumers}
    seen |= {one.topic for one in report.topics if one.messages}
    found = []
    for inbox in sorted(seen - served):
        owner, name = _owner(inbox)
        if owner in known:
            found.append(Leaver(known[owner], name, inbox))
    return found


def _owner(inbox: str) -> tuple[tuple[str, str] | None, str]:
    """Namespace and Trigger, and the subscriber; None for what is no inbox's name."""
    try:
        kind, parts = topics.split(inbox)
    except ConfigError:
        return None, ""
    if kind != "inbox" or len(parts) != 3:
        return None, ""
    return parts[:2], parts[2]


def strangers(groups: Iterable[str], known: Container[str]) -> list[str]:
    """Triggers, as `namespace/name`, that have a group on the bus and are not `known`."""
    found = [group.split(".")[1:] for group in groups if group not in known]
    return sorted("/".join(map(topics.unescape, parts)) for parts in found)


async def retire(leaver: Leaver, bus: Bus, clock: Clock) -> None:
    """Move what it is owed to the Trigger's dead letters, then let go of its inbox.

    Returns when nothing is left, which can be long: what is kept back until it is due
    comes out when it is due, and a bus that is away or full is waited for. Cancelled,
    the rest stays in the inbox.

    Nothing is purged: a worker of the Trigger as it was may still run, and what it puts
    into the inbox after the last look is found there by the next `left_over`.
    """
    trigger, group = leaver.trigger, topics.inbox_group(leaver.inbox)
    letters = DeadLetters(
        bus=bus,
        target=None,
        dead_topic=trigger.dead_topic,
        owner=f"{trigger.namespace}/{trigger.owner}",
        clock=clock,
    )
    async with letters:
        while True:
            try:
                await bus.ensure([leaver.inbox], [Consumer(group, (leaver.inbox,), "earliest")])
                await _empty(leaver, letters, bus, clock)
                await bus.remove(groups=[group])
                await bus.store.delete(key_of(group))
                async for key, _ in bus.store.list(suspects.prefix(group)):
                    await bus.store.delete(key)
                await bus.store.delete(away.key_of(trigger.namespace, trigger.owner, leaver.name))
                return
            except TemporaryError as error:
                await clock.sleep(max(LOOK_EVERY, error.delay))


async def _empty(leaver: Leaver, letters: DeadLetters, bus: Bus, clock: Clock) -> None:
    gone = PermanentError(f"subscriber {leaver.name} was removed from the Trigger")

    async def move(batch: list[Received]) -> None:
        for received in batch:
            received.settle(await _move(received, letters, gone))

    group, empty = topics.inbox_group(leaver.inbox), asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                bus.consume(
                    [leaver.inbox], group, move, in_flight=64, started=lambda: None, stop=empty
                )
            )
            while await _holds(bus, leaver.inbox):
                await clock.sleep(LOOK_EVERY)
            empty.set()
    except BaseExceptionGroup as errors:
        raise first_error(errors) from None


async def _move(received: Received, letters: DeadLetters, gone: PermanentError) -> Verdict:
    try:
        body = received.body
    except BadEvent:
        return DONE  # no delivery of ours: nobody was owed it
    if isinstance(body, Delivery):
        try:
            await letters.store(body, gone, attempts=body.attempt, where="inbox")
        except TemporaryError as error:
            return retry(max(LOOK_EVERY, error.delay))
    return DONE


async def _holds(bus: Bus, inbox: str) -> bool:
    try:
        report = await bus.inspect()
    except TemporaryError:
        return True  # not known: look again
    return any(one.topic == inbox and one.messages for one in report.topics)
