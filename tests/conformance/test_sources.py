"""Every source passes the suite of its port, against the real outside world.

A rig module has `open_rig()`, an async context manager that gives a new SourceRig,
and, where rigs share a server, `close()`. One whose source can be several (`VARIANTS`)
has an `open_...` for each.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator

import pytest

from ofevents import registry
from ofevents.conformance.check_source import CHECKS, Check

SOURCES = registry.names("ofevents.sources")
VARIANTS = {
    "dapr": ("kafka", "jetstream", "stream", "redis", "kafka_binding"),
    "file": ("lines", "files"),
    "mqtt": ("qos0", "qos1", "qos2", "v5", "v5_qos2", "shared"),
    "nats": ("core", "jetstream", "in_order"),
    "redis": ("stream", "channel"),
}
_MODULES = {"dapr": "dapr_source"}
"""Of a source whose name is a bus's, too."""
RIGS = [(name, variant) for name in SOURCES for variant in VARIANTS.get(name, ("rig",))]


@pytest.fixture(scope="module", autouse=True)
def shared_servers() -> Iterator[None]:
    """What the rigs of a module share is closed after the last test."""
    yield
    for name in SOURCES:
        close = getattr(sys.modules.get(_module(name)), "close", None)
        if close is not None:
            asyncio.run(close())


def _module(name: str) -> str:
    return f"tests.conformance.rigs.{_MODULES.get(name, name)}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize(("name", "variant"), RIGS)
async def test_source(name: str, variant: str, check: Check) -> None:
    module = importlib.import_module(_module(name))
    async with getattr(module, f"open_{variant}")() as rig:
        if not check.applies(rig):
            pytest.skip(f"{name} does not promise it: {rig.features}")
        await check.run(rig)
