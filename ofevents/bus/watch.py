"""What maxAge takes before it was read: said beforehand, and counted as lost (promise 2).

Run by the driver while it is open. One of all workers looks (by a lease in the
store), every few minutes, at each group's position in the events and in the
user topics. It warns when the oldest event that a group has not settled nears
maxAge. What lay between the position at the last look and the oldest event there
is now has expired; of those, the group's share of the stream, less what it was
handed meanwhile, is lost.
JetStream keeps no exact count: with several topics in one stream it is an
estimate, exact for a group that reads all of it or that stood still.

The last look is kept in the store, so that a stop of a week is seen as well.
"""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any, Final

import orjson

from ofevents.bus import direct
from ofevents.bus.layout import REPLAYED, filters
from ofevents.bus.link import Link
from ofevents.bus.streams import ApiError, Streams
from ofevents.clock import Clock
from ofevents.errors import TemporaryError
from ofevents.ports import Store
from ofevents.ports.lease import Lease
from ofevents.telemetry import EXPIRED, Log

PERIOD: Final = 300.0
NEAR: Final = 0.8
"""Share of maxAge from which on a warning is logged."""
_LEASE: Final = "ofevents/watch/lease"
_SEEN: Final = "ofevents/watch/seen"
_TTL: Final = 60.0

_Positions = dict[str, dict[str, float]]
"""Of one stream's groups, by name; see `_position`."""


class Watch:
    """See the module."""

    def __init__(self, link: Link, streams: Streams, store: Store, clock: Clock) -> None:
        self._link = link
        self._streams = streams
        self._store = store
        self._clock = clock
        self._max_age = link.options.max_age

    async def run(self, period: float = PERIOD) -> None:
        """Look again and again, until cancelled."""
        while True:
            owner = uuid.uuid4().hex
            async with Lease(self._store, _LEASE, owner, ttl=_TTL, clock=self._clock) as lease:
                while lease.held:
                    try:
                        await self.look()
                    except (TemporaryError, ApiError):
                        pass  # the bus is away: the next look sees it all
                    await self._clock.sleep(period)

    async def look(self) -> dict[str, int]:
        """Look once; what each group has lost since the last look, in all streams together."""
        entry = await self._store.get(_SEEN)
        seen: dict[str, _Positions] = orjson.loads(entry.value) if entry else {}
        now: dict[str, _Positions] = {}
        lost: Counter[str] = Counter()
        for which in REPLAYED:
            stream = self._streams.layout.stream(which)
            now[which], gone = await self._look_at(stream, seen.get(which, {}))
            lost.update(gone)
        revision = entry.revision if entry else 0
        # First the position, by compare-and-set: nobody counts the same loss twice.
        await self._store.put(_SEEN, orjson.dumps(now), revision=revision)
        for group, count in lost.items():
            EXPIRED.labels(group=group).inc(count)
            Log(group=group).error("expired", messages=count, max_age=self._max_age)
        return dict(lost)

    async def _look_at(self, stream: str, seen: _Positions) -> tuple[_Positions, dict[str, int]]:
        """Each group's position in that stream, and what it has lost there since `seen`."""
        state = (await self._streams.info(stream))["state"]
        now: _Positions = {}
        lost: dict[str, int] = {}
        for consumer in await self._streams.consumers(stream):
            group = consumer["config"].get("metadata", {}).get("ofevents-group", consumer["name"])
            now[group] = _position(consumer, state["last_seq"])
            if group in seen and (count := _lost(seen[group], now[group], state["first_seq"])):
                lost[group] = count
            if consumer["num_pending"] or consumer["num_ack_pending"]:
                await self._warn(group, consumer)
        return now, lost

    async def _warn(self, group: str, consumer: dict[str, Any]) -> None:
        """Say so when the oldest event that the group has not settled is near maxAge."""
        stream, after = consumer["stream_name"], consumer["ack_floor"]["stream_seq"] + 1
        oldest: float | None = None
        for subject in filters(consumer):
            found, _ = await direct.following(self._link, stream, subject, sequence=after, batch=1)
            if found:
                oldest = min(found[0].time, oldest or found[0].time)
        if oldest is None:
            return
        age = self._clock.now() - oldest
        if age > NEAR * self._max_age:
            Log(group=group).warning(
                "stalled",
                reason=f"its oldest unsettled event is {age:.0f} s old and expires at "
                f"{self._max_age:.0f} s (maxAge)",
            )


def _position(consumer: dict[str, Any], last: int) -> dict[str, float]:
    """Where a group is: what it was handed up to, how often, and its share of the rest."""
    delivered = consumer["delivered"]
    rest = last - delivered["stream_seq"]
    share = min(1.0, consumer["num_pending"] / rest) if rest > 0 else 0.0
    return {"at": delivered["stream_seq"], "handed": delivered["consumer_seq"], "share": share}


def _lost(before: dict[str, float], now: dict[str, float], first: int) -> int:
    """How many of a group's messages are gone that it was not handed."""
    gone = first - 1 - before["at"]
    handed = now["handed"] - before["handed"]
    return max(0, round(gone * before["share"] - max(0.0, handed)))
