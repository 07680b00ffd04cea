"""One API server and one bus for all tests of the controller; each has names of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.controller.rig import Cluster, open_bus, open_cluster
from tests.servers.nats import NatsServer


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with open_cluster(tmp_path_factory.mktemp("kube")) as one:
        yield one


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bus(
    tmp_path_factory: pytest.TempPathFactory, cluster: Cluster
) -> AsyncIterator[NatsServer]:
    """The EventBus `default` of the namespace shop."""
    async with open_bus(tmp_path_factory.mktemp("nats"), cluster) as server:
        yield server
