"""Connections of the controller: one for all that use it, let go of with the last; one that is
refused is not tried over and over."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ofevents.api.resolved import ResolvedBus
from ofevents.api.secretref import marker
from ofevents.clock import ManualClock
from ofevents.cluster import kinds
from ofevents.cluster.lookup import UsedSecret
from ofevents.controller.buses import Buses
from ofevents.controller.queue import Key
from ofevents.errors import Disconnected

ONE: Key = (kinds.TRIGGER, "shop", "one")
TWO: Key = (kinds.TRIGGER, "shop", "two")
BUS = ResolvedBus(name="shop/default", driver="memory", options={})


class Rig:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.asked: list[Key] = []
        self.buses = Buses(self.asked.append, self.clock)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    one = Rig()
    yield one
    await one.buses.close()


async def test_a_connection_is_shared_and_let_go_of_with_the_last(rig: Rig) -> None:
    link = rig.buses.link(ONE, BUS, {})
    assert link is not None and rig.buses.link(TWO, BUS, {}) is link
    await link.bus()
    assert sorted(rig.asked) == sorted([ONE, TWO])  # It is there: they look again.
    rig.buses.forget(ONE)
    assert rig.buses.linked(TWO) == [link] and not link.task.cancelling()
    rig.buses.forget(TWO)
    assert link.task.cancelling()


async def test_a_secret_makes_another_connection(rig: Rig) -> None:
    mark = marker("s", "k")
    bus = BUS.model_copy(update={"options": {"note": mark}})
    first = rig.buses.link(ONE, bus, {mark: UsedSecret("s", "k", "first")})
    second = rig.buses.link(ONE, bus, {mark: UsedSecret("s", "k", "second")})
    assert first is not second
    assert second is not None and second.resolved.options == {"note": "second"}


async def test_a_refused_connection_is_made_anew_after_a_while(rig: Rig) -> None:
    bus = BUS.model_copy(update={"driver": "nonsense"})
    link = rig.buses.link(ONE, bus, {})
    assert link is not None
    with pytest.raises(Disconnected, match="nonsense"):
        await link.bus()
    assert rig.buses.link(ONE, bus, {}) is link
    assert rig.asked == []
    await rig.clock.advance(31)
    assert rig.buses.link(ONE, bus, {}) is not link


async def test_a_dapr_bus_is_not_reached_from_here(rig: Rig) -> None:
    assert rig.buses.link(ONE, BUS.model_copy(update={"driver": "dapr"}), {}) is None
