"""One resource, from what it says to what runs and what its status says of that.

    queue -> plan -> ensure -> render -> apply -> status

Each step is a module; this one only calls them in order. It is level-driven: it looks at
what is there now, whatever asked for it, and writes nothing where all is as it should be.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from ofevents.api.resolved import ResolvedSource, ResolvedTrigger
from ofevents.clock import Clock
from ofevents.cluster import kinds
from ofevents.cluster.cache import Object, name_of
from ofevents.cluster.caches import Caches
from ofevents.cluster.client import Api, Refused
from ofevents.cluster.lookup import ClusterLookUp
from ofevents.controller import status as statuses
from ofevents.controller.apply import Applied, Applier
from ofevents.controller.buses import Buses
from ofevents.controller.busstatus import bus_facts
from ofevents.controller.depend import Dependencies
from ofevents.controller.events import Recorder
from ofevents.controller.farewell import Farewell
from ofevents.controller.leaving import FINALIZER, Leaving, needs_finalizer
from ofevents.controller.moving import Moving
from ofevents.controller.places import Place, Places
from ofevents.controller.plan import Plan, plan
from ofevents.controller.queue import Key, WorkQueue
from ofevents.controller.render import Owner, Platform, Workload, child_name, children
from ofevents.controller.render.workload import Manifest
from ofevents.controller.since import begun
from ofevents.controller.status import Facts
from ofevents.controller.sweep import Sweeper, Users
from ofevents.controller.workers import Workers
from ofevents.controller.workerstatus import worker_facts
from ofevents.errors import OfeventsError, TemporaryError
from ofevents.process import end_if_cancelled
from ofevents.telemetry import Log

LOOK_AGAIN: Final = 10.0
"""Seconds after which a Pod that is not ready is asked again for the reason."""


class Reconciler:
    """Reconciles one key at a time; several may run side by side.

    Args:
        platform: the image and its pull policy; what is installed is filled in here.
    """

    def __init__(
        self,
        api: Api,
        caches: Caches,
        queue: WorkQueue,
        buses: Buses,
        depends: Dependencies,
        sweeper: Sweeper,
        recorder: Recorder,
        platform: Platform,
        clock: Clock,
    ) -> None:
        self._api = api
        self._caches = caches
        self._queue = queue
        self._buses = buses
        self._depends = depends
        self._recorder = recorder
        self._platform = platform
        self._clock = clock
        self._sweeper = sweeper
        self._applier = Applier(api, caches)
        self._workers = Workers(caches)
        places = Places(caches, buses)
        farewell = Farewell(api, caches, self._applier, clock)
        self._leaving = Leaving(api, caches, self._applier, places, farewell, recorder, clock)
        self._moving = Moving(caches, self._applier, places, farewell, recorder, clock)
        self._log = Log()

    async def run(self) -> None:
        """Take keys until cancelled."""
        while True:
            key = await self._queue.take()
            try:
                again = await self.reconcile(key)
            except (TemporaryError, Refused) as error:
                self._retry(key, error, getattr(error, "delay", 0.0))
            except Exception as error:  # One resource must not take the others with it.
                self._log.error("failed", kind=key[0].kind, namespace=key[1], name=key[2],
                                exc_info=error)  # fmt: skip
                self._queue.failed(key)
            else:
                if again:
                    self._queue.failed(key)
                else:
                    self._queue.done(key)
            end_if_cancelled()

    def _retry(self, key: Key, error: Exception, delay: float) -> None:
        wait = self._queue.failed(key, delay=delay)
        self._log.warning(
            "retrying",
            kind=key[0].kind,
            namespace=key[1],
            name=key[2],
            error=str(error),
            seconds=wait,
        )

    async def reconcile(self, key: Key) -> bool:
        """Bring one resource up to date; True to come back after a while.

        Raises:
            TemporaryError: the API server does not answer.
            Refused: it refuses what a controller must be able to do.
        """
        object = self._caches[key[0]].get(key[1], key[2])
        if object is None:
            self._depends.set(key, ())
            self._buses.forget(key)
            self._sweeper.forget(key)
            return False
        if object["metadata"].get("deletionTimestamp"):
            self._depends.set(key, ())
            self._sweeper.forget(key)
            if not await self._leaving.leave(key, object):
                self._queue.add_later(key, LOOK_AGAIN)
            return False
        if key[0] in (kinds.EVENT_BUS, kinds.CLUSTER_EVENT_BUS):
            look_up = ClusterLookUp(self._caches)
            facts = await bus_facts(key, object, look_up, self._buses)
            self._depends.set(key, look_up.asked)
            await self._tell(object, facts)
            return any(reason == "Disconnected" for reason, _ in facts.trouble)
        return await self._resource(key, object)

    async def _resource(self, key: Key, object: Object) -> bool:
        look_up = ClusterLookUp(self._caches)
        planned = plan(object, look_up, self._readers(key))
        self._follow(key, look_up)
        if planned.workloads:
            object = await self._hold(key, object)
        trouble, again = [], False
        try:
            await self._buses.ensure(key, planned.buses, planned.secrets or {})
            self._sweep(key, object, planned)
        except OfeventsError as error:
            # Its workers may reach the bus where we do not, and a rotated login must get to
            # them: they are made all the same.
            trouble.append((error.reason, str(error)))
            again = True
        left = self._moving.left(object, planned)
        applied, warnings = await self._children(key, object, planned, left)
        if left and not trouble:
            try:
                waits = await self._moving.step(key, object, left)
                if not waits:
                    # Should both names stand for one server, its place there is gone, too.
                    await self._buses.ensure(key, planned.buses, planned.secrets or {}, anew=True)
                    applied, warnings = await self._children(key, object, planned)
            except OfeventsError as error:
                waits, again = str(error), True
            if waits:
                trouble.append(("Moving", waits))
                self._queue.add_later(key, LOOK_AGAIN)
        trouble += [("NameTaken", text) for text in applied.foreign]
        trouble += [("ApplyRefused", text) for text in applied.refused]
        again = again or bool(applied.foreign or applied.refused)
        facts, asked = await worker_facts(object, planned, trouble, warnings, self._caches)
        await self._tell(object, facts)
        if applied.written or applied.deleted:
            self._log.info("applied", kind=key[0].kind, namespace=key[1], name=key[2],
                           written=applied.written, deleted=applied.deleted)  # fmt: skip
        if asked:
            self._queue.add_later(key, LOOK_AGAIN)
        return again

    # -- the steps -------------------------------------------------------------------------

    def _readers(self, key: Key) -> list[Object]:
        """Triggers of other namespaces that read this EventSource."""
        askers = self._depends.askers(key)
        found = [
            self._caches[kind].get(namespace, name)
            for kind, namespace, name in askers
            if kind is kinds.TRIGGER and namespace != key[1]
        ]
        return [each for each in found if each is not None]

    def _follow(self, key: Key, look_up: ClusterLookUp) -> None:
        """Remember what it asked for; an EventSource that others begin to read says so."""
        for kind, namespace, name in self._depends.set(key, look_up.asked):
            if kind is kinds.EVENT_SOURCE and namespace != key[1]:
                self._queue.add((kind, namespace, name))

    async def _hold(self, key: Key, object: Object) -> Object:
        """See to the finalizer, before there is something on the bus."""
        metadata = object["metadata"]
        finalizers = metadata.get("finalizers") or []
        if FINALIZER in finalizers or not needs_finalizer(object):
            return object
        change: dict[str, Any] = {
            "metadata": {
                "finalizers": [*finalizers, FINALIZER],
                "resourceVersion": metadata["resourceVersion"],
            }
        }
        with self._caches[key[0]].writing(key[1], key[2]) as put:
            put(fresh := await self._api.patch(key[0], key[1], key[2], change))
        return fresh

    def _sweep(self, key: Key, object: Object, planned: Plan) -> None:
        """Have the bus looked through for what an edit has left there."""
        links = self._buses.linked(key)
        if not links or planned.errors or planned.blocked:
            return
        specs = [each.spec for each in planned.workloads]
        triggers = tuple(each for each in specs if isinstance(each, ResolvedTrigger))
        bare = key[0] is kinds.EVENT_SOURCE and not object["spec"].get("sink")
        entries = frozenset(
            (each.source, each.entry) for each in specs if isinstance(each, ResolvedSource)
        )
        users = Users(
            triggers,
            ((key[1], key[2]),) if bare else (),
            entries if key[0] is kinds.EVENT_SOURCE else None,
        )
        self._sweeper.has(key, links[0], users)

    async def _children(
        self, key: Key, object: Object, planned: Plan, left: Sequence[Place] = ()
    ) -> tuple[Applied, tuple[tuple[str, str], ...]]:
        """Make its workers' children what they should be; of those in `left` they stay."""
        if planned.errors and not planned.denied:
            return Applied(), ()  # What runs is what the resource last said rightly.
        metadata = object["metadata"]
        owner = Owner(key[0].api_version, key[0].kind, key[1], key[2], metadata["uid"],
                      metadata.get("generation", 0))  # fmt: skip
        now = round(self._clock.now(), 3)
        held = {child_name(each.trigger) for each in left if each.trigger is not None}
        workloads = [
            begun(each, self._caches[kinds.DEPLOYMENT].get(key[1], name), owner.uid, now)
            for each in planned.workloads
            if not planned.denied and (name := child_name(each.spec)) not in held
        ]
        keep = self._kept(owner, planned, workloads, held)
        also = self._workers.scopes(owner.uid, keep)
        rendered = children(owner, workloads, self._installed(), also)
        applied = await self._applier.apply(owner, rendered.manifests, keep=keep)
        self._ask_again(rendered.manifests, applied)
        return applied, rendered.warnings

    def _ask_again(self, manifests: Sequence[Manifest], applied: Applied) -> None:
        """Ask those that refer to what was written, such as a webhook's Service: a cache is
        silent about our own writes."""
        for kind, manifest in ((kinds.kind_of(each), each) for each in manifests):
            namespace, name = name_of(manifest)
            if kind in kinds.REFERENTS and f"{kind.kind} {name}" in applied.written:
                for key in self._depends.askers((kind, namespace, name)):
                    self._queue.add(key)

    def _installed(self) -> Platform:
        return self._workers.installed(self._platform)

    def _kept(
        self, owner: Owner, planned: Plan, workloads: Sequence[Workload], held: Collection[str]
    ) -> Collection[str]:
        """What belongs to workers that cannot be rendered for now: it runs on as it is."""
        if planned.denied or not (planned.blocked or held):
            return ()
        return self._workers.names(owner.uid, without={child_name(one.spec) for one in workloads})

    async def _tell(self, object: Object, facts: Facts) -> None:
        """Write the status if it differs from what is there."""
        metadata = object["metadata"]
        generation = metadata.get("generation", 0)
        before = object.get("status")
        status, changed = statuses.merge(before, facts, generation, self._clock.now())
        if status == before:
            return
        named = {name: metadata[name] for name in ("namespace", "name") if metadata.get(name)}
        manifest = {
            "apiVersion": object["apiVersion"],
            "kind": object["kind"],
            "metadata": named,
            "status": status,
        }
        cache = self._caches[kinds.kind_of(object)]
        with cache.writing(metadata.get("namespace", ""), metadata["name"]) as put:
            put(await self._api.apply(manifest, sub="status"))
        await self._recorder.changed(object, changed)
