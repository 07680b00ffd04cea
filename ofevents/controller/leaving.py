"""A resource that is being deleted: its workers end, then its place on the bus goes.

A finalizer keeps the resource until that is done. It gives up, with an Event that says
what was left, when the bus is gone or does not answer in time: a namespace must be able to
be deleted.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from ofevents import trigger
from ofevents.api.eventsource import EventSource
from ofevents.api.resolved import ResolvedTrigger
from ofevents.api.sink import Ref
from ofevents.api.trigger import Trigger
from ofevents.bus import topics
from ofevents.clock import Clock
from ofevents.cluster import kinds
from ofevents.cluster.cache import Object
from ofevents.cluster.caches import Caches
from ofevents.cluster.client import Api
from ofevents.cluster.lookup import ClusterLookUp, UsedSecret
from ofevents.controller.apply import Applied, Applier
from ofevents.controller.buses import Buses, Link
from ofevents.controller.events import Recorder
from ofevents.controller.queue import Key
from ofevents.controller.workers import Workers
from ofevents.errors import Disconnected, OfeventsError
from ofevents.ports import Bus
from ofevents.resolve import Loaded, NotFound, interpret
from ofevents.resolve.scope import Scope
from ofevents.resolve.sources import owner_of, resolve_implicit
from ofevents.resolve.triggers import named_bus, resolve_trigger

FINALIZER: Final = "events.openfunction.io/bus"
GIVE_UP: Final = 60.0
"""Seconds after the deletion within which the bus must have answered."""
_REMOVE: Final = 20.0


class _Lenient(ClusterLookUp):
    """What a removal needs is names: whoever would be called, and with what, does not matter."""

    def secret(self, namespace: str, name: str, key: str) -> str:
        try:
            return super().secret(namespace, name, key)
        except NotFound:
            return ""

    def url(self, namespace: str, ref: Ref) -> str:
        return "http://gone.invalid"


class Leaving:
    """Lets resources go."""

    def __init__(
        self,
        api: Api,
        caches: Caches,
        applier: Applier,
        buses: Buses,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._api = api
        self._caches = caches
        self._applier = applier
        self._buses = buses
        self._recorder = recorder
        self._workers = Workers(caches)
        self._clock = clock

    async def leave(self, key: Key, object: Object) -> bool:
        """Do the next step; True when the resource is let go of.

        Raises:
            Disconnected: the bus does not answer; call it again.
        """
        if FINALIZER not in (object["metadata"].get("finalizers") or ()):
            return True
        if not await self._ended(object):
            return False
        try:
            left = await self._remove(key, object)
        except OfeventsError as error:
            if not self._late(object):
                raise
            left = f"the bus did not answer ({error})"
        if left:
            note = f"deleted, but its position, inboxes and dead letters stay on the bus: {left}"
            await self._recorder.tell(object, "LeftOnBus", note)
        await self._let_go(key, object)
        return True

    async def _ended(self, object: Object) -> bool:
        """Whether its workers have: they would make again what is removed under them."""
        done, uid = Applied(), object["metadata"]["uid"]
        for kind in (kinds.SCALED_OBJECT, kinds.DEPLOYMENT):
            for live in self._caches[kind].owned(uid):
                await self._applier.delete(kind, live, done)
        running = self._workers.running(object)
        return not running and not self._caches[kinds.DEPLOYMENT].owned(uid)

    async def _remove(self, key: Key, object: Object) -> str:
        """Remove its place on the bus; what was left and why, "" for nothing."""
        loaded, _ = interpret(object)
        if loaded is None:
            return "the resource has errors, so that it is not known what it was"
        look_up = _Lenient(self._caches)
        scope = Scope(loaded, look_up)
        link, missing = self._link(key, scope, loaded, look_up.secrets)
        if link is None:
            return missing
        spec = _spec(scope, loaded)
        bus = await link.bus()
        try:
            async with asyncio.timeout(_REMOVE):
                await _clear(bus, loaded, spec)
        except TimeoutError:
            raise Disconnected(f"EventBus {link.resolved.name} does not answer in time") from None
        return ""

    def _link(
        self, key: Key, scope: Scope, loaded: Loaded, secrets: dict[str, UsedSecret]
    ) -> tuple[Link | None, str]:
        """Its bus as it is named, or else the one that it has used last."""
        model = loaded.model
        assert isinstance(model, (EventSource, Trigger))
        name = model.spec.event_bus
        if name is None:
            return None, ""
        resolved = named_bus(scope, ("spec", "eventBus"), name)
        if resolved is not None:
            if resolved.driver == "dapr":
                return None, "a dapr bus can only be reached from inside its workers' Pods"
            return self._buses.link(key, resolved, secrets), ""
        if linked := self._buses.linked(key):
            return linked[0], ""
        return None, "; ".join(problem.sentence for problem in scope.problems if problem.blocks)

    def _late(self, object: Object) -> bool:
        stamp = object["metadata"]["deletionTimestamp"]
        return self._clock.now() - datetime.fromisoformat(stamp).timestamp() > GIVE_UP

    async def _let_go(self, key: Key, object: Object) -> None:
        metadata = object["metadata"]
        rest = [each for each in metadata["finalizers"] if each != FINALIZER]
        change: dict[str, Any] = {
            "metadata": {"finalizers": rest, "resourceVersion": metadata["resourceVersion"]}
        }
        await self._api.patch(key[0], key[1], key[2], change)


def _spec(scope: Scope, loaded: Loaded) -> ResolvedTrigger | None:
    if isinstance(loaded.model, Trigger):
        return resolve_trigger(scope, loaded.model)
    assert isinstance(loaded.model, EventSource)
    return resolve_implicit(scope, loaded.model)


async def _clear(bus: Bus, loaded: Loaded, spec: ResolvedTrigger | None) -> None:
    if spec is not None:
        await trigger.remove(spec, bus)
    if isinstance(loaded.model, EventSource):
        await bus.remove(topics=[topics.dead(loaded.namespace, owner_of(loaded.model))])


def needs_finalizer(object: Object) -> bool:
    """Whether it has something on a bus that does not go with its children."""
    return bool((object.get("spec") or {}).get("eventBus"))
