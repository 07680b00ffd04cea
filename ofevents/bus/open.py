"""From a resolved EventBus to its driver: the one place that builds a Bus.

Called by the source's and the trigger's entry points, `ofevents run` and the
command line. Drivers come through the registry, ours by the same door as a
stranger's.
"""

from __future__ import annotations

from ofevents import registry
from ofevents.api.resolved import ResolvedBus
from ofevents.clock import Clock
from ofevents.ports import Bus


def open_bus(resolved: ResolvedBus, *, clock: Clock) -> Bus:
    """The driver, not yet entered: use it as `async with open_bus(...) as bus`.

    Raises:
        ConfigError: no such driver, its library is missing, or an option is wrong.
    """
    driver = registry.load("ofevents.buses", resolved.driver)
    bus: Bus = driver(resolved, clock=clock)
    return bus
