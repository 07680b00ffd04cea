"""A Trigger that names another bus: on the one before it goes as if it were deleted there.

Its workers on the old bus end first: they would make again what is removed under them.
Which bus that is, their documents say until the new ones are written, so that a controller
that is restarted in between goes on where it was. Its position on the new bus is there
before any of that begins, and misses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from ofevents.api.resolved import ResolvedBus
from ofevents.clock import Clock
from ofevents.cluster import kinds
from ofevents.cluster.cache import Object, name_of
from ofevents.cluster.caches import Caches
from ofevents.controller.apply import Applied, Applier
from ofevents.controller.events import Recorder
from ofevents.controller.farewell import Farewell
from ofevents.controller.leaving import GIVE_UP
from ofevents.controller.places import Place, Places, same
from ofevents.controller.plan import Plan
from ofevents.controller.queue import Key
from ofevents.controller.render import child_name
from ofevents.errors import Disconnected, OfeventsError


class Moving:
    """Moves resources, one step a call; remembers only since when a bus does not answer."""

    def __init__(
        self,
        caches: Caches,
        applier: Applier,
        places: Places,
        farewell: Farewell,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._caches = caches
        self._applier = applier
        self._places = places
        self._farewell = farewell
        self._recorder = recorder
        self._clock = clock
        self._since: dict[Key, float] = {}

    def left(self, object: Object, planned: Plan) -> list[Place]:
        """Where the resource is a Trigger, and shall be no more."""
        if planned.errors or planned.blocked or not planned.workloads:
            return []  # What runs is what it last said rightly.
        now = [each.spec.bus for each in planned.workloads]
        return [
            place
            for place in self._places.of(object)
            if place.trigger is not None and not _among(place.bus, now)
        ]

    async def step(self, key: Key, object: Object, left: Sequence[Place]) -> str:
        """Bring it away from there; what it waits for, "" when it has left.

        Raises:
            Disconnected: the bus that it leaves does not answer; call it again.
        """
        for place in left:
            assert place.trigger is not None
            if place.trigger.deletion_policy == "Retain":
                continue
            uid = object["metadata"]["uid"]
            if not await self._farewell.said(uid, place):
                return f"its worker on EventBus {place.bus.name} takes away what it has there"
            if waits := await self._end(uid, place):
                return waits
            try:
                removed = self._farewell.done(uid, place)
                stays = "" if removed else await self._places.clear(key, place)
            except OfeventsError as error:
                since = self._since.setdefault(key, self._clock.monotonic())
                if self._clock.monotonic() - since < GIVE_UP:
                    raise Disconnected(f"it leaves a bus that does not answer: {error}") from error
                stays = f"EventBus {place.bus.name} did not answer ({error})"
            if stays:
                note = f"moved, but its position, inboxes and dead letters stay behind: {stays}"
                await self._recorder.tell(object, "LeftOnBus", note)
        self._since.pop(key, None)
        self._farewell.forget(object["metadata"]["uid"])
        return ""

    async def _end(self, uid: str, place: Place) -> str:
        """End the workers there; what is waited for."""
        assert place.trigger is not None
        name, namespace = child_name(place.trigger), place.trigger.namespace
        found = [
            (kind, live)
            for kind in (kinds.SCALED_OBJECT, kinds.DEPLOYMENT)
            for live in self._caches[kind].owned(uid)
            if name_of(live) == (namespace, name)
        ]
        for kind, live in found:
            await self._applier.delete(kind, live, Applied())
        if found or self._caches[kinds.POD].owned(f"{namespace}/{name}"):
            return f"its workers on EventBus {place.bus.name} end first"
        return ""


def _among(bus: ResolvedBus, others: Sequence[ResolvedBus | None]) -> bool:
    return any(other is not None and same(bus, other) for other in others)
