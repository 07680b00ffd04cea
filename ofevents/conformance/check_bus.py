"""The suite that judges a Bus; shipped, free of pytest.

    for check in CHECKS:
        if check.applies(rig):
            await check.run(rig)        # a new, empty rig for each

Our own drivers pass it against a real nats-server and in memory
(`tests/conformance`). What a driver does not promise in its Features is not
asked of it, and `applies` says so. Each check's docstring names the promise of
the contract that it holds the driver to.
"""

from __future__ import annotations

from ofevents.conformance.bus_rig import BusRig, Check
from ofevents.conformance.check_consume import CONSUME
from ofevents.conformance.check_groups import GROUPS
from ofevents.conformance.check_publish import PUBLISH
from ofevents.conformance.check_room import ROOM
from ofevents.conformance.check_store import STORE
from ofevents.conformance.verdict import NotConformant

__all__ = ["CHECKS", "BusRig", "Check", "NotConformant"]

CHECKS = (*PUBLISH, *ROOM, *CONSUME, *GROUPS, *STORE)
