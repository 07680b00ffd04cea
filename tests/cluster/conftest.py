"""One Kubernetes node for all tests of `make cluster`; each test has a namespace of its own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.servers import until
from tests.servers.kube_node import KubeNode


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KubeNode]:
    """The node; what it started is gone when it is closed."""
    async with KubeNode(tmp_path_factory.mktemp("node")) as node:
        yield node
    await until(lambda: not node.leftovers(), seconds=10, what="no process is left")
    assert node.mounts() == []


@pytest_asyncio.fixture
async def namespace(node: KubeNode) -> AsyncIterator[str]:
    """A new Kubernetes namespace, deleted at the end with everything in it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    await node.create_namespace(name)
    yield name
    await node.call("DELETE", f"/api/v1/namespaces/{name}")
