"""Gate: asks before each call whether it may be made, and tells afterwards how it ended.

Inside `Limit`, so that what waits for a place is asked when its turn comes: a
subscriber may have gone away meanwhile. The trigger answers with the evidence that all
its workers share (`ofevents.trigger.door`); a source without a bus has nothing to keep
evidence in and is `Unwatched`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from ofevents.errors import Misconfigured, Unavailable
from ofevents.ports import Delivery, Reply, Subscriber
from ofevents.subscriber.outcome import Postponed


class Call(Protocol):
    """One call: `async with` around it; left without an error it was accepted."""

    async def __aenter__(self) -> Self:
        """Wait until it may be made.

        Raises:
            Postponed: no call may be made now.
        """
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def failed(self, error: Unavailable) -> Postponed | None:
        """Asked once it has failed: what to raise where it does not count, else None."""
        ...


class Observer(Protocol):
    """Collects the evidence whether a subscriber is away."""

    def calling(self, delivery: Delivery) -> Call:
        """On the hot path: it must be quick."""
        ...


class Gate:
    """Puts its observer around each call."""

    def __init__(self, inner: Subscriber, observer: Observer) -> None:
        self._inner = inner
        self._calling = observer.calling

    async def deliver(self, delivery: Delivery) -> Reply:
        """As the inner one.

        Raises:
            Postponed: the subscriber is away or misconfigured; the call does not count.
        """
        call = self._calling(delivery)
        try:
            async with call:
                return await self._inner.deliver(delivery)
        except Unavailable as error:
            postponed = await call.failed(error)
            if postponed is None:
                raise
            raise postponed from error


class Unwatched:
    """Without evidence: every failure counts, but of a call that is made wrongly."""

    def calling(self, delivery: Delivery) -> Call:
        """See `Observer`."""
        return _UnwatchedCall(delivery)


class _UnwatchedCall:
    __slots__ = ("_delivery",)

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def failed(self, error: Unavailable) -> Postponed | None:
        """A person must look at it: until then it is waited for."""
        if isinstance(error, Misconfigured):
            return Postponed(self._delivery, error.reason, error, error.delay)
        return None
