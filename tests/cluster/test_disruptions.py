"""What goes wrong on a cluster, under load: no event is lost, and the status is right again.

One EventSource and one Trigger for all tests, each of which goes on with the same numbered
orders. Workers that end in order deliver nothing twice; where one is killed, what it had in
hand comes again.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from tests.cluster.manifests import EVENTS, bus
from tests.cluster.shop import Nats, Shop
from tests.servers import until
from tests.servers.kafka import KafkaServer
from tests.servers.kube_node import KubeNode
from tests.servers.sink import Answer, Seen, Sink

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.server("kubernetes"),
    pytest.mark.timeout(400),
    pytest.mark.asyncio(loop_scope="session"),
]
TRIGGER = "events.openfunction.io/owner-name=billing"
CONTROLLER = ("--namespace=ofevents-system", "-l", "app.kubernetes.io/component=controller")
NOW = ("--force", "--grace-period=0")
BATCH, PAUSE = 5, 0.1
IN_HAND = 100
"""Events that a worker may have in hand when it is killed: two seconds of the load."""


class Work:
    """The resources under load, and what has come of it."""

    def __init__(self, shop: Shop, kafka: KafkaServer, sink: Sink) -> None:
        self.shop = shop
        self.node = shop.node
        self.topic = f"load-{uuid.uuid4().hex[:8]}"
        self.fed = 0
        self._accepted: Counter[int] = Counter()
        self._last = -1
        self._called = ""
        self._kafka = kafka
        self._sink = sink
        self._version = 0
        sink.answer = self._take

    def _take(self, seen: Seen) -> Answer:
        """Be the function. It takes its time, so that there is always something in hand, and
        has accepted only what its caller has waited for."""
        numbers = [event.value["number"] for event in seen.events]

        def ended(answered: bool) -> None:
            if answered:
                self._accepted.update(numbers)
                self._last = max(self._last, *numbers)
                self._called = seen.headers["x-version"]

        return Answer(delay=0.2, ended=ended)

    async def set_up(self, nats: Nats) -> None:
        await self._kafka.create_topic(self.topic, 2)
        await self.shop.apply(
            f"""{bus(nats.url)}
apiVersion: {EVENTS}
kind: EventSource
metadata: {{name: shop}}
spec:
  eventBus: default
  kafka:
    orders: {{brokers: "{self._kafka.brokers}", topic: {self.topic}}}
"""
        )
        await self.edit()
        await self.right()

    async def edit(self) -> None:
        """Apply the Trigger with another header."""
        self._version += 1
        await self.shop.apply(
            f"""
apiVersion: {EVENTS}
kind: Trigger
metadata: {{name: billing}}
spec:
  eventBus: default
  inputs:
    orders: {{eventSource: shop, event: orders}}
  subscribers:
  - name: charge
    sink: {{uri: "{self._sink.url}", headers: {{x-version: "{self._version}"}}}}
