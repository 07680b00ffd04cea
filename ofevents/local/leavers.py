"""What a subscriber leaves behind that an edited Trigger no longer has.

Its inbox would be served by nobody. What it was still owed becomes dead letters of
the Trigger, as `validate` warns for subscribers without a name, then the inbox goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable
from typing import Final

from ofevents.api.resolved import ResolvedTrigger
from ofevents.bus import topics
from ofevents.clock import Clock
from ofevents.errors import BadEvent, PermanentError, TemporaryError
from ofevents.ports import DONE, Bus, Delivery, Received
from ofevents.subscriber import DeadLetters

LOOK_EVERY: Final = 1.0


async def retire(inbox: str, name: str, trigger: ResolvedTrigger, bus: Bus, clock: Clock) -> None:
    """Move what subscriber `name` is owed to the Trigger's dead letters, then drop the inbox.

    Returns when nothing is left, which can be long: what is kept back until it is due
    comes out when it is due. Cancelled, the rest stays in the inbox.
    """
    gone = PermanentError(f"subscriber {name} was removed from the Trigger")
    letters = DeadLetters(
        bus=bus,
        target=None,
        dead_topic=trigger.dead_topic,
        owner=f"{trigger.namespace}/{trigger.owner}",
        clock=clock,
    )

    async def move(batch: list[Received]) -> None:
        for received in batch:
            try:
                body = received.body
            except BadEvent:
                body = None  # no delivery of ours: nobody was owed it
            if isinstance(body, Delivery):
                await letters.store(body, gone, attempts=body.attempt, where="inbox")
            received.settle(DONE)

    group, empty = topics.inbox_group(inbox), asyncio.Event()
    async with letters, asyncio.TaskGroup() as tasks:
        moving = bus.consume([inbox], group, move, in_flight=64, started=lambda: None, stop=empty)
        tasks.create_task(moving)
        while await _holds(bus, inbox):
            await clock.sleep(LOOK_EVERY)
        empty.set()
    await bus.remove(topics=[inbox], groups=[group])


async def _holds(bus: Bus, inbox: str) -> bool:
    try:
        report = await bus.inspect()
    except TemporaryError:
        return True  # not known: look again
    return any(one.topic == inbox and one.messages for one in report.topics)


def strangers(groups: Iterable[str], known: Container[str]) -> list[str]:
    """Triggers, as `namespace/name`, that have a group on the bus and are not `known`."""
    found = [group.split(".")[1:] for group in groups if group not in known]
    return sorted("/".join(map(topics.unescape, parts)) for parts in found)
