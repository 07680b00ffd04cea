"""Every bus passes the suite of its port; JetStream against a real nats-server.

A rig module has `open_rig()`, an async context manager that gives a new, empty BusRig.
The dapr bus has one for each of the components that it is judged on.
"""

from __future__ import annotations

import importlib

import pytest

from ofevents import registry
from ofevents.conformance.check_bus import CHECKS, Check

DAPR = ("dapr_kafka", "dapr_jetstream", "dapr_redis", "dapr_memory")
BUSES = (*(name for name in registry.names("ofevents.buses") if name != "dapr"), *DAPR)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("name", BUSES)
async def test_bus(name: str, check: Check) -> None:
    async with importlib.import_module(f"tests.conformance.rigs.{name}").open_rig() as rig:
        if not check.applies(rig):
            pytest.skip(f"{name} does not promise it: {rig.features}")
        await check.run(rig)
