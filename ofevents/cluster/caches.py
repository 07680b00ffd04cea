"""The caches of all kinds that the controller knows, and the reflectors that fill them.

Kinds of somebody else's CRDs (KEDA, Dapr, Knative, OpenFunction, Gateway) are followed
from the moment that the API serves them: the list of CRDs is watched like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ofevents.clock import Clock
from ofevents.cluster import kinds
from ofevents.cluster.cache import Cache, Listener, Object
from ofevents.cluster.client import Api
from ofevents.cluster.kinds import Kind
from ofevents.cluster.reflector import Reflector

MANAGED: Final = "app.kubernetes.io/managed-by=ofevents"
"""Label of all that the controller makes."""
INSTANCE: Final = "app.kubernetes.io/instance"
"""Label of a Pod: the name of its Deployment."""
_SELECTORS: Final[Mapping[Kind, Mapping[str, str]]] = {
    # Helm keeps each release in Secrets of up to 1 MiB that nobody refers to.
    kinds.SECRET: {"fieldSelector": "type!=helm.sh/release.v1"},
    **{
        kind: {"labelSelector": MANAGED}
        for kind in (*kinds.CHILDREN, kinds.POD)
        if kind not in (kinds.SECRET, kinds.SERVICE)
    },
}
FOLLOWED: Final = tuple(
    dict.fromkeys((*kinds.OWN, *kinds.REFERENTS, *kinds.CHILDREN, kinds.POD, kinds.CRD))
)


def workload_of(pod: Object) -> str:
    """`namespace/name` of the Deployment that a Pod of ours belongs to."""
    metadata = pod["metadata"]
    name = (metadata.get("labels") or {}).get(INSTANCE, "")
    return f"{metadata['namespace']}/{name}" if name else ""


class Caches:
    """Every followed kind's cache.

    Args:
        namespaces: what is looked at; none is all.
        listener: told of every change, from the first list on.
        served: called when an optional kind has come or gone.
    """

    def __init__(
        self,
        api: Api,
        namespaces: Sequence[str],
        listener: Listener,
        served: Callable[[], None],
        *,
        clock: Clock,
    ) -> None:
        self._api = api
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._listener = listener
        self._told = served
        self._clock = clock
        self._caches = {kind: Cache(kind, self._changed) for kind in FOLLOWED}
        self._caches[kinds.POD] = Cache(kinds.POD, self._changed, workload_of)
        self._waiting: set[tuple[Kind, str | None]] = set()
        self._filled = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._running: dict[Kind, list[asyncio.Task[None]]] = {}

    def __getitem__(self, kind: Kind) -> Cache:
        return self._caches[kind]

    def watches(self, namespace: str) -> bool:
        """Whether what is in that namespace is known here."""
        return self._namespaces == (None,) or namespace in self._namespaces

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for kind in FOLLOWED:
                if kind not in kinds.OPTIONAL:
                    self._follow(kind)

    @property
    def full(self) -> bool:
        """Every cache has been filled once."""
        return self._filled.is_set()

    async def filled(self) -> None:
        """Return once every cache has what the cluster held, the optional kinds' included."""
        await self._filled.wait()

    def _follow(self, kind: Kind) -> None:
        assert self._group is not None
        namespaces = self._namespaces if kind.namespaced else (None,)
        self._running[kind] = []
        for namespace in namespaces:
            self._waiting.add((kind, namespace))
            reflector = Reflector(
                self._api,
                self._caches[kind],
                namespace,
                clock=self._clock,
                synced=lambda place=(kind, namespace): self._synced(*place),  # type: ignore[misc]
                query=_SELECTORS.get(kind),
            )
            self._running[kind].append(self._group.create_task(reflector.run()))

    def _synced(self, kind: Kind, namespace: str | None) -> None:
        self._waiting.discard((kind, namespace))
        self._caches[kind].synced = not any(each is kind for each, _ in self._waiting)
        if kind in kinds.OPTIONAL:
            self._told()
        if kind is kinds.CRD:
            self._served()
        if not self._waiting:
            self._filled.set()

    def _changed(self, kind: Kind, before: Object | None, now: Object | None) -> None:
        if kind is kinds.CRD:
            if self._caches[kinds.CRD].synced:
                self._served()
        else:
            self._listener(kind, before, now)

    def _served(self) -> None:
        """Begin to follow kinds that have come; a watch of one that is gone ends by itself."""
        for kind in kinds.OPTIONAL:
            follow = self._is_served(kind)
            if kind is kinds.FUNCTION_BETA1 and self._is_served(kinds.FUNCTION):
                follow = False  # The same objects in an older form.
            running = any(not task.done() for task in self._running.get(kind, ()))
            if follow and not running:
                self._follow(kind)
            elif not follow and self._caches[kind].there:
                for task in self._running.pop(kind, ()):
                    task.cancel()
                self._caches[kind].there = False
                self._caches[kind].synced = True
                self._caches[kind].replace((), None)
                self._told()

    def _is_served(self, kind: Kind) -> bool:
        crd = self._caches[kinds.CRD].get("", kind.crd)
        if crd is None:
            return False
        conditions = (crd.get("status") or {}).get("conditions") or ()
        established = any(
            each["type"] == "Established" and each["status"] == "True" for each in conditions
        )
        versions = [each["name"] for each in crd["spec"]["versions"] if each["served"]]
        return established and kind.version in versions