"""
        )

    async def right(self, seconds: float = 60) -> None:
        """Wait until all is rolled out and Ready, of what the resources say now."""
        for kind, name in (("eventsource", "shop"), ("trigger", "billing")):
            await self.shop.becomes(kind, name, reason="Running", seconds=seconds)

    async def in_force(self) -> None:
        """Wait until the last edit is."""
        wanted = str(self._version)
        await until(lambda: self._called == wanted, seconds=30, what=f"calls of version {wanted}")

    async def flows(self, seconds: float = 30) -> None:
        """Wait until what is fed from now on is accepted."""
        now = self.fed
        await until(lambda: self._last > now, seconds=seconds, what="events arrive")

    @asynccontextmanager
    async def load(self, *, twice: int = 0) -> AsyncIterator[None]:
        """Feed meanwhile; at the end each order has arrived, and so many more than once."""
        began, stop = self.fed, asyncio.Event()
        self._accepted.clear()
        feeding = asyncio.create_task(self._feed(stop))
        try:
            await self.flows()
            yield
        finally:
            stop.set()
            await feeding
        wanted = set(range(began, self.fed))

        try:  # three ack waits: what a killed worker had in hand comes after one
            await until(lambda: wanted <= self._accepted.keys(), seconds=90, what="all orders")
        except TimeoutError as error:
            missing = sorted(wanted - self._accepted.keys())
            raise AssertionError(f"{error}; {len(missing)} are missing: {missing[:20]}") from None
        repeated = self._accepted.total() - len(self._accepted)
        assert repeated <= twice, f"{repeated} of {len(wanted)} came again, at most {twice}"

    async def _feed(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            numbers = range(self.fed, self.fed + BATCH)
            records = [{"value": b'{"number": %d}' % number} for number in numbers]
            await self._kafka.produce(self.topic, records)
            self.fed += BATCH
            await asyncio.sleep(PAUSE)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(installed: KubeNode, kafka: KafkaServer, nats: Nats) -> AsyncIterator[Work]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    await installed.create_namespace(name)
    async with Sink() as sink:
        work = Work(Shop(installed, name), kafka, sink)
        await work.set_up(nats)
        yield work
    await installed.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest_asyncio.fixture(loop_scope="session")
async def work(running: Work, request: pytest.FixtureRequest) -> AsyncIterator[Work]:
    """The same for all tests; shown when one of them fails."""
    yield running
    await running.shop.show_if_failed(request.node)


async def test_an_edit_rolls_under_load(work: Work) -> None:
    async with work.load():
        await work.edit()
        await work.right()
        await work.in_force()


async def test_workers_are_deleted(work: Work) -> None:
    before = {pod["metadata"]["uid"] for pod in await work.shop.pods()}
    async with work.load(twice=IN_HAND):  # of those that get no time to end
        await work.shop.kubectl("delete", "pods", "-l", TRIGGER, "--wait=false")
        await work.right()
        await work.shop.kubectl("delete", "pods", "--all", *NOW)
        await work.flows(60)
        await work.right()
    assert not before & {pod["metadata"]["uid"] for pod in await work.shop.pods()}


async def test_workers_are_killed_with_all_that_they_have_in_hand(work: Work) -> None:
    async def restarts(*, ready: bool = False) -> dict[str, int]:
        return {
            pod["metadata"]["uid"]: each["restartCount"]
            for pod in await work.shop.pods()
            for each in pod["status"]["containerStatuses"]
            if each["ready"] or not ready
        }

    before = await restarts()
    async with work.load(twice=IN_HAND):
        for pod in await work.shop.pods():
            await work.node.kill_containers(pod)

        async def again() -> bool:
            now = await restarts(ready=True)
            return now.keys() == before.keys() and all(now[uid] > before[uid] for uid in before)

        await until(again, seconds=60, what="both run again")
        await work.right()
    assert before.keys() == (await restarts()).keys()


async def test_the_controller_is_killed_in_the_middle_of_a_roll_out(work: Work) -> None:
    async def workers() -> set[str]:
        return {pod["metadata"]["uid"] for pod in await work.shop.pods(TRIGGER)}

    async with work.load():
        before = await workers()
        await work.edit()

        async def rolling() -> bool:
            return not await workers() <= before

        await until(rolling, seconds=60, what="the roll-out has begun")
        await work.shop.kubectl("delete", "pods", *CONTROLLER, *NOW)
        await work.right(90)
        await work.in_force()


async def test_the_api_server_is_restarted(work: Work) -> None:
    async with work.load():
        await work.node.kill_api()
        await work.flows()
        await work.node.start_api()
        await work.edit()
        await work.right(90)
        await work.in_force()


async def test_etcd_is_away_for_20_seconds(work: Work) -> None:
    async with work.load():
        until_back = time.monotonic() + 20
        await work.node.end("etcd")
        while time.monotonic() < until_back:  # that long, whatever comes
            await work.flows()
        await work.node.start_etcd()
        await work.node.until(work.node.answers, "kube-apiserver answers")
        await work.edit()
        await work.right(90)
        await work.in_force()


async def test_containerd_is_restarted(work: Work) -> None:
    before = {pod["metadata"]["uid"] for pod in await work.shop.pods()}
    async with work.load():
        await work.node.end("containerd")
        await work.flows()
        await work.node.start_containerd()
        await work.node.until(work.node.is_ready, "the node is Ready")
        await work.right()
        assert before == {pod["metadata"]["uid"] for pod in await work.shop.pods()}
        await work.edit()  # new Pods are made again
        await work.right(90)
        await work.in_force()
