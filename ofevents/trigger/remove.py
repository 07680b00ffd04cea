"""What goes when a Trigger is deleted: its position, inboxes, dead letters and state.

Called by whoever manages Triggers (`ofevents run --watch`, the controller) after
its workers have ended; and by a last worker of its own (`ofevents trigger --remove`) where
nobody else reaches its bus.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from ofevents.api.resolved import ResolvedTrigger
from ofevents.bus import open_bus
from ofevents.bus.topics import inbox_group
from ofevents.clock import Clock
from ofevents.errors import TemporaryError
from ofevents.health import Health
from ofevents.ports import Bus
from ofevents.process import unless
from ofevents.telemetry import Log
from ofevents.trigger import away, join, suspects
from ofevents.trigger.leavers import left_over
from ofevents.trigger.ownership import key_of
from ofevents.trigger.worker import consumers

_AGAIN: Final = 1.0
"""Seconds until a bus that did not answer is asked again."""


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


async def run_removal(
    spec: ResolvedTrigger, *, health: Health, clock: Clock, stop: asyncio.Event
) -> None:
    """Remove it, be ready when that is done, and wait for `stop`.

    Args:
        health: gets a worker `Trigger`, `namespace/owner`.

    Raises:
        ConfigError: the bus's driver is missing.
    """
    worker = health.worker("Trigger", f"{spec.namespace}/{spec.owner}")
    log = Log(trigger=f"{spec.namespace}/{spec.owner}")
    while not stop.is_set():
        try:
            async with AsyncExitStack() as stack:
                with worker.waiting(f"EventBus {spec.bus.name}"):
                    bus = open_bus(spec.bus, clock=clock)
                    if not await unless(stop, stack.enter_async_context(bus)):
                        break
                    await remove(spec, bus)
                worker.ready(reason="Removed")
                log.info("removed", bus=spec.bus.name)
                # A sidecar that has an app to call is ready as long as that listens.
                with worker.waiting("its end"):
                    await stop.wait()
        except TemporaryError as error:
            worker.stalled(error.reason, str(error))
            log.warning("reconnecting", delay=_AGAIN, reason=str(error))
            with worker.waiting(f"EventBus {spec.bus.name}"):
                await unless(stop, clock.sleep(_AGAIN))
    worker.stopped()
