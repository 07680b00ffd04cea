"""Keeps a cache equal to the cluster: list once, then watch, resumed where it broke off.

Only what the server has forgotten (410) is listed again. A kind that is not served (404) is
waited for, and the cache stays as it is: an API server that has just started serves the
kinds of CRDs a moment later than the others. Whoever sees a CRD come or go starts and ends
the reflector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from ofevents.clock import Clock
from ofevents.cluster.cache import Cache
from ofevents.cluster.client import Api, Gone, Refused
from ofevents.errors import TemporaryError
from ofevents.telemetry import Log

_FIRST: Final = 0.2
_LONGEST: Final = 10.0


class Reflector:
    """One kind in one namespace, or in all (None).

    Args:
        query: selectors of list and watch.
        synced: called once the cache is filled for the first time.
    """

    def __init__(
        self,
        api: Api,
        cache: Cache,
        namespace: str | None,
        *,
        clock: Clock,
        synced: Callable[[], None],
        query: Mapping[str, str] | None = None,
    ) -> None:
        self._api = api
        self._cache = cache
        self._namespace = namespace if cache.kind.namespaced else None
        self._clock = clock
        self._synced = synced
        self._query = dict(query or {})
        self._version = ""
        self._wait = _FIRST
        self._log = Log(watched=cache.kind.plural)

    async def run(self) -> None:
        """Until cancelled. A refusal (403) is waited out: rights may be given later."""
        while True:
            try:
                await self._follow()
            except Gone:
                self._version = ""
            except (TemporaryError, Refused) as error:
                self._log.warning("retrying", error=str(error))
                await self._clock.sleep(self._wait)
                self._wait = min(_LONGEST, self._wait * 2)

    async def _follow(self) -> None:
        kind = self._cache.kind
        if not self._version:
            items, version = await self._api.list_all(kind, self._namespace, self._query)
            self._cache.there = True
            self._cache.replace(items, self._namespace)
            self._version = version
            self._synced()
        watch = self._api.watch(kind, self._namespace, self._version, self._query)
        async with aclosing(watch):
            async for changes in watch:
                self._wait = _FIRST
                for change in changes:
                    self._take(change["type"], change["object"])

    def _take(self, type: str, object: dict[str, Any]) -> None:
        self._version = object["metadata"]["resourceVersion"]
        if type in ("ADDED", "MODIFIED"):
            self._cache.put(object)
        elif type == "DELETED":
            self._cache.remove(object)
