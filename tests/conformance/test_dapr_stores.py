"""The store of the dapr bus passes the suite on every state component that it is made for.

state.redis is judged with the buses on Kafka and JetStream, state.in-memory with the bus
in memory; here PostgreSQL in both versions of Dapr's component, and the index on them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from ofevents.conformance.check_store import STORE, Check
from tests.conformance.rigs.dapr import DaprRig
from tests.servers.postgres import PostgresServer


@pytest.mark.timeout(180)
@pytest.mark.parametrize("check", STORE, ids=lambda check: check.name)
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_postgresql(version: str, check: Check) -> None:
    async def foreign(topic: str, headers: dict[str, str], body: bytes) -> None:
        raise AssertionError("the store's checks publish nothing")

    with tempfile.TemporaryDirectory() as folder:
        async with PostgresServer() as server:
            settings = {"connectionString": server.dsn}
            state = ("state.postgresql", settings)
            rig = DaprRig(Path(folder), ("pubsub.in-memory", {}), state, foreign)
            component: dict[str, Any] = rig.options["state"]
            component["version"] = version
            if not check.applies(rig):
                pytest.skip("a sidecar in memory promises nothing over a restart")
            await check.run(rig)
