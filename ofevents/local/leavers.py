"""What a subscriber leaves behind that an edited Trigger no longer has.

Its inbox would be served by nobody. What it was still owed becomes dead letters of
the Trigger, as `validate` warns for subscribers without a name, then the inbox goes.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from ofevents.api.resolved import ResolvedTrigger
from ofevents.bus import topics
from ofevents.clock import Clock
from ofevents.errors import BadEvent, PermanentError
from ofevents.ports import Bus, Delivery
from ofevents.subscriber import DeadLetters


async def retire(old: ResolvedTrigger, new: ResolvedTrigger, bus: Bus, clock: Clock) -> list[str]:
    """Settle the inboxes of the subscribers that `new` has no more; their names.

    Done twice, it stores a dead letter once.

    Raises:
        TemporaryError: a dead letter could not be stored; its inbox is as it was.
    """
    kept = {one.inbox for one in new.subscribers}
    leaving = [one for one in old.subscribers if one.inbox not in kept]
    letters = DeadLetters(
        bus=bus,
        target=None,
        dead_topic=new.dead_topic,
        owner=f"{new.namespace}/{new.name}",
        clock=clock,
    )
    async with letters:
        for one in leaving:
            gone = PermanentError(f"subscriber {one.name} was removed from the Trigger")
            async for received in bus.browse([one.inbox]):
                try:
                    body = received.body
                except BadEvent:
                    continue  # no delivery of ours: nobody was owed it
                if isinstance(body, Delivery):
                    await letters.store(body, gone, attempts=body.attempt, where="inbox")
            await bus.remove(topics=[one.inbox], groups=[topics.inbox_group(one.inbox)])
    return [one.name for one in leaving]


def strangers(groups: Iterable[str], known: Container[str]) -> list[str]:
    """Triggers, as `namespace/name`, that have a group on the bus and are not `known`."""
    found = [group.split(".")[1:] for group in groups if group not in known]
    return sorted("/".join(map(topics.unescape, parts)) for parts in found)
