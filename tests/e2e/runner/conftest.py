"""One control plane, one controller, one Kafka and one nats-server for all tests of the runner."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Generator

import psutil
import pytest
import pytest_asyncio

from ofevents.cluster import kinds
from tests.e2e.controller.rig import IMAGE, Cluster
from tests.e2e.orders import Calls, functions
from tests.e2e.processes import Program
from tests.e2e.runner import web
from tests.e2e.runner.rig import OWN_IMAGE, USERS, Shop, controller
from tests.servers import until
from tests.servers.kafka import KafkaServer
from tests.servers.kube_runner import KubeRunner
from tests.servers.nats import NatsServer

GONE = 180.0
"""Seconds within which a namespace is gone. Their controller looks at it again after half of the
longest grace period in it, 31 s for workers that may take 61, unless its status has changed
before: a Pod or a finalizer that is still there costs that each time."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def runner(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KubeRunner]:
    """The control plane; what it started is gone when it is closed."""
    before = set(psutil.Process().children())
    folder, images = tmp_path_factory.mktemp("kube"), {**web.IMAGES, IMAGE: OWN_IMAGE}
    async with KubeRunner(folder, images, users=USERS, pause=0.5) as one:
        yield one
        started = set(psutil.Process().children()) - before
        assert len(started) >= 3, "it has started nothing"
    assert not started & set(psutil.Process().children())


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster(runner: KubeRunner) -> Cluster:
    """With CRDs and the controller's rights."""
    one = Cluster(runner, runner.folder)
    await one.set_up()
    # Their garbage collector looks for new kinds at its start, and then each 30 s.
    await runner.end("controller-manager")
    runner.start_controllers()
    return one


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def controlled(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Program]:
    """The controller's process; a test that ends it starts it again."""
    async with controller(cluster, tmp_path_factory.mktemp("controller")) as process:
        yield process
        if process.process.returncode is None:
            await until(lambda: _closed(cluster), seconds=GONE, what="every namespace is gone")


async def _closed(cluster: Cluster) -> bool:
    found = (await cluster.api.call("GET", "/api/v1/namespaces"))["items"]
    return not any("deletionTimestamp" in each["metadata"] for each in found)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka() -> AsyncIterator[KafkaServer]:
    async with KafkaServer() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def calls() -> AsyncIterator[Calls]:
    """The functions of a test."""
    async with functions() as one:
        yield one


@pytest_asyncio.fixture(loop_scope="session")
async def shop(
    cluster: Cluster, runner: KubeRunner, controlled: Program, request: pytest.FixtureRequest
) -> AsyncIterator[Shop]:
    """A new namespace, deleted at the end; what its Pods said is shown when the test fails."""
    name = f"shop-{uuid.uuid4().hex[:6]}"
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await cluster.create(namespace)

    async def has_account() -> bool:
        return await cluster.get(kinds.SERVICE_ACCOUNT, "default", name) is not None

    await runner.until(has_account, f"{name} has a ServiceAccount")
    made = Shop(cluster, runner, name)
    yield made
    if getattr(request.node, "failed", False):
        made.show()
        print(f"--- the controller\n{controlled.log[-4000:]}")  # noqa: T201
    await made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the fixture `shop` know."""
    report = yield
    if report.when == "call" and report.failed:
        item.failed = True  # type: ignore[attr-defined]
    return report
