"""Deployments, Pods and what is installed beside us, found in the caches.

Used by the reconciler, and by the watches to tell whose Pod or child has changed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ofevents.api.meta import GROUP
from ofevents.cluster import kinds
from ofevents.cluster.cache import Object, name_of
from ofevents.cluster.caches import INSTANCE, Caches, workload_of
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

    def scopes(self, uid: str, kept: Collection[str]) -> dict[str, list[str]]:
        """An owner's Dapr components, each with those of its workers in `kept` that load it."""
        return {
            name_of(live)[1]: [app for app in live.get("scopes") or () if app in kept]
            for kind in (kinds.COMPONENT, kinds.RESILIENCY, kinds.SUBSCRIPTION)
            for live in self._caches[kind].owned(uid)
        }

    def running(self, object: Object) -> bool:
        """Whether a Pod of that resource is there, on its way out or not."""
        metadata = object["metadata"]
        children = (
            child for kind in kinds.CHILDREN for child in self._caches[kind].owned(metadata["uid"])
        )
        # Pods outlive their Deployment; the other children that bear its name still tell it.
        names = {(child["metadata"].get("labels") or {}).get(INSTANCE, "") for child in children}
        pods = self._caches[kinds.POD]
        return any(pods.owned(f"{metadata['namespace']}/{name}") for name in names if name)

    def there(self, namespace: str, name: str) -> bool:
        """Whether a worker of that name is, or a Pod of it on its way out."""
        if self._caches[kinds.DEPLOYMENT].get(namespace, name) is not None:
            return True
        return bool(self._caches[kinds.POD].owned(f"{namespace}/{name}"))

    def installed(self, platform: Platform) -> Platform:
        """The platform with what the cluster serves now."""
        return replace(
            platform,
            keda=self._caches[kinds.SCALED_OBJECT].there,
            dapr=self._caches[kinds.COMPONENT].there,
            gateway=self._caches[kinds.HTTP_ROUTE].there,
        )

    def owner(self, kind: Kind, object: Object) -> Key | None:
        """The EventSource or Trigger that a child or Pod belongs to."""
        namespace = object["metadata"]["namespace"]
        if kind is kinds.POD:
            _, _, name = workload_of(object).partition("/")
            deployment = self._caches[kinds.DEPLOYMENT].get(namespace, name)
            if deployment is not None:
                return self.owner(kinds.DEPLOYMENT, deployment)
            # A Pod outlives the Deployment of a resource that is being deleted.
            labels = object["metadata"].get("labels") or {}
            owner_kind = _OWNERS.get(labels.get(f"{GROUP}/owner-kind", ""))
            name = labels.get(f"{GROUP}/owner-name", "")
            return (owner_kind, namespace, name) if owner_kind is not None else None
        for owner in object["metadata"].get("ownerReferences") or ():
            # Argo has an EventSource, too, and Knative a Trigger.
            ours = _OWNERS.get(owner["kind"]) if owner.get("controller") else None
            if ours is not None and owner["apiVersion"] == ours.api_version:
                return ours, namespace, owner["name"]
        return None
