"""A fenced lease: one owner at a time of something that several workers could do.

Used for ordered lanes, probes of a subscriber that is away, and sources of which one
worker reads (promise 9), on any Store:

    async with Lease(store, "cron/shop/nightly", owner, ttl=15, clock=clock) as lease:
        while lease.held:
            ...

A lease ends when its owner does not renew it for `ttl` seconds: the store forgets
the entry. The owner counts from before it sent the write, the store from when
it got it, so the owner stops first. As a paused process cannot know that its
time is over, what it writes carries `token`, which is larger for every later
owner: who guards a resource by it refuses the smaller one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

import orjson

from ofevents.clock import Clock
from ofevents.errors import Conflict, Disconnected, TemporaryError
from ofevents.ports.store import Store

_RENEWALS: Final = 3
"""Renewals within one time to live: two may fail."""
_LOOK: Final = 1.0
"""Most seconds until who waits sees that the owner gave it up: a roll-out's pause."""


class Lease:
    """See the module. `owner` is unique per process and start, such as a pod's name
    with a random part; two Leases of one owner and key are one owner.

    Attributes:
        token: the fencing token, 0 before the lease is held for the first time.
        lost: set when it was held and is no more.
    """

    def __init__(self, store: Store, key: str, owner: str, *, ttl: float, clock: Clock) -> None:
        self.key = key
        self.owner = owner
        self.token = 0
        self.lost = asyncio.Event()
        self._store = store
        self._ttl = ttl
        self._clock = clock
        self._revision = 0
        self._until = 0.0
        self._renewing: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        """Whether it is ours now, by our own clock."""
        return self._revision > 0 and self._clock.monotonic() < self._until

    async def __aenter__(self) -> Self:
        """Wait until it is ours; a store that cannot be reached is waited for."""
        while True:
            try:
                if await self.acquire():
                    break
            except TemporaryError:
                pass  # not reached, or somebody was faster: the next try tells
            # Not all at the same moment, when many wait for one owner's end.
            wait = min(self._ttl / _RENEWALS, _LOOK)
            await self._clock.sleep(wait * random.uniform(0.5, 1.0))
        self._renewing = asyncio.create_task(self._renew(), name=f"lease {self.key}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it up at once, so that nobody waits for its time to end."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        await self.release()

    async def acquire(self) -> bool:
        """One try to get it: False while another owner has it.

        Raises:
            Disconnected: the store cannot be reached.
        """
        began = self._clock.monotonic()
        current = await self._store.get(self.key)
        if current is not None and current.value != self._value:
            return False
        # Our own entry is from a write whose answer was lost: it is taken over.
        try:
            revision = await self._write(current.revision if current else 0)
        except Conflict:
            return False
        self.token = self._revision = revision
        self._until = began + self._ttl
        self.lost.clear()
        return True

    async def renew(self) -> bool:
        """Extend it; False, and `lost`, when it is another's or its time is over.

        Raises:
            Disconnected: the store cannot be reached; it is held until its end.
        """
        began = self._clock.monotonic()
        if not self.held:
            self._lose()
            return False
        try:
            self._revision = await self._write(self._revision)
        except Conflict:
            # Perhaps our own last renewal, whose answer was lost.
            current = await self._store.get(self.key)
            if current is None or current.value != self._value:
                self._lose()
                return False
            self._revision = current.revision
            return True
        self._until = began + self._ttl
        return True

    async def release(self) -> None:
        """Let another owner have it; not an error when it is lost already."""
        revision, self._revision = self._revision, 0
        if not revision:
            return
        try:
            await self._delete(revision)
        except TemporaryError:
            pass  # the store forgets it at its end

    async def _delete(self, revision: int) -> None:
        try:
            await self._store.delete(self.key, revision=revision)
        except Conflict:
            # Perhaps our own last renewal, which was cancelled while its answer was on its way.
            current = await self._store.get(self.key)
            if current is not None and current.value == self._value:
                await self._store.delete(self.key, revision=current.revision)

    @property
    def _value(self) -> bytes:
        return orjson.dumps({"owner": self.owner})

    async def _write(self, revision: int) -> int:
        return await self._store.put(self.key, self._value, revision=revision, ttl=self._ttl)

    async def _renew(self) -> None:
        while not self.lost.is_set():
            await self._clock.sleep(self._ttl / _RENEWALS)
            try:
                await self.renew()
            except TemporaryError:
                pass  # tried again in a third of its time; `held` tells the truth meanwhile

    def _lose(self) -> None:
        self._revision = 0
        self.lost.set()


async def while_held(
    lease: Lease, work: Callable[[], Awaitable[None]], *, standing_by: Callable[[], None]
) -> None:
    """Do `work` once the lease is ours; `standing_by` is called when that is not at once.

    Raises:
        Disconnected: the lease was lost, and `work` was cancelled; or what `work` raises.
    """
    if not await lease.acquire():
        standing_by()
    async with lease:
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(_lost(lease), name=f"lease {lease.key}: watches")
                await work()
                watching.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None


async def _lost(lease: Lease) -> None:
    await lease.lost.wait()
    raise Disconnected(f"the lease {lease.key} was lost: another worker may have it")
