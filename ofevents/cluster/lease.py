"""Who of several controllers may write: a `coordination.k8s.io` Lease.

The holder renews it every two seconds; the others take it when they have not seen it
renewed for nine seconds by their own clock, so clocks of machines may differ. A holder
that could not renew in time has ended before that, and `check`, asked before each of its
writes, keeps one that was frozen from a last one: it must not write any more.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

from ofevents.clock import Clock
from ofevents.cluster import kinds
from ofevents.cluster.client import Api, Refused
from ofevents.errors import Conflict, TemporaryError
from ofevents.telemetry import Log

DURATION: Final = 9.0
"""Seconds without a renewal after which another may take it."""
RENEW: Final = 2.0
DEADLINE: Final = 6.0
"""Seconds without a renewal after which the holder ends; less than DURATION."""


class Lost(Exception):
    """Another holds the lease now, or may hold it: this process must not write."""


class Lease:
    """One named lease and one that may hold it.

    Args:
        holder: a name of this process that no other has.
    """

    def __init__(self, api: Api, namespace: str, name: str, holder: str, *, clock: Clock) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._holder = holder
        self._clock = clock
        self._seen: tuple[Any, float] = (None, 0.0)
        self._renewed = float("-inf")
        self._log = Log(lease=name)

    async def take(self) -> None:
        """Return when it is ours."""
        waits = ""
        while True:
            asked = self._clock.monotonic()
            try:
                holder = await self._try()
            except Conflict:
                continue  # Somebody else was faster: look again.
            except (TemporaryError, Refused) as error:
                holder, text = "", str(error)
                self._log.warning("retrying", error=text)
            else:
                if holder == self._holder:
                    self._renewed = asked
                    self._log.info("leading", holder=holder)
                    return
            if holder and holder != waits:
                waits = holder
                self._log.info("standby", holder=holder)
            await self._clock.sleep(RENEW / 2)

    def check(self) -> None:
        """Whether it may still write.

        Raises:
            Lost: it is not held, or was not renewed in time.
        """
        if self._clock.monotonic() - self._renewed >= DEADLINE:
            raise Lost(f"the lease {self._name} was not renewed in time")

    async def keep(self) -> None:
        """Renew it until cancelled.

        Raises:
            Lost: it could not be renewed in time, or another has it.
        """
        while True:
            await self._clock.sleep(RENEW)
            # Others count from when the server has it, which is before its answer is here.
            asked = self._clock.monotonic()
            try:
                async with asyncio.timeout(DEADLINE - (asked - self._renewed)):
                    holder = await self._try()
            except Conflict:
                continue
            except (TemporaryError, Refused, TimeoutError) as error:
                if self._clock.monotonic() - self._renewed >= DEADLINE:
                    raise Lost(f"the lease {self._name} could not be renewed: {error}") from error
                continue
            if holder != self._holder:
                raise Lost(f"the lease {self._name} is held by {holder}")
            self._renewed = asked

    async def release(self) -> None:
        """Let another take it at once."""
        try:
            found = await self._api.get(kinds.LEASE, self._namespace, self._name)
            if found is not None and found["spec"].get("holderIdentity") == self._holder:
                await self._api.replace(kinds.LEASE, self._manifest(found, ""))
        except (TemporaryError, Refused) as error:
            self._log.warning("retrying", error=str(error))

    async def _try(self) -> str:
        """Take or renew it if that may be; who holds it afterwards."""
        found = await self._api.get(kinds.LEASE, self._namespace, self._name)
        if found is None:
            await self._api.create(kinds.LEASE, self._manifest(None, self._holder))
            return self._holder
        spec = found["spec"]
        holder = str(spec.get("holderIdentity") or "")
        if holder not in ("", self._holder) and not self._expired(spec):
            return holder
        await self._api.replace(kinds.LEASE, self._manifest(found, self._holder))
        return self._holder

    def _expired(self, spec: dict[str, Any]) -> bool:
        state, now = (spec.get("holderIdentity"), spec.get("renewTime")), self._clock.monotonic()
        if state != self._seen[0]:
            self._seen = state, now
        return now - self._seen[1] > float(spec.get("leaseDurationSeconds") or DURATION)

    def _manifest(self, found: dict[str, Any] | None, holder: str) -> dict[str, Any]:
        stamp = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: dict[str, Any] = dict((found or {}).get("spec") or {})
        if spec.get("holderIdentity") != holder:
            spec["acquireTime"] = stamp
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        spec |= {
            "holderIdentity": holder,
            "leaseDurationSeconds": int(DURATION),
            "renewTime": stamp,
        }
        metadata = {"namespace": self._namespace, "name": self._name}
        if found is not None:
            metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
        return {
            "apiVersion": kinds.LEASE.api_version,
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }
