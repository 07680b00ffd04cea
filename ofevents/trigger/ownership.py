"""One worker at a time: where order matters, consuming is owned by a lease.

For the inputs and the inbox of `ordered` subscribers. What the last owner had in
hand comes again before what is newer, but in any order; so a new owner gathers it
first and begins with the oldest. A dead owner's lease outlives what it had in hand:
the bus hands that out again an ack wait (three times `hold`) after its death, and
its last renewal was up to a third of the lease's time before.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

from ofevents.clock import Clock
from ofevents.ports import Bus, Handler, Received
from ofevents.ports.lease import Lease
from ofevents.process import unless

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
            takeover = Takeover(
                handler,
                await _in_hand(bus, group),
                most=in_flight,
                patience=3 * bus.hold,
                clock=clock,
                stop=stop,
            )
            work = bus.consume(
                topics, group, takeover, in_flight=in_flight, started=started, stop=stop
            )
            await unless(lease.lost, work)


async def _in_hand(bus: Bus, group: str) -> int:
    """Messages that were handed out and are not settled."""
    return sum(one.in_flight for one in (await bus.inspect()).consumers if one.group == group)


class Takeover:
    """A handler that puts what the last owner had in hand back into its order."""

    def __init__(
        self,
        handler: Handler,
        missing: int,
        *,
        most: int,
        patience: float,
        clock: Clock,
        stop: asyncio.Event,
    ) -> None:
        """
        Args:
            missing: messages that the last owner had in hand.
            most: messages that can be in hand at once.
            patience: seconds to wait for those that do not come.
        """
        self._handler = handler
        self._missing = missing
        self._most = most
        self._patience = patience
        self._clock = clock
        self._stop = stop
        self._held: list[Received] | None = [] if missing else None
        self._complete = asyncio.Event()
        self._over = asyncio.Event()

    async def __call__(self, batch: list[Received]) -> None:
        """The first call handles all that is gathered; the later ones wait for its end."""
        if self._held is None:
            await self._handler(batch)
            return
        leads = not self._held
        self._held += batch
        self._missing -= sum(one.attempt > 1 for one in batch)
        if self._missing <= 0 or len(self._held) >= self._most:
            self._complete.set()
        if not leads:
            await self._over.wait()
            return
        try:
            await unless(self._stop, self._gathered())
            if not self._stop.is_set():
                held, self._held = sorted(self._held, key=_place), None
                await self._handler(held)
        finally:
            self._over.set()

    async def _gathered(self) -> None:
        await unless(self._complete, self._clock.sleep(self._patience))


def _place(received: Received) -> tuple[float, int, str]:
    """Orders messages as the bus stored them; a position is a number in text."""
    return received.stored, len(received.position), received.position
