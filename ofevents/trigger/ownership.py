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
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

from ofevents.bus.lease import Lease
from ofevents.clock import Clock
from ofevents.ports import Bus, Handler, Received, retry
from ofevents.trigger.stopping import unless

PREFIX: Final = "owner"
"""Where these leases lie in the store."""


def key_of(group: str) -> str:
    """The lease of a consumer group."""
    return f"{PREFIX}/{group}"


async def consume_alone(
    bus: Bus,
    topics: Sequence[str],
    group: str,
    handler: Handler,
    *,
    in_flight: int,
    started: Callable[[], None],
    clock: Clock,
    stop: asyncio.Event,
) -> None:
    """As `Bus.consume`, while the group is ours; waits for it again when it is lost."""
    owner = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    ttl = 1.5 * 3 * bus.hold + 1
    while not stop.is_set():
        lease = Lease(bus.store, key_of(group), owner, ttl=ttl, clock=clock)
        async with AsyncExitStack() as stack:
            if not await unless(stop, stack.enter_async_context(lease)):
                return
            hand = _Hand(handler)
            work = bus.consume(topics, group, hand, in_flight=in_flight, started=started, stop=stop)
            await unless(lease.lost, work, before=hand.give_back)


class _Hand:
    """Knows what is in hand, in the order in which it came."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._open: dict[int, list[Received]] = {}

    async def __call__(self, batch: list[Received]) -> None:
        self._open[id(batch)] = batch
        try:
            await self._handler(batch)
        finally:
            del self._open[id(batch)]

    def give_back(self) -> None:
        """Before the handlers are cancelled, which has no order."""
        for batch in self._open.values():
            for received in batch:
                received.settle(retry())
