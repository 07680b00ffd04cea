"""Kubernetes Events: what changed, where `kubectl describe` shows it.

One for each change of a condition and for what a deletion had to leave behind; they are
never the reason to fail, so what the API server refuses is let go.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ofevents.clock import Clock
from ofevents.cluster import kinds
from ofevents.cluster.cache import Object
from ofevents.cluster.client import Api
from ofevents.controller.status import Condition
from ofevents.errors import OfeventsError

_LONGEST: Final = 1024


class Recorder:
    """Writes Events in the name of this controller."""

    def __init__(self, api: Api, holder: str, clock: Clock) -> None:
        self._api = api
        self._holder = holder
        self._clock = clock

    async def changed(self, object: Object, changed: list[Condition]) -> None:
        """Each condition that is news: Ready when it is gained, the others when they hold."""
        for one in changed:
            if one.status == "True":
                good = one.type == "Ready"
                await self.tell(object, one.reason, one.message or one.reason, good=good)

    async def tell(self, object: Object, reason: str, note: str, *, good: bool = False) -> None:
        """One Event about the object."""
        metadata = object["metadata"]
        namespace = metadata.get("namespace") or "default"
        stamp = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        name = f"{metadata['name'][:200]}.{uuid.uuid4().hex[:16]}"
        manifest: Mapping[str, Any] = {
            "apiVersion": kinds.EVENT.api_version,
            "kind": "Event",
            "metadata": {"namespace": namespace, "name": name},
            "eventTime": stamp,
            "reportingController": "ofevents.openfunction.io/controller",
            "reportingInstance": self._holder[:128],
            "action": "Reconcile",
            "reason": reason[:128],
            "regarding": {
                "apiVersion": object["apiVersion"],
                "kind": object["kind"],
                "name": metadata["name"],
                "namespace": metadata.get("namespace", ""),
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "note": note[:_LONGEST],
            "type": "Normal" if good else "Warning",
        }
        try:
            await self._api.create(kinds.EVENT, manifest)
        except OfeventsError:
            return  # Such as a namespace that is being deleted.
