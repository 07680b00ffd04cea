"""Where a resource has something on a bus, and how it is cleared there.

What its workers were last told stands in their documents (the ConfigMaps and Secrets that
they are made with). So it is known where its position, inboxes and dead letters are after
its bus is no longer declared, after it names another, and after the controller has been
restarted. Asked by `leaving` and `moving`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter, ValidationError

from ofevents import trigger
from ofevents.api.resolved import ResolvedBus, ResolvedSource, ResolvedTrigger, ResolvedWorker
from ofevents.api.secretref import markers
from ofevents.bus import topics
from ofevents.bus.dapr_components import Names
from ofevents.bus.dapr_options import DaprOptions
from ofevents.cluster import kinds
from ofevents.cluster.cache import Object
from ofevents.cluster.caches import Caches
from ofevents.cluster.lookup import ClusterLookUp
from ofevents.controller.buses import Buses
from ofevents.controller.positions import forget
from ofevents.controller.queue import Key
from ofevents.controller.render.document import FILE
from ofevents.errors import Disconnected
from ofevents.resolve import NotFound, needs

_REMOVE: Final = 20.0
_WORKER: Final[TypeAdapter[ResolvedSource | ResolvedTrigger]] = TypeAdapter(ResolvedWorker)


@dataclass(frozen=True, slots=True)
class Place:
    """A bus, and the Trigger that the resource is there; None for an EventSource without."""

    bus: ResolvedBus
    trigger: ResolvedTrigger | None = None


def same(one: ResolvedBus, other: ResolvedBus) -> bool:
    """Whether two buses are one place: the same resource, or the same streams."""
    if one.name == other.name:
        return True
    keys = ("url", "stream")
    return (
        one.driver == other.driver == "jetstream"
        and all(one.options.get(key) == other.options.get(key) for key in keys)
    )  # fmt: skip


class Places:
    """Reads the caches, and remembers what it has read: a namespace that is being deleted
    loses a worker's document before the resource is let go of, and the bus, too."""

    def __init__(self, caches: Caches, buses: Buses) -> None:
        self._caches = caches
        self._buses = buses
        self._known: dict[str, list[Place]] = {}

    def of(self, object: Object) -> list[Place]:
        """Where its workers were last told to be; those of Triggers first.

        With the `deletionPolicy` that the resource has now.
        """
        metadata = object["metadata"]
        found = [
            place
            for kind in (kinds.CONFIG_MAP, kinds.SECRET)
            for live in self._caches[kind].owned(metadata["uid"])
            if (place := _read(kind is kinds.SECRET, live)) is not None
        ]
        if found and not metadata.get("deletionTimestamp"):
            self._known[metadata["uid"]] = found
        policy = (object.get("spec") or {}).get("deletionPolicy", "Delete")
        places = [_kept(each, policy) for each in self._known.get(metadata["uid"], found)]
        return sorted(places, key=lambda place: place.trigger is None)

    def forget(self, uid: str) -> None:
        """The resource has gone."""
        self._known.pop(uid, None)

    async def clear(self, key: Key, place: Place) -> str:
        """Take what the resource has there off the bus, as `deletionPolicy` says.

        Returns:
            Why it stays, "" where it does not.

        Raises:
            OfeventsError: the bus does not answer, or refuses; call it again.
        """
        bus = place.bus
        if bus.driver == "dapr":
            return _out_of_reach(place)
        look_up = ClusterLookUp(self._caches)
        for name, secret_key in markers(bus.options):
            try:
                look_up.secret(key[1], name, secret_key)
            except NotFound:
                continue  # The bus will say what it thinks of that.
        link = self._buses.link(key, bus, look_up.secrets)
        assert link is not None
        connected = await link.bus()
        try:
            async with asyncio.timeout(_REMOVE):
                if place.trigger is not None:
                    await trigger.remove(place.trigger, connected)
                if key[0] is kinds.EVENT_SOURCE:
                    await connected.remove(topics=[topics.dead(key[1], f"source/{key[2]}")])
                    await forget(connected.store, key[1], key[2])
        except TimeoutError:
            raise Disconnected(f"EventBus {bus.name} does not answer in time") from None
        return ""


def _out_of_reach(place: Place) -> str:
    """What of a dapr bus stays, by the names that it has at the broker and in the store."""
    bus = place.bus
    text = (
        f"EventBus {bus.name} is a dapr bus, which is reached from inside its workers' Pods alone, "
        "and they have ended"
    )
    if place.trigger is None or place.trigger.deletion_policy == "Retain":
        return text if place.trigger is None else ""
    names = Names(DaprOptions.model_validate(bus.options), bus.name)
    wanted = needs(place.trigger).consumers
    held = [each.inbox for each in place.trigger.subscribers] + [place.trigger.dead_topic]
    groups = [names.group(each.group, topic) for each in wanted for topic in each.topics]
    return (
        f"{text}. A Trigger of the same name goes on there. To have it begin anew, remove at the "
        f"broker the consumer groups {', '.join(dict.fromkeys(groups))} and the topics "
        f"{', '.join(map(names.topic, held))}, and from the state store the keys of it after "
        f"{names.keys}||"
    )


def _kept(place: Place, policy: str) -> Place:
    if place.trigger is None:
        return place
    return Place(place.bus, place.trigger.model_copy(update={"deletion_policy": policy}))


def _read(encoded: bool, live: Object) -> Place | None:
    """The place that a document names; None for one without, or of another version."""
    text = (live.get("data") or {}).get(FILE)
    if text is None:
        return None
    try:
        worker = _WORKER.validate_json(base64.b64decode(text) if encoded else text)
    except (ValidationError, binascii.Error):
        return None
    if worker.bus is None:
        return None
    return Place(worker.bus, None if isinstance(worker, ResolvedSource) else worker)
