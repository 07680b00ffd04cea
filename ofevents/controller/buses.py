"""The controller's connections to the buses: makes streams and consumers, removes positions.

A bus is connected to when a resource first needs it, and let go of when none does. One
that is away is told as Disconnected at once, so that it keeps nobody else waiting; when it
is back, those that need it are asked to look again. A dapr bus is inside the workers'
sidecars: nothing can be made on it from here, its workers do it themselves.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import open_bus
from ofevents.clock import Clock
from ofevents.cluster.lookup import UsedSecret
from ofevents.controller.plan import fill
from ofevents.controller.queue import Key
from ofevents.errors import Disconnected, OfeventsError
from ofevents.ports import Bus
from ofevents.resolve import BusPlan, Needs

PATIENCE: Final = 5.0
"""Seconds that a bus gets to answer the first time."""
_ENSURE: Final = 30.0
_LOOK: Final = 1.0
_AGAIN: Final = 30.0
"""Seconds after which a connection that was refused is made anew."""


class Link:
    """One connection, for the resources that use it.

    Attributes:
        error: why it cannot be used at all, "" otherwise.
    """

    def __init__(self, resolved: ResolvedBus, tell: Callable[[], None], clock: Clock) -> None:
        self.resolved = resolved
        self.users: set[Key] = set()
        self.error = ""
        self.ensured: dict[Key, Needs] = {}
        self._tell = tell
        self._clock = clock
        self._ready = asyncio.Event()
        self._bus: Bus | None = None
        self._since = clock.monotonic()
        self.task = asyncio.create_task(self._run())

    @property
    def connection(self) -> str:
        """ "" while it is usable, else why not."""
        if self.error or self._bus is None:
            return self.error or "not connected yet"
        if not self._ready.is_set():
            return self._bus.connection or "the server does not answer"
        return self._bus.connection

    @property
    def over(self) -> bool:
        """It has failed long enough ago to be tried again: a login may be right by now."""
        return self.task.done() and self._clock.monotonic() - self._since > _AGAIN

    async def bus(self) -> Bus:
        """The open bus.

        Raises:
            Disconnected: it is not there now.
        """
        left = PATIENCE - (self._clock.monotonic() - self._since)
        if not self._ready.is_set() and not self.error and left > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._ready.wait()
        if self.connection or self._bus is None:
            raise Disconnected(f"EventBus {self.resolved.name}: {self.connection}")
        return self._bus

    async def _run(self) -> None:
        try:
            bus = self._bus = open_bus(self.resolved, clock=self._clock)
            async with bus:
                self._ready.set()
                await self._watch(bus)
        except OfeventsError as error:
            # Not told: who asked is waiting, or comes again by itself.
            self.error = str(error)
            self._ready.set()

    async def _watch(self, bus: Bus) -> None:
        """Tell of each change of the connection."""
        self._tell()
        before = bus.connection
        while True:
            await self._clock.sleep(_LOOK)
            if (now := bus.connection) != before:
                before = now
                self.ensured.clear()  # It may have come back without what was made on it.
                self._tell()


class Buses:
    """All connections; `again` asks for a resource to be reconciled."""

    def __init__(self, again: Callable[[Key], None], clock: Clock) -> None:
        self._again = again
        self._clock = clock
        self._links: dict[str, Link] = {}
        self._used: dict[Key, set[str]] = {}

    async def ensure(
        self,
        owner: Key,
        plans: tuple[BusPlan, ...],
        secrets: Mapping[str, UsedSecret],
        *,
        anew: bool = False,
    ) -> None:
        """What its workers need on their buses; nothing where it was made before, but `anew`.

        Raises:
            Disconnected: a bus does not answer; the owner is asked again when it does.
        """
        links = [self.link(owner, plan.bus, secrets) for plan in plans]
        self.keep(owner, [link for link in links if link is not None])
        for link, plan in zip(links, plans, strict=True):
            if link is None or (link.ensured.get(owner) == plan.needs and not anew):
                continue
            bus = await link.bus()
            try:
                async with asyncio.timeout(_ENSURE):
                    await bus.ensure(plan.needs.topics, plan.needs.consumers)
            except TimeoutError:
                raise Disconnected(f"EventBus {plan.bus.name} does not answer in time") from None
            link.ensured[owner] = plan.needs

    def link(
        self, owner: Key, resolved: ResolvedBus, secrets: Mapping[str, UsedSecret]
    ) -> Link | None:
        """The connection to that bus, begun when it is first asked for; None for dapr."""
        if resolved.driver == "dapr":
            return None
        real = resolved.model_copy(update={"options": fill(resolved.options, secrets)})
        key = hashlib.sha256(real.model_dump_json().encode()).hexdigest()
        link = self._links.get(key)
        if link is None or link.over:
            users = link.users if link is not None else set()
            link = self._links[key] = Link(real, lambda: self._told(key), self._clock)
            link.users = users
        link.users.add(owner)
        self._used.setdefault(owner, set()).add(key)
        return link

    def linked(self, owner: Key) -> list[Link]:
        """The connections that it has used last."""
        return [self._links[key] for key in self._used.get(owner, ()) if key in self._links]

    def forget(self, owner: Key) -> None:
        """The resource is gone."""
        self.keep(owner, [])

    def keep(self, owner: Key, links: list[Link]) -> None:
        """Let go of the connections that it uses no more."""
        kept = {key for key, link in self._links.items() if link in links}
        for key in self._used.pop(owner, set()) - kept:
            link = self._links.get(key)
            if link is not None:
                link.users.discard(owner)
                link.ensured.pop(owner, None)
                if not link.users:
                    link.task.cancel()
                    del self._links[key]
        if kept:
            self._used[owner] = kept

    def _told(self, key: str) -> None:
        if key in self._links:
            link = self._links[key]
            for owner in list(link.users):
                self._again(owner)

    async def close(self) -> None:
        """End all connections."""
        tasks = [link.task for link in self._links.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._links.clear()
        self._used.clear()
