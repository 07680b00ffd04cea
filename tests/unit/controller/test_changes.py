"""Who looks again when something in the cluster has changed."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ofevents.api.meta import API_VERSION
from ofevents.clock import ManualClock
from ofevents.cluster import kinds
from ofevents.cluster.caches import Caches
from ofevents.cluster.client import Api
from ofevents.cluster.kinds import Kind
from ofevents.controller.changes import Changes
from ofevents.controller.depend import Dependencies
from ofevents.controller.queue import Key, WorkQueue

CALLER: Key = (kinds.TRIGGER, "shop", "caller")
REFERENTS = (*kinds.REFERENTS, kinds.EVENT_BUS, kinds.EVENT_SOURCE)


class Rig:
    """Changes are put into the caches; `asked` is who is to look since it was last read."""

    def __init__(self) -> None:
        clock = ManualClock()
        self._queue = WorkQueue(clock)
        self.depends = Dependencies()
        self._changes = Changes(self._queue, self.depends)
        self._caches = Caches(
            cast(Api, None), (), self._changes.changed, self._changes.all, clock=clock
        )
        self._changes.open(self._caches)
        self._version = 0

    def put(self, kind: Kind, name: str, owner: tuple[str, str, str] | None = None) -> Any:
        """A new or changed object, of that owner: apiVersion, kind, name."""
        self._version += 1
        metadata: dict[str, Any] = {
            "namespace": "shop",
            "name": name,
            "uid": "u",
            "generation": self._version,
            "resourceVersion": str(self._version),
        }
        if owner is not None:
            named = dict(zip(("apiVersion", "kind", "name"), owner, strict=True))
            metadata["ownerReferences"] = [{**named, "uid": "o", "controller": True}]
        found = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
        self._caches[kind].put(found)
        return found

    def remove(self, kind: Kind, found: Any) -> None:
        self._caches[kind].remove(found)

    async def asked(self) -> set[Key]:
        keys = set()
        while not self._queue.idle:
            keys.add(key := await self._queue.take())
            self._queue.done(key)
        return keys


@pytest.mark.parametrize("kind", REFERENTS, ids=lambda kind: kind.crd)
async def test_who_names_it_looks_when_it_comes_changes_and_goes(kind: Kind) -> None:
    rig = Rig()
    rig.depends.set(CALLER, [(kind, "shop", "named")])
    found: Any = None
    for change in ("comes", "changes", "goes"):
        if change == "goes":
            rig.remove(kind, found)
        else:
            found = rig.put(kind, "named")
        assert CALLER in await rig.asked(), change
    rig.put(kind, "another")
    assert CALLER not in await rig.asked()


@pytest.mark.parametrize(
    "owner",
    [
        ("argoproj.io/v1alpha1", "EventSource", "theirs"),
        ("eventing.knative.dev/v1", "Trigger", "theirs"),
        (API_VERSION, "EventSource", "ours"),  # a webhook's Service
    ],
    ids=["argo", "knative", "ours"],
)
@pytest.mark.parametrize("kind", [kinds.SERVICE, kinds.SECRET], ids=lambda kind: kind.kind)
async def test_whoever_owns_it(kind: Kind, owner: tuple[str, str, str]) -> None:
    rig = Rig()
    rig.depends.set(CALLER, [(kind, "shop", "named")])
    rig.put(kind, "named", owner)
    ours: set[Key] = {(kinds.EVENT_SOURCE, "shop", "ours")} if owner[0] == API_VERSION else set()
    assert await rig.asked() == {CALLER, *ours}
