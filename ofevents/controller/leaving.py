"""A resource that is being deleted: its workers end, then its place on the bus goes.

A finalizer keeps the resource until that is done. It gives up, with an Event that says
what was left, when the bus is gone or does not answer in time: a namespace must be able to
be deleted.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from ofevents.api.eventsource import EventSource
from ofevents.api.resolved import ResolvedTrigger
from ofevents.api.sink import Ref
from ofevents.api.trigger import Trigger
from ofevents.clock import Clock
from ofevents.cluster import kinds
from ofevents.cluster.cache import Object
from ofevents.cluster.caches import Caches
from ofevents.cluster.client import Api, Refused
from ofevents.cluster.lookup import ClusterLookUp
from ofevents.controller.apply import Applied, Applier
from ofevents.controller.events import Recorder
from ofevents.controller.farewell import Farewell
from ofevents.controller.places import Place, Places, same
from ofevents.controller.queue import Key
from ofevents.controller.workers import Workers
from ofevents.errors import OfeventsError
from ofevents.resolve import Loaded, NotFound, interpret
from ofevents.resolve.scope import Scope
from ofevents.resolve.sources import resolve_implicit
from ofevents.resolve.triggers import named_bus, resolve_trigger

FINALIZER: Final = "events.openfunction.io/bus"
GIVE_UP: Final = 60.0
"""Seconds after the deletion within which the bus must have answered."""


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
        places: Places,
        farewell: Farewell,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._api = api
        self._caches = caches
        self._applier = applier
        self._places = places
        self._farewell = farewell
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
        uid = object["metadata"]["uid"]
        for place in self._places.of(object):
            if not await self._farewell.said(uid, place):
                return False
        if not await self._ended(object):
            return False
        try:
            left = await self._remove(key, object)
        except OfeventsError as error:
            if not self._late(object):
                raise
            left = f"the bus did not answer ({error})"
        there = await self._let_go(key, object)
        self._farewell.forget(uid)
        self._places.forget(uid)
        if left and there:
            note = f"deleted, but its position, inboxes and dead letters stay on the bus: {left}"
            await self._recorder.tell(object, "LeftOnBus", note)
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
        """Remove its places on buses; what was left and why, "" for nothing."""
        places, missing = self._named(object)
        for place in self._places.of(object):
            if not any(same(place.bus, each.bus) for each in places):
                places.append(place)
        if not places:
            return missing
        uid = object["metadata"]["uid"]
        left = [
            await self._places.clear(key, each)
            for each in places
            if not self._farewell.done(uid, each)
        ]
        return "; ".join(filter(None, left))

    def _named(self, object: Object) -> tuple[list[Place], str]:
        """Its place on the bus that it names; why there is none, where it names one."""
        loaded, _ = interpret(object)
        if loaded is None:
            return [], "the resource has errors, so that it is not known what it was"
        scope, model = Scope(loaded, _Lenient(self._caches)), loaded.model
        assert isinstance(model, (EventSource, Trigger))
        if model.spec.event_bus is None:
            return [], ""
        bus = named_bus(scope, ("spec", "eventBus"), model.spec.event_bus)
        if bus is None:
            return [], "; ".join(each.sentence for each in scope.problems if each.blocks)
        return [Place(bus, _spec(scope, loaded))], ""

    def _late(self, object: Object) -> bool:
        stamp = object["metadata"]["deletionTimestamp"]
        return self._clock.now() - datetime.fromisoformat(stamp).timestamp() > GIVE_UP

    async def _let_go(self, key: Key, object: Object) -> bool:
        """Whether it was still there: the cache may show for a moment what has gone, and a look
        at that knows nothing any more of what was removed."""
        metadata = object["metadata"]
        rest = [each for each in metadata["finalizers"] if each != FINALIZER]
        change: dict[str, Any] = {
            "metadata": {"finalizers": rest, "resourceVersion": metadata["resourceVersion"]}
        }
        try:
            with self._caches[key[0]].writing(key[1], key[2]) as put:
                put(await self._api.patch(key[0], key[1], key[2], change))
        except Refused as error:
            if error.status != 404:
                raise
            return False
        return True


def _spec(scope: Scope, loaded: Loaded) -> ResolvedTrigger | None:
    if isinstance(loaded.model, Trigger):
        return resolve_trigger(scope, loaded.model)
    assert isinstance(loaded.model, EventSource)
    return resolve_implicit(scope, loaded.model)


def needs_finalizer(object: Object) -> bool:
    """Whether it has something on a bus that does not go with its children."""
    return bool((object.get("spec") or {}).get("eventBus"))
