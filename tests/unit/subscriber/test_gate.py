"""Gate: asked before each call, told afterwards, and what that makes of a failure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import pytest

from ofevents.errors import Disconnected, Misconfigured, Rejected, Unavailable
from ofevents.ports import Delivery, Reply
from ofevents.subscriber import Gate, Postponed, Unwatched
from tests.unit.subscriber.rig import Scripted, delivery


@dataclass
class Watching:
    """An observer that notes what it is told; `closed` lets no call be made."""

    closed: bool = False
    counts: bool = True
    seen: list[str] = field(default_factory=list)

    def calling(self, delivery: Delivery) -> Watched:
        return Watched(self, delivery)


@dataclass
class Watched:
    observer: Watching
    delivery: Delivery

    async def __aenter__(self) -> Self:
        if self.observer.closed:
            raise Postponed(self.delivery, "SubscriberAway", Unavailable("gone"), 0.0)
        self.observer.seen.append("began")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.observer.seen.append("accepted" if kind is None else kind.__name__)

    async def failed(self, error: Unavailable) -> Postponed | None:
        self.observer.seen.append("failed")
        if self.observer.counts:
            return None
        moved = replace(self.delivery, outages=self.delivery.outages + 1)
        return Postponed(moved, "SubscriberAway", error, 0.0)


async def test_what_is_accepted_is_told() -> None:
    observer = Watching()
    assert await Gate(Scripted(), observer).deliver(delivery()) == Reply(200)
    assert observer.seen == ["began", "accepted"]


async def test_where_no_call_may_be_made_none_is() -> None:
    inner = Scripted()
    with pytest.raises(Postponed, match="gone"):
        await Gate(inner, Watching(closed=True)).deliver(delivery())
    assert inner.given == []


async def test_a_failure_that_counts_is_raised_as_it_is() -> None:
    observer, error = Watching(), Unavailable("503", status=503)
    with pytest.raises(Unavailable) as caught:
        await Gate(Scripted([error]), observer).deliver(delivery())
    assert caught.value is error
    assert observer.seen == ["began", "Unavailable", "failed"]


async def test_a_failure_that_does_not_count_is_postponed() -> None:
    with pytest.raises(Postponed) as caught:
        await Gate(Scripted([Unavailable("503")]), Watching(counts=False)).deliver(delivery())
    assert caught.value.delivery == delivery(outages=1)


@pytest.mark.parametrize("error", [Disconnected("bus"), Rejected("422")])
async def test_what_is_no_failed_call_is_no_evidence(error: Exception) -> None:
    observer = Watching()
    with pytest.raises(type(error)):
        await Gate(Scripted([error]), observer).deliver(delivery())
    assert "failed" not in observer.seen


async def test_without_evidence_only_a_wrong_call_does_not_count() -> None:
    with pytest.raises(Postponed) as caught:
        await Gate(Scripted([Misconfigured("404", status=404)]), Unwatched()).deliver(delivery())
    assert caught.value.reason == "SubscriberMisconfigured"
    with pytest.raises(Unavailable):
        await Gate(Scripted([Unavailable("503")]), Unwatched()).deliver(delivery())
