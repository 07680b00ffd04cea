"""One Kubernetes node for all tests of `make cluster`; each test has a namespace of its own.

ofevents is installed once, by its own command; the brokers are shared, and listen where
Pods reach them.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import AsyncIterator, Generator
from contextlib import suppress

import pytest
import pytest_asyncio

from tests.cluster.shop import Nats, Shop
from tests.servers import HOST, free_port, keda, until
from tests.servers.kafka import KafkaServer
from tests.servers.kube_node import KubeNode
from tests.servers.kube_ofevents import IMAGE, install
from tests.servers.nats import NatsServer


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KubeNode]:
    """The node; what it started is gone when it is closed."""
    async with KubeNode(tmp_path_factory.mktemp("node")) as node:
        yield node
    await until(lambda: not node.leftovers(), seconds=30, what="no process is left")
    assert node.mounts() == []


@pytest_asyncio.fixture
async def namespace(node: KubeNode) -> AsyncIterator[str]:
    """A new Kubernetes namespace, deleted at the end with everything in it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    await node.create_namespace(name)
    yield name
    with suppress(LookupError):  # a test may have deleted it
        await node.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def installed(node: KubeNode) -> KubeNode:
    """The node with the controller of this tree in a Pod, as `ofevents install` leaves it."""
    await node.load_image(IMAGE.find())
    sys.stdout.write(await install(node, "--replicas", "1", "--timeout", "90s"))
    return node


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def scaler(installed: KubeNode) -> None:
    """KEDA, which comes after ofevents here: the controller sees it come."""
    await keda.install(installed)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nats]:
    """A nats-server with JetStream."""
    monitoring = f"{HOST}:{free_port()}"
    folder = tmp_path_factory.mktemp("nats")
    async with NatsServer(folder, extra=f'http: "{monitoring}"') as server:
        yield Nats(server.url, monitoring)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka() -> AsyncIterator[KafkaServer]:
    async with KafkaServer() as kafka:
        yield kafka


@pytest_asyncio.fixture
async def shop(
    installed: KubeNode, namespace: str, request: pytest.FixtureRequest
) -> AsyncIterator[Shop]:
    """A namespace with ofevents at work, where no Pod may do more than it needs; what its Pods
    said is shown when the test fails.
    """
    restricted = "pod-security.kubernetes.io/enforce=restricted"
    await installed.kubectl("label", "namespace", namespace, restricted)
    shop = Shop(installed, namespace)
    yield shop
    await shop.show_if_failed(request.node)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let `Shop.show_if_failed` know."""
    report = yield
    if report.when == "call" and report.failed:
        item.failed = True  # type: ignore[attr-defined]
    return report
