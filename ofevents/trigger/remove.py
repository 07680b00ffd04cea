"""What goes when a Trigger is deleted: its position, inboxes, dead letters and state.

Called by whoever manages Triggers (`ofevents run --watch`, the controller) after
its workers have ended.
"""

from __future__ import annotations

from ofevents.api.resolved import ResolvedTrigger
from ofevents.bus.topics import inbox_group
from ofevents.ports import Bus
from ofevents.trigger import away, join, suspects
from ofevents.trigger.leavers import left_over
from ofevents.trigger.ownership import key_of
from ofevents.trigger.worker import consumers


async def remove(spec: ResolvedTrigger, bus: Bus) -> None:
    """Remove what `deletionPolicy` says; what is not there is no error.

    With `Retain` everything stays: a Trigger of the same name goes on where this one
    was, and until then the bus keeps its unsettled events.

    Raises:
        Disconnected: not known to be removed; call it again.
    """
    if spec.deletion_policy == "Retain":
        return
    left = [one.inbox for one in left_over(await bus.inspect(), [spec])]
    groups = [*(one.group for one in consumers(spec)), *map(inbox_group, left)]
    inboxes = [*(one.inbox for one in spec.subscribers), *left]
    await bus.remove(topics=[*inboxes, spec.dead_topic], groups=groups)
    prefixes = [
        join.prefix(spec.namespace, spec.owner),
        away.prefix(spec.namespace, spec.owner),
        *map(suspects.prefix, groups),
    ]
    for prefix in prefixes:
        async for key, _ in bus.store.list(prefix):
            await bus.store.delete(key)
    for group in groups:
        await bus.store.delete(key_of(group))
