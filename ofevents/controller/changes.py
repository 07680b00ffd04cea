"""From a change in the cluster to the keys that it concerns.

The reflectors call `Changes`; it decides who is to look again, and nothing more.
"""

from __future__ import annotations

from ofevents.cluster import kinds
from ofevents.cluster.cache import Object, name_of
from ofevents.cluster.caches import Caches
from ofevents.cluster.kinds import Kind
from ofevents.controller.depend import Dependencies
from ofevents.controller.queue import WorkQueue
from ofevents.controller.workers import Workers


class Changes:
    """Silent until `open`: before the caches are full, nobody can decide anything."""

    def __init__(self, queue: WorkQueue, depends: Dependencies) -> None:
        self._queue = queue
        self._depends = depends
        self._caches: Caches | None = None
        self._workers: Workers | None = None

    def open(self, caches: Caches) -> None:
        """The caches are full: every resource is looked at once, then each that changes."""
        self._caches, self._workers = caches, Workers(caches)
        self.all()

    @property
    def opened(self) -> bool:
        """Every resource has been asked for at least once."""
        return self._caches is not None

    def all(self) -> None:
        """Everybody looks again, as when KEDA has been installed."""
        if self._caches is not None:
            for kind in kinds.OWN:
                for object in self._caches[kind]:
                    self._queue.add((kind, *name_of(object)))

    def changed(self, kind: Kind, before: Object | None, now: Object | None) -> None:
        """An object has come (`before` is None), changed, or gone (`now` is None)."""
        object = now if now is not None else before
        if self._workers is None or object is None:
            return
        name = name_of(object)
        if kind in kinds.OWN:
            self._queue.add((kind, *name))
            if not _says_the_same(before, now):
                self._ask(kind, *name)
            return
        if kind in kinds.CHILDREN or kind is kinds.POD:
            owner = self._workers.owner(kind, object)
            if owner is not None:
                self._queue.add(owner)
        if kind in kinds.REFERENTS:
            self._ask(kind, *name)

    def _ask(self, kind: Kind, namespace: str, name: str) -> None:
        for key in self._depends.askers((kind, namespace, name)):
            self._queue.add(key)


def _says_the_same(before: Object | None, now: Object | None) -> bool:
    """Whether only the status of one of our kinds has changed."""
    if before is None or now is None:
        return False
    return bool(
        before["metadata"].get("generation") == now["metadata"].get("generation")
        and before["metadata"]["uid"] == now["metadata"]["uid"]
    )
