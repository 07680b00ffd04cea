"""Workers that take what they have on a dapr bus away themselves, before they end.

A dapr bus is reached through the sidecar in a worker's Pod and from nowhere else. So the
Deployment of a Trigger that leaves it is turned into one Pod of `ofevents trigger --remove`,
which is ready when it is done. Where it cannot start, nobody is held for long. Called by
`leaving` and `moving`, again and again until there is nothing to wait for.
"""

from __future__ import annotations

from typing import Any, Final

from ofevents.clock import Clock
from ofevents.cluster import kinds
from ofevents.cluster.cache import Object, owner_of
from ofevents.cluster.caches import Caches
from ofevents.cluster.client import Api
from ofevents.controller.apply import Applied, Applier
from ofevents.controller.places import Place
from ofevents.controller.pods import judge
from ofevents.controller.render import child_name
from ofevents.controller.render.names import daprd_name

PATIENCE: Final = 120.0
"""Seconds for the worker to end, and for the one that removes to start and be done."""
REMOVE: Final = "--remove"


class Farewell:
    """Remembers since when it waits, and who is done; restarted, it begins anew."""

    def __init__(self, api: Api, caches: Caches, applier: Applier, clock: Clock) -> None:
        self._api = api
        self._caches = caches
        self._applier = applier
        self._clock = clock
        self._since: dict[tuple[str, str], float] = {}
        self._done: set[tuple[str, str]] = set()

    def done(self, uid: str, place: Place) -> bool:
        """Whether nothing of that resource is there any more."""
        return place.trigger is not None and (uid, child_name(place.trigger)) in self._done

    def forget(self, uid: str) -> None:
        """The resource has gone, or is somewhere else."""
        self._done = {each for each in self._done if each[0] != uid}
        self._since = {each: since for each, since in self._since.items() if each[0] != uid}

    async def said(self, uid: str, place: Place) -> bool:
        """Do the next step; True when nothing is to be waited for, be it done or given up."""
        worker = place.trigger
        if worker is None or place.bus.driver != "dapr" or worker.deletion_policy == "Retain":
            return True
        if not self._caches[kinds.COMPONENT].there:
            return True  # Without Dapr no Pod of it gets to the bus either.
        who = uid, child_name(worker)
        live = self._caches[kinds.DEPLOYMENT].get(worker.namespace, who[1])
        if who in self._done or live is None or owner_of(live) != uid:
            return True
        if live["metadata"].get("deletionTimestamp"):
            return True
        since = self._since.setdefault(who, self._clock.monotonic())
        if self._clock.monotonic() - since > PATIENCE:
            return True
        apart = daprd_name(who[1])
        for name in (who[1], apart):
            scaled = self._caches[kinds.SCALED_OBJECT].get(worker.namespace, name)
            if scaled is not None and owner_of(scaled) == uid:
                await self._applier.delete(kinds.SCALED_OBJECT, scaled, Applied())
        await self._wake(worker.namespace, apart, uid)
        if REMOVE not in _worker(_containers(live))["args"]:
            await self._turn(worker.namespace, live)
            return False
        state = judge("", live, (), {})
        if (state.state, state.reason) == ("ready", "Running"):
            self._done.add(who)
            return True
        # Such as a namespace that is being deleted, in which no Pod is made any more.
        return state.state == "stalled"

    async def _wake(self, namespace: str, name: str, uid: str) -> None:
        """Its daprd, where that has a Pod of its own, which KEDA may have ended."""
        live = self._caches[kinds.DEPLOYMENT].get(namespace, name)
        if live is None or owner_of(live) != uid or live["spec"].get("replicas", 1) > 0:
            return
        change = {
            "metadata": {"resourceVersion": live["metadata"]["resourceVersion"]},
            "spec": {"replicas": 1},
        }
        with self._caches[kinds.DEPLOYMENT].writing(namespace, name) as put:
            put(await self._api.patch(kinds.DEPLOYMENT, namespace, name, change))

    async def _turn(self, namespace: str, live: Object) -> None:
        """The old worker ends before the new one begins."""
        containers = [dict(each) for each in _containers(live)]
        worker = _worker(containers)
        verb, *rest = worker["args"]
        worker["args"] = [verb, REMOVE, *rest]
        metadata = live["metadata"]
        change: dict[str, Any] = {
            "metadata": {"resourceVersion": metadata["resourceVersion"]},
            "spec": {
                "replicas": 1,
                "strategy": {"type": "Recreate", "rollingUpdate": None},
                "template": {"spec": {"containers": containers}},
            },
        }
        await self._api.patch(kinds.DEPLOYMENT, namespace, metadata["name"], change)


def _containers(deployment: Object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["containers"]
    return found


def _worker(containers: list[dict[str, Any]]) -> dict[str, Any]:
    return next(each for each in containers if each["name"] == "worker")
