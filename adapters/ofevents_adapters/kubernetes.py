"""The `kubernetes` source: what becomes of the objects of one kind.

    watch from the position -> emit -> keep the position (a resourceVersion)

It begins with what changes after its first start. With a bus, the position is in its
store, and the worker that has the lease watches: the others stand by. The position is kept
only after emit has returned, and moved by the server's bookmarks where nothing changes; so
a restart goes on where it was, and repeats at most what was in hand, with the same ids.
Without a bus one worker watches, and begins with what changes after each start.

The API server knows what has changed for some minutes only, and forgets it when it is
restarted. When it does not know any more (410 Gone), all objects are listed, and those
whose version is newer than the position are emitted: as ADDED if they were made in the
second in which the position was kept or later, else as MODIFIED. That is told in the log,
as this is lost then: the deletions in between, and of several changes of an object all
but the last.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import quote

from ofevents.api.platform import KubernetesSpec
from ofevents.clock import Clock
from ofevents.errors import ConfigError
from ofevents.event import Event, format_time
from ofevents.ports import Emit, SourceFeatures, SourceIdentity, Store
from ofevents.ports.lease import Lease, while_held
from ofevents.telemetry import Log
from ofevents_adapters.kubernetes_api import PAGE, Api, Gone
from ofevents_adapters.kubernetes_position import Kept, Position, Positions, Remembered, newer
from ofevents_adapters.kubernetes_record import event_of
from ofevents_adapters.settle import settle

LEASE: Final = 15.0
"""Seconds after which another worker takes over from one that has died."""
BATCH: Final = 100
"""Most changes of one emit on a bus."""


class KubernetesSource:
    """Watches the objects of a kind."""

    features = SourceFeatures(
        guarantee="at-least-once", stable_ids=True, ordered=True, scales=False
    )

    def __init__(self, spec: KubernetesSpec, identity: SourceIdentity, *, clock: Clock) -> None:
        """Checks the spec (ConfigError); connects to nothing."""
        self._spec = spec
        self._path = f"spec.kubernetes.{identity.entry}"
        check(spec, self._path)
        self._namespace = spec.namespace or identity.namespace
        self._clock = clock
        parts = (identity.namespace, identity.name, identity.entry)
        self._name = "/".join(quote(part, safe="") for part in parts)
        self._log = Log(namespace=identity.namespace, name=identity.name, entry=identity.entry)
        self._remembered = Remembered()

    async def run(self, emit: Emit, *, store: Store | None, started: Callable[[str], None]) -> None:
        """See `ofevents.ports.Source`. Without a bus, one event is emitted at a time.

        Raises:
            Disconnected: the API does not answer, has no such kind, or the lease is lost.
            ConfigError: no login, or the API refuses it or the reading.
        """
        async with Api(self._spec, self._path) as api:
            path = await self._locate(api)
            address = f"{self._spec.kind} at {api.where}{path}"
            if store is None:
                await self._watching(api, path, self._remembered, emit, 1).run(
                    lambda: started(address)
                )
                return
            key, standby = f"kubernetes/{self._name}", asyncio.Event()
            watching = self._watching(api, path, Kept(store, f"{key}/position"), emit, BATCH)
            lease = Lease(store, f"{key}/lease", uuid.uuid4().hex, ttl=LEASE, clock=self._clock)

            def standing_by() -> None:
                standby.set()
                started(f"{address} (another worker watches it)")

            async def work() -> None:
                await watching.run(lambda: None if standby.is_set() else started(address))

            await while_held(lease, work, standing_by=standing_by)

    async def _locate(self, api: Api) -> str:
        resource = await api.find()
        if self._spec.namespace not in (None, "*") and not resource.namespaced:
            raise ConfigError(
                f"{self._spec.kind} is in no namespace: leave it out",
                path=f"{self._path}.namespace",
            )
        everywhere = self._namespace == "*" or not resource.namespaced
        return resource.within(None if everywhere else self._namespace)

    def _watching(
        self, api: Api, path: str, positions: Positions, emit: Emit, most: int
    ) -> Watching:
        return Watching(
            self._spec,
            api,
            path,
            positions,
            emit,
            most,
            source=f"/ofevents/{self._name}",
            clock=self._clock,
            log=self._log,
        )


def check(spec: KubernetesSpec, path: str) -> None:
    """Find what is wrong before anything connects.

    Raises:
        ConfigError: a field is wrong.
    """
    for name, text, expected in (
        ("apiVersion", spec.api_version, "such as v1 or apps/v1"),
        ("kind", spec.kind, "such as Deployment"),
        ("namespace", spec.namespace if spec.namespace is not None else "x", "or * for all"),
    ):
        slashes = 1 if name == "apiVersion" else 0
        if not text or quote(text, safe="/*") != text or text.count("/") > slashes:
            raise ConfigError(
                f"{text!r} is no {name}; expected one {expected}", path=f"{path}.{name}"
            )


class Watching:
    """One connection's watch; `most` events are in one emit."""

    def __init__(
        self,
        spec: KubernetesSpec,
        api: Api,
        path: str,
        positions: Positions,
        emit: Emit,
        most: int,
        *,
        source: str,
        clock: Clock,
        log: Log,
    ) -> None:
        self._api = api
        self._path = path
        self._position = Position("", 0)
        self._positions = positions
        self._emit = emit
        self._most = most
        self._wanted = frozenset(spec.event_types)
        self._source = source
        self._clock = clock
        self._log = log

    async def run(self, started: Callable[[], None]) -> None:
        """Emit what changes until cancelled; `started` once the position is known."""
        position = await self._positions.load()
        if position is None:
            page = await self._api.page(self._path, limit=1)
            position = await self._keep(page["metadata"]["resourceVersion"])
        self._position = position
        started()
        while True:
            try:
                await self._watch()
            except Gone as gone:
                await self._relist(str(gone))

    async def _watch(self) -> None:
        """Watch once, until the server ends it, and settle what comes."""
        async with aclosing(self._api.watch(self._path, self._position.version)) as watch:
            async for changes in watch:
                for at in range(0, len(changes), BATCH):
                    part = changes[at : at + BATCH]
                    await self._settle(
                        [
                            event_of(one["type"], one["object"], self._source)
                            for one in part
                            if one["type"] in self._wanted
                        ]
                    )
                    # A bookmark has nothing but a version.
                    await self._keep(part[-1]["object"]["metadata"]["resourceVersion"])

    async def _keep(self, version: str) -> Position:
        position = Position(version, int(self._clock.now()))
        await self._positions.keep(position)
        self._position = position
        return position

    async def _relist(self, reason: str) -> None:
        """Emit what is newer than the position, and go on from there."""
        position = self._position
        self._log.warning(
            "expired",
            reason=f"{self._api.where} does not know any more what has changed since "
            f"{format_time(position.time)} ({reason}): all objects are listed; deletions since "
            "then are missed, and of several changes of an object all but the last",
        )
        after, version = "", ""
        while True:
            try:
                page = await self._api.page(self._path, limit=PAGE, after=after)
            except Gone:
                after = version = ""  # it took too long: from the beginning, with the same ids
                continue
            about = page["metadata"]
            version = version or about["resourceVersion"]
            await self._settle(self._newer(page, position))
            after = about.get("continue") or ""
            if not after:
                await self._keep(version)
                return

    def _newer(self, page: dict[str, Any], position: Position) -> list[Event]:
        events: list[Event] = []
        since = format_time(position.time)
        for item in page["items"]:
            about = item["metadata"]
            # In a list the objects do not say what they are.
            item = {
                "kind": page["kind"].removesuffix("List"),
                "apiVersion": page["apiVersion"],
                **item,
            }
            change = "ADDED" if about["creationTimestamp"] >= since else "MODIFIED"
            if newer(about["resourceVersion"], position.version) and change in self._wanted:
                events.append(event_of(change, item, self._source))
        return events

    async def _settle(self, events: Sequence[Event]) -> None:
        """Return when all are settled; without a bus one after the other."""
        await settle(self._emit, events, apart=self._most == 1, clock=self._clock, log=self._log)
