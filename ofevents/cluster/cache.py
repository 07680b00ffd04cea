"""What the cluster holds of one kind, as a reflector last heard, and as we last wrote.

Nothing else remembers objects. Objects in it are never changed in place. Listeners are
told of each real change; what we wrote ourselves is put here at once, so that a second
look never acts on what was there before our write, and is told to nobody: its writer knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ofevents.cluster.kinds import Kind

Object = dict[str, Any]
Name = tuple[str, str]
"""Namespace ("" for cluster-wide kinds) and name."""
Listener = Callable[[Kind, Object | None, Object | None], None]
"""Called with the object before and after a change; None where there is none."""


def name_of(object: Object) -> Name:
    """Its place in a cache."""
    metadata = object["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def version_of(object: Object) -> int:
    """Its resourceVersion; they are numbers that grow."""
    return int(object["metadata"]["resourceVersion"])


def owner_of(object: Object) -> str:
    """The uid of the controlling owner, "" without one."""
    for owner in object["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner["uid"])
    return ""


class Cache:
    """Objects of a kind by name, and by the owner that controls them.

    Args:
        owner: another idea of what owns an object; "" for nothing.

    Attributes:
        synced: it has been filled once. A kind that is not there at all is synced too.
        there: the API serves the kind.
    """

    def __init__(
        self, kind: Kind, listener: Listener, owner: Callable[[Object], str] = owner_of
    ) -> None:
        self.kind = kind
        self.synced = False
        self.there = True
        self._listener = listener
        self._owner = owner
        self._objects: dict[Name, Object] = {}
        self._owned: dict[str, set[Name]] = {}
        self._heard: dict[Name, list[tuple[int, Object | None]]] = {}

    def get(self, namespace: str, name: str) -> Object | None:
        return self._objects.get((namespace, name))

    def __iter__(self) -> Iterator[Object]:
        return iter(list(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)

    def names(self, namespace: str) -> list[str]:
        """Of one namespace; for the nearest name in a message."""
        return [name for place, name in self._objects if place == namespace]

    def owned(self, owner: str) -> list[Object]:
        """What that owner controls; by its uid where nothing else was said."""
        return [self._objects[name] for name in sorted(self._owned.get(owner, ()))]

    @contextmanager
    def writing(self, namespace: str, name: str) -> Iterator[Callable[[Object], None]]:
        """Around a write of ours, which is given what the server has made of it.

        The watch often hears of a write before its answer is there. What is heard of the object
        meanwhile is told when the write has ended, unless it is that write alone.
        """
        heard = self._heard[namespace, name] = []
        ours = 0

        def written(object: Object) -> None:
            nonlocal ours
            ours = version_of(object)
            self.put(object)

        try:
            yield written
        finally:
            del self._heard[namespace, name]
            if any(version != ours for version, _ in heard):
                self._listener(self.kind, heard[0][1], self._objects.get((namespace, name)))

    def put(self, object: Object) -> None:
        """Take a newer state; an older one, or the same, is no news."""
        name, before = name_of(object), self._objects.get(name_of(object))
        if before is not None and version_of(object) <= version_of(before):
            return
        object["metadata"].pop("managedFields", None)
        self._index(before, object)
        self._objects[name] = object
        if name in self._heard:
            self._heard[name].append((version_of(object), before))
        else:
            self._listener(self.kind, before, object)

    def remove(self, object: Object) -> None:
        """It is deleted; an object of the same name that came after it stays."""
        name = name_of(object)
        before = self._objects.get(name)
        if before is None or before["metadata"]["uid"] != object["metadata"]["uid"]:
            return
        del self._objects[name]
        self._index(before, None)
        self._listener(self.kind, before, None)

    def replace(self, objects: Iterable[Object], namespace: str | None) -> None:
        """All there is, of one namespace or of all: what is not among them is gone."""
        fresh = {name_of(one): one for one in objects}
        for name, before in list(self._objects.items()):
            now = fresh.get(name)
            if namespace in (None, name[0]) and (
                now is None or now["metadata"]["uid"] != before["metadata"]["uid"]
            ):
                self.remove(before)
        for one in fresh.values():
            self.put(one)

    def _index(self, before: Object | None, now: Object | None) -> None:
        if before is not None and (uid := self._owner(before)):
            names = self._owned[uid]
            names.discard(name_of(before))
            if not names:
                del self._owned[uid]
        if now is not None and (uid := self._owner(now)):
            self._owned.setdefault(uid, set()).add(name_of(now))
