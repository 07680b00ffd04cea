"""Deployments, Pods and what is installed beside us, found in the caches.

Used by the reconciler, and by the watches to tell whose Pod or child has changed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ofevents.cluster import kinds
from ofevents.cluster.cache import Object, name_of
from ofevents.cluster.caches import Caches, workload_of
from ofevents.cluster.kinds import Kind
from ofevents.controller.queue import Key
from ofevents.controller.render import Platform

_OWNERS = {one.kind: one for one in (kinds.EVENT_SOURCE, kinds.TRIGGER)}


class Workers:
    """Reads the caches; holds nothing."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches

    def pods(self, deployment: Object) -> list[Object]:
        """The Pods of a worker that are not on their way out."""
        found = self._caches[kinds.POD].owned("/".join(name_of(deployment)))
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def names(self, uid: str, without: Collection[str]) -> set[str]:
        """The names of an owner's children, but for those of the workloads `without`."""
        found = {
            name_of(one)[1] for kind in kinds.CHILDREN for one in self._caches[kind].owned(uid)
        }
        return {
            name
            for name in found
            if not any(name == one or name.startswith(f"{one}-") for one in without)
        }

    def installed(self, platform: Platform) -> Platform:
        """The platform with what the cluster serves now."""
        keda = self._caches[kinds.SCALED_OBJECT].there
        return replace(platform, keda=keda, dapr=self._caches[kinds.COMPONENT].there)

    def owner(self, kind: Kind, object: Object) -> Key | None:
        """The EventSource or Trigger that a child or Pod belongs to."""
        if kind is kinds.POD:
            namespace, _, name = workload_of(object).partition("/")
            for each in (kinds.DEPLOYMENT, kinds.CONFIG_MAP, kinds.SECRET):
                sibling = self._caches[each].get(namespace, name)
                if sibling is not None:
                    return self.owner(each, sibling)
            return None
        for owner in object["metadata"].get("ownerReferences") or ():
            if owner.get("controller") and owner["kind"] in _OWNERS:
                return _OWNERS[owner["kind"]], object["metadata"]["namespace"], owner["name"]
        return None
