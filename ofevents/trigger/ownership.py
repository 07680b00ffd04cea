"""One worker at a time: where order matters, consuming is owned by a lease.

For the inputs and the inbox of `ordered` subscribers. A dead owner's lease outlives
what it had in hand: that comes again an ack wait (three times `hold`) after its
death, and its last renewal was up to a third of the lease's time before. So the
next owner gets those messages again before newer ones.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final

from ofevents.bus.lease import Lease
from ofevents.clock import Clock
from ofevents.ports import Bus
from ofevents.trigger.stopping import unless

PREFIX: Final = "owner"
"""Where these leases lie in the store."""


def key_of(group: str) -> str:
    """The lease of a consumer group."""
    return f"{PREFIX}/{group}"


async def owned(
    bus: Bus,
    group: str,
    consume: Callable[[], Coroutine[Any, Any, None]],
    *,
    clock: Clock,
    stop: asyncio.Event,
) -> None:
    """Run `consume` while the group is ours, again and again until asked to stop.

    When the lease is lost it is cancelled, and gives back what it has in hand.
    """
    owner = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    ttl = 1.5 * 3 * bus.hold + 1
    while not stop.is_set():
        lease = Lease(bus.store, key_of(group), owner, ttl=ttl, clock=clock)
        async with AsyncExitStack() as stack:
            if await unless(stop, stack.enter_async_context(lease)):
                await unless(lease.lost, consume())
