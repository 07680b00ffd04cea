"""Measure: how long each call took and how it ended, for `ofevents_call_seconds`.

Directly around the subscriber, so that waiting for a place or the next attempt is
not counted as the subscriber's time.
"""

from __future__ import annotations

from ofevents.clock import Clock
from ofevents.errors import PermanentError, TemporaryError
from ofevents.ports import Delivery, Reply, Subscriber
from ofevents.telemetry import CALL_TIME


def labels(subscriber: str) -> tuple[str, str, str]:
    """namespace, name and subscriber of `namespace/trigger/name`, as metrics want them.

    The implicit Trigger of an EventSource is `source/<name>`. A function's own
    deliveries have no third part: the label is empty.
    """
    namespace, _, rest = subscriber.partition("/")
    name, _, own = rest.rpartition("/")
    return (namespace, name, own) if name else (namespace, own, "")


class Measure:
    """Observes every call; a cancelled one is none."""

    def __init__(self, inner: Subscriber, *, subscriber: str, clock: Clock) -> None:
        self._inner = inner
        self._monotonic = clock.monotonic
        # Looking a labelled metric up costs more than counting, so it is done once.
        self._ok, self._retry, self._rejected = (
            CALL_TIME.labels(*labels(subscriber), outcome)
            for outcome in ("ok", "retry", "rejected")
        )

    async def deliver(self, delivery: Delivery) -> Reply:
        """As the inner one."""
        began = self._monotonic()
        try:
            reply = await self._inner.deliver(delivery)
        except TemporaryError:
            self._retry.observe(self._monotonic() - began)
            raise
        except PermanentError:
            self._rejected.observe(self._monotonic() - began)
            raise
        self._ok.observe(self._monotonic() - began)
        return reply
