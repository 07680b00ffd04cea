"""What an edit leaves on a bus: inboxes of subscribers that their Trigger no longer has,
the Trigger that an EventSource's removed sink stood for, and positions of removed entries.

They would be served by nobody. An inbox is emptied into the Trigger's dead letters, as
`ofevents run --watch` does; an edit that was made while no controller ran is found by what
is on the bus.

The reconciler tells what each resource has; one look at a bus serves all its Triggers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ofevents import trigger
from ofevents.api.resolved import ResolvedTrigger
from ofevents.bus import topics
from ofevents.clock import Clock
from ofevents.controller.buses import Link
from ofevents.controller.positions import forget_removed
from ofevents.controller.queue import Key
from ofevents.errors import OfeventsError
from ofevents.ports import Bus, BusReport
from ofevents.telemetry import Log

_PATIENCE: Final = 2.0
"""Seconds that are waited for further edits before a bus is looked at."""


@dataclass(frozen=True, slots=True)
class Users:
    """What a resource has on a bus: its Triggers, its entries, and sinks that it no longer has."""

    triggers: tuple[ResolvedTrigger, ...]
    without_sink: tuple[tuple[str, str], ...] = ()
    """Namespace and name of an EventSource without a sink."""
    entries: frozenset[tuple[str, str]] | None = None
    """Of an EventSource, each a kind of source and a name."""

    @property
    def served(self) -> frozenset[str]:
        """What a look depends on."""
        inboxes = {each.inbox for one in self.triggers for each in one.subscribers}
        entries = map("/".join, self.entries or ())
        return frozenset({*inboxes, *entries, *map("/".join, self.without_sink)})


class Sweeper:
    """One for all buses; its tasks end with `close`.

    Args:
        runs: whether a worker is there, by the namespace and name of its Deployment.
    """

    def __init__(self, runs: Callable[[str, str], bool], clock: Clock) -> None:
        self._runs = runs
        self._clock = clock
        self._log = Log()
        self._users: dict[Link, dict[Key, Users]] = {}
        self._looks: dict[Link, asyncio.Task[None]] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._ending: set[tuple[str, str]] = set()
        """EventSources of which a removed entry still runs: its end is told by `has`."""

    def has(self, key: Key, link: Link, users: Users) -> None:
        """What that resource has on that bus now; a change asks for a look."""
        for other, elsewhere in self._users.items():
            if other is not link:
                elsewhere.pop(key, None)  # A resource has one bus.
        known = self._users.setdefault(link, {})
        before = known.get(key)
        known[key] = users
        for inbox in users.served:
            if (task := self._leaving.pop(inbox, None)) is not None:
                task.cancel()  # It has come back.
        changed = before is None or before.served != users.served or key[1:] in self._ending
        if changed and link not in self._looks:
            self._looks[link] = asyncio.create_task(self._look(link))

    def forget(self, key: Key) -> None:
        """The resource is gone, and with it what it had."""
        for link, known in list(self._users.items()):
            known.pop(key, None)
            if not known:
                del self._users[link]

    async def _look(self, link: Link) -> None:
        await self._clock.sleep(_PATIENCE)
        self._looks.pop(link, None)  # What is told from here on is seen by the next one.
        known = dict(self._users.get(link, {}))
        users = known.values()
        try:
            bus = await link.bus()
            report = await bus.inspect()
            await self._drop_sinks(bus, report, users)
            await self._drop_positions(bus, known)
        except OfeventsError as error:
            self._log.warning("retrying", bus=link.resolved.name, error=str(error))
            self._users.pop(link, None)  # Told anew when the bus is back, they ask for a look.
            return
        triggers = [one for each in users for one in each.triggers]
        for leaver in trigger.left_over(report, triggers):
            if leaver.inbox not in self._leaving:
                task = asyncio.create_task(self._retire(leaver, bus))
                self._leaving[leaver.inbox] = task

    async def _retire(self, leaver: trigger.Leaver, bus: Bus) -> None:
        owner = f"{leaver.trigger.namespace}/{leaver.trigger.owner}"
        try:
            await trigger.retire(leaver, bus, self._clock)
            self._log.info("applied", name=owner, retired=leaver.name)
        except OfeventsError as error:
            self._log.warning("retrying", name=owner, error=str(error))
        finally:
            self._leaving.pop(leaver.inbox, None)

    async def _drop_sinks(self, bus: Bus, report: BusReport, users: Iterable[Users]) -> None:
        """Let go of the positions of sinks that EventSources had; what they were owed goes."""
        groups = {one.group for one in report.consumers}
        for each in users:
            for namespace, name in each.without_sink:
                owner = f"source/{name}"
                inbox = topics.inbox(namespace, owner, "sink")
                left = {topics.trigger_group(namespace, owner), topics.inbox_group(inbox)}
                if found := sorted(left & groups):
                    await bus.remove(topics=[inbox], groups=found)

    async def _drop_positions(self, bus: Bus, known: Mapping[Key, Users]) -> None:
        sources = {key[1:]: each.entries for key, each in known.items() if each.entries is not None}
        # One that ends while they are looked through asks for another look.
        self._ending |= sources.keys()
        waiting = await forget_removed(bus.store, sources, self._runs)
        self._ending = self._ending - sources.keys() | waiting

    async def close(self) -> None:
        """End what goes on in the background."""
        tasks = [*self._looks.values(), *self._leaving.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
