"""Children as rendered against children as they are: writes what differs, nothing else.

By server-side apply with one field manager. What has our owner's uid and is no longer
rendered is deleted; an object of the same name that somebody else made is refused. A worker
of which something could not be written is not started or rolled either: it would run with
what is somebody else's, or out of date.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from ofevents.cluster import kinds
from ofevents.cluster.cache import Object, name_of, owner_of
from ofevents.cluster.caches import INSTANCE, Caches
from ofevents.cluster.client import Api, Refused
from ofevents.cluster.kinds import Kind, kind_of
from ofevents.controller.render import Owner

HASH: Final = "events.openfunction.io/hash"
"""Annotation of a child: what it was rendered as. A field that is no longer rendered is
seen by it alone."""
_Child = tuple[Kind, str, str]


@dataclass(slots=True)
class Applied:
    """What was done, and what could not be: a sentence for each."""

    written: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


class Applier:
    """Writes children; remembers nothing but what the server has made of a manifest."""

    def __init__(self, api: Api, caches: Caches) -> None:
        self._api = api
        self._caches = caches
        self._settled: dict[_Child, tuple[str, str]] = {}

    async def apply(
        self, owner: Owner, manifests: Iterable[Mapping[str, Any]], *, keep: Collection[str] = ()
    ) -> Applied:
        """Make the cluster hold these for that owner.

        Args:
            keep: names of children that are left alone although they are not rendered.

        Raises:
            Disconnected: the API server does not answer; call it again.
        """
        done, wanted, lacking = Applied(), set(), set()
        for manifest in manifests:
            kind, worker = kind_of(manifest), manifest["metadata"]["labels"].get(INSTANCE)
            wanted.add((kind, *name_of(dict(manifest))))
            if kind is kinds.DEPLOYMENT and worker in lacking:
                continue
            if not await self._one(owner, kind, manifest, done):
                lacking.add(worker)
        for kind in kinds.CHILDREN:
            for live in self._caches[kind].owned(owner.uid):
                child = (kind, *name_of(live))
                if child not in wanted and child[2] not in keep:
                    await self.delete(kind, live, done)
        return done

    async def delete(self, kind: Kind, live: Object, done: Applied) -> None:
        """Exactly that object, unless it goes already."""
        if live["metadata"].get("deletionTimestamp"):
            return
        namespace, name = name_of(live)
        await self._api.delete(kind, namespace, name, live["metadata"]["uid"])
        self._settled.pop((kind, namespace, name), None)
        done.deleted.append(f"{kind.kind} {name}")

    async def _one(
        self, owner: Owner, kind: Kind, manifest: Mapping[str, Any], done: Applied
    ) -> bool:
        """Whether it is as it should be now."""
        stamped = _stamp(manifest)
        child = (kind, *name_of(stamped))
        live = self._caches[kind].get(child[1], child[2])
        if live is None:
            # The cache knows ours alone: nobody else's may be taken over.
            live = await self._api.get(kind, child[1], child[2])
        if live is not None and owner_of(live) != owner.uid:
            done.foreign.append(
                f"{kind.kind} {child[2]} exists and belongs to {_holder(live)}: it is not touched; "
                "delete or rename it"
            )
            return False
        if live is not None and self._same(child, stamped, live):
            return True
        try:
            with self._caches[kind].writing(child[1], child[2]) as put:
                put(written := await self._api.apply(stamped))
        except Refused as error:
            done.refused.append(f"{kind.kind} {child[2]}: {error.message}{_way_out(error)}")
            return False
        if not holds(written, stamped):
            self._settled[child] = _hash(stamped), _outline(written, stamped)
        done.written.append(f"{kind.kind} {child[2]}")
        return True

    def _same(self, child: _Child, stamped: Object, live: Object) -> bool:
        if (live["metadata"].get("annotations") or {}).get(HASH) != _hash(stamped):
            return False
        # The server may write a value in another form, such as 1000m as 1.
        return holds(live, stamped) or (
            self._settled.get(child) == (_hash(stamped), _outline(live, stamped))
        )


def _way_out(error: Refused) -> str:
    """What a person can do where the object is in the way of what it should be."""
    if error.status == 422 and "immutable" in error.message:
        return "; that cannot be changed in place: delete the object, and it is made anew"
    return ""


def _stamp(manifest: Mapping[str, Any]) -> Object:
    metadata = dict(manifest["metadata"])
    annotations = dict(metadata.get("annotations") or {})
    if HASH not in annotations:
        text = orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)
        annotations[HASH] = hashlib.sha256(text).hexdigest()[:32]
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def _hash(stamped: Object) -> str:
    return str(stamped["metadata"]["annotations"][HASH])


def _holder(live: Object) -> str:
    for owner in live["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return f"{owner['kind']} {owner['name']}"
    return "somebody else"


def holds(live: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there; the server adds defaults around it."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            holds(live.get(key), value) for key, value in wanted.items()
            if key != "stringData" and value is not None
        )  # fmt: skip
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(map(holds, live, wanted))
        )  # fmt: skip
    return bool(live == wanted)


def _outline(live: Any, wanted: Any) -> str:
    """The live values of what is wanted, to see whether somebody has changed them since."""
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        return str({key: _outline(live.get(key), value) for key, value in wanted.items()})
    if isinstance(wanted, (list, tuple)) and isinstance(live, list):
        return str([_outline(*pair) for pair in zip(live, wanted, strict=False)]) + str(len(live))
    return str(live)
