"""What an edit leaves on a bus is removed once nobody works with it any more, whenever that is."""

from __future__ import annotations

from ofevents.api.resolved import ResolvedBus
from ofevents.clock import ManualClock
from ofevents.cluster import kinds
from ofevents.controller.buses import Buses
from ofevents.controller.queue import Key
from ofevents.controller.sweep import Sweeper, Users

SHOP: Key = (kinds.EVENT_SOURCE, "shop", "clock")
WITHOUT = Users((), entries=frozenset())
"""Its one entry has been removed."""
POSITION = "cron/shop/clock/tick/position"


async def test_a_worker_that_ends_while_it_is_looked_for() -> None:
    clock, running = ManualClock(), True
    buses = Buses(lambda _: None, clock)
    link = buses.link(SHOP, ResolvedBus(name="shop/default", driver="memory", options={}), {})
    assert link is not None
    store = (await link.bus()).store

    def runs(*_: str) -> bool:
        """Ends the moment after it was seen; the reconciler tells that there is news."""
        nonlocal running
        found, running = running, False
        sweeper.has(SHOP, link, WITHOUT)
        return found

    sweeper = Sweeper(runs, clock)
    await store.put(POSITION, b"{}")
    sweeper.has(SHOP, link, WITHOUT)
    await clock.advance(2)
    assert not running and await store.get(POSITION) is not None
    await clock.advance(2)
    assert await store.get(POSITION) is None
    await sweeper.close()
    await buses.close()
