"""Every bus passes the suite of its port; JetStream against a real nats-server.

A rig module has `open_rig()`, an async context manager that gives a new, empty BusRig.
"""

from __future__ import annotations

import importlib

import pytest

from ofevents import registry
from ofevents.conformance.check_bus import CHECKS, Check

BUSES = registry.names("ofevents.buses")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("name", BUSES)
async def test_bus(name: str, check: Check) -> None:
    async with importlib.import_module(f"tests.conformance.rigs.{name}").open_rig() as rig:
        if not check.applies(rig):
            pytest.skip(f"{name} does not promise it: {rig.features}")
        await check.run(rig)
