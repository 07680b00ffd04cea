"""From a resolution to running workers, and from one resolution to the next.

A change drains and restarts only the workers that differ, and makes what the new
ones need on the bus before they start, so events published meanwhile wait in
durable consumers and none is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from ofevents import trigger
from ofevents.api.resolved import ResolvedBus, ResolvedSource, ResolvedTrigger
from ofevents.bus import topics
from ofevents.clock import Clock
from ofevents.errors import ConfigError, OfeventsError, TemporaryError
from ofevents.health import Health
from ofevents.local import folder, watch
from ofevents.local.buses import Buses, for_others
from ofevents.local.screen import Screen
from ofevents.local.way import Ways
from ofevents.local.workers import Key, Spec, Workers, key
from ofevents.ports import Bus
from ofevents.resolve import BusPlan, Resolution

T = TypeVar("T")

DRAIN: Final = 10.0
"""Seconds that a changed worker gets to settle what it has in hand."""
PATIENCE: Final = 10.0
"""Seconds that a bus of a changed file gets to answer, before the change is put off."""


class Deployment:
    """What runs of the user's files.

    Attributes:
        embedded: the buses on the server of this run, by name.
        shared: these, and those with a sidecar of this run as others reach them; for the
            state file.
        bus: the one that functions get: `default`, otherwise the first; None without.
    """

    def __init__(
        self,
        group: asyncio.TaskGroup,
        buses: Buses,
        workers: Workers,
        *,
        health: Health,
        screen: Screen,
        clock: Clock,
    ) -> None:
        self._group = group
        self.embedded: dict[str, ResolvedBus] = {}
        self.shared: dict[str, ResolvedBus] = {}
        self.bus: ResolvedBus | None = None
        self._buses = buses
        self._workers = workers
        self._health = health
        self._screen = screen
        self._clock = clock
        self._changed = asyncio.Event()
        self._blocked: list[Key] = []
        self._waits = ExitStack()
        self._leaving: dict[str, tuple[ResolvedTrigger, asyncio.Task[None]]] = {}

    # -- the first time -----------------------------------------------------

    async def prepare(self, resolution: Resolution) -> None:
        """Connect to the buses, and make on them what the workers need.

        Raises:
            ConfigError: a bus cannot be used as it is declared.
        """
        for plan in resolution.buses:
            resolved = await self._buses.address(plan.bus)
            await self._buses.connect(resolved)
            if plan.bus.options.get("embedded"):
                self.embedded[plan.bus.name] = resolved
            if resolved != plan.bus:
                self.shared[plan.bus.name] = for_others(resolved)
            if self.bus is None or plan.bus.name == "default":
                self.bus = resolved
        await self._ensure(resolution.buses)
        await self._tell_strangers(resolution)
        await self._retire(resolution)

    async def _tell_strangers(self, resolution: Resolution) -> None:
        """A Trigger that was deleted while nothing ran still has the bus keep its events."""
        known = {one.group for one in resolution.workers if isinstance(one, ResolvedTrigger)}
        for one in resolution.blocked:
            owner = f"source/{one.name}" if one.entry else one.name
            known.add(topics.trigger_group(one.namespace, owner))
        for name, resolved in self.embedded.items():
            bus = await self._buses.connect(resolved)
            report = await self._until_done(name, bus.inspect)
            groups = [one.group for one in report.consumers if one.group.startswith("trigger.")]
            for left in trigger.strangers(groups, known):
                self._screen.warn(
                    f"EventBus {name} keeps events for Trigger {left}, which is not in these "
                    "files; run it with its file and --watch, then delete the file, to let go"
                )

    async def start(self, resolution: Resolution) -> None:
        """Start its workers; what they need has been prepared."""
        placed = [await self._buses.place(spec) for spec in resolution.workers]
        self._begin(placed)
        self._show_blocked(resolution)

    def _begin(self, specs: Iterable[Spec]) -> None:
        # Triggers first: what a source publishes at once is then under way at once.
        self._workers.start(sorted(specs, key=lambda spec: isinstance(spec, ResolvedSource)))
        self._changed.set()

    async def _ensure(self, plans: Sequence[BusPlan]) -> None:
        for plan in plans:
            bus = await self._buses.connect(await self._buses.address(plan.bus))
            await self._until_done(
                plan.bus.name, partial(bus.ensure, plan.needs.topics, plan.needs.consumers)
            )

    async def _until_done(self, bus: str, call: Callable[[], Awaitable[T]]) -> T:
        """Again while the bus cannot; without it nothing could run anyway."""
        while True:
            try:
                return await call()
            except TemporaryError as error:
                self._screen.warn(f"EventBus {bus}: {error}; trying again")
                await self._clock.sleep(max(1.0, error.delay))

    def _show_blocked(self, resolution: Resolution) -> None:
        self._waits.close()
        self._workers.forget(self._blocked)
        self._blocked = []
        for one in resolution.blocked:
            entry = one.entry.rpartition("/")[2]
            resource = f"{one.namespace}/{one.name}"
            name = (one.kind, f"{resource}/{entry}" if one.kind == "EventSource" else resource)
            worker = self._health.worker(*name)
            worker.stalled("Blocked", one.reason)
            # Named, so that a restart is not thought to help.
            self._waits.enter_context(worker.waiting("what it refers to"))
            self._blocked.append(name)

    # -- a change -----------------------------------------------------------

    async def watch(self, files: Sequence[Path], urls: Sequence[str]) -> None:
        """Apply changed files as they come, until cancelled."""
        async for paths in watch.changes(files):
            shown = ", ".join(sorted(path.name for path in paths))
            there = watch.existing(files)
            if not there:
                self._screen.warn(f"{shown}: every file is gone; kept the last good state")
                continue
            resolution = folder.read(there, urls)
            if resolution.errors:
                problems = "\n".join(str(one) for one in resolution.errors)
                self._screen.warn(f"{problems}\n{shown}: kept the last good state")
                continue
            try:
                await self.apply(resolution, shown)
            except OfeventsError as error:
                self._screen.warn(f"{shown}: {error}; kept the last good state")

    async def apply(self, resolution: Resolution, why: str) -> None:
        """Go from what runs to this resolution.

        Raises:
            ConfigError: a bus of it cannot be used; nothing has been changed.
        """
        await self._reach(resolution.buses)
        placed = {
            key(spec): spec for spec in [await self._buses.place(one) for one in resolution.workers]
        }
        current = dict(self._workers.specs)
        gone = [name for name in current if name not in placed]
        changed = [name for name in placed if name in current and current[name] != placed[name]]
        added = [name for name in placed if name not in current]
        self._show_blocked(resolution)
        for problem in resolution.warnings:
            self._screen.warn(f"warning: {problem}")
        if not (gone or changed or added):
            return
        await self._workers.stop([*gone, *changed], within=DRAIN)
        await self._retire(resolution)
        await self._ensure(resolution.buses)
        self._begin(placed[name] for name in [*changed, *added])
        await self._remove([current[name] for name in gone])
        self._workers.forget(gone)
        told = {"changed": changed, "new": added, "gone": gone}
        parts = [f"{word} {_names(names)}" for word, names in told.items() if names]
        self._screen.say(f"{why}: applied: {'; '.join(parts)}")

    async def _reach(self, plans: Sequence[BusPlan]) -> None:
        for plan in plans:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._buses.connect(await self._buses.address(plan.bus))
            except TimeoutError:
                raise ConfigError(f"EventBus {plan.bus.name} does not answer") from None

    async def _retire(self, resolution: Resolution) -> None:
        """Begin to settle what subscribers are owed that no longer are in the files.

        An edit under `--watch` has removed them, or one that was made while nothing ran.
        """
        for plan in resolution.buses:
            bus = await self._buses.connect(await self._buses.address(plan.bus))
            triggers = [
                one
                for one in resolution.workers
                if isinstance(one, ResolvedTrigger) and one.bus.name == plan.bus.name
            ]
            served = {subscriber.inbox for one in triggers for subscriber in one.subscribers}
            await self._keep(inbox for inbox in self._leaving if inbox in served)
            report = await self._until_done(plan.bus.name, bus.inspect)
            for leaver in trigger.left_over(report, triggers):
                if leaver.inbox not in self._leaving:
                    task = self._group.create_task(self._let_go(leaver, bus))
                    owner = leaver.trigger
                    self._leaving[leaver.inbox] = owner, task
                    self._screen.warn(
                        f"subscriber {leaver.name} of Trigger {owner.namespace}/{owner.owner} is "
                        f"gone; what it is owed goes to the dead letters ({owner.dead_topic})"
                    )

    async def _let_go(self, leaver: trigger.Leaver, bus: Bus) -> None:
        try:
            await trigger.retire(leaver, bus, self._clock)
        except OfeventsError as error:
            self._screen.warn(f"subscriber {leaver.name}, which is gone: {error}")
        finally:
            self._leaving.pop(leaver.inbox, None)

    async def _keep(self, inboxes: Iterable[str]) -> None:
        """These have come back, or go with their Trigger: no longer empty them."""
        tasks = [self._leaving[inbox][1] for inbox in inboxes]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def close(self) -> None:
        """End what goes on in the background."""
        for _, task in self._leaving.values():
            task.cancel()

    async def _remove(self, specs: Iterable[Spec]) -> None:
        """What a deleted Trigger leaves behind goes with it, by its deletionPolicy."""
        for spec in specs:
            if isinstance(spec, ResolvedTrigger):
                bus = await self._buses.connect(spec.bus)
                if spec.deletion_policy == "Delete":
                    leaving = self._leaving.items()
                    await self._keep(one for one, (of, _) in leaving if key(of) == key(spec))
                await self._until_done(spec.bus.name, partial(trigger.remove, spec, bus))

    # -- what is shown ------------------------------------------------------

    async def follow(self, ways: Ways) -> None:
        """Let `ways` see what is published on the topics of what runs, until cancelled."""
        while True:
            self._changed.clear()
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(ways.follow(await self._buses.connect(bus), seen, self._read))
                    for bus, seen in self._seen()
                ]
                await self._changed.wait()
                for task in tasks:
                    task.cancel()

    def _seen(self) -> list[tuple[ResolvedBus, set[str]]]:
        buses: dict[str, tuple[ResolvedBus, set[str]]] = {}
        for spec in self._workers.specs.values():
            if spec.bus is None:
                continue
            _, seen = buses.setdefault(spec.bus.model_dump_json(), (spec.bus, set()))
            if isinstance(spec, ResolvedSource):
                seen |= {spec.topic, spec.dead_topic}
            else:
                seen.update(one.topic for one in spec.inputs)
        return list(buses.values())

    def _read(self) -> set[str]:
        return {
            one.topic
            for spec in self._workers.specs.values()
            if isinstance(spec, ResolvedTrigger)
            for one in spec.inputs
        }


def _names(keys: Iterable[Key]) -> str:
    return ", ".join(f"{kind} {resource}" for kind, resource in keys)
