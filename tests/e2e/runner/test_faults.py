"""What a cluster does to workers, under load: they are killed, rolled, cut off. Nothing is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from ofevents.cluster import kinds
from tests.e2e.controller.rig import secret
from tests.e2e.orders import Calls
from tests.e2e.processes import Program
from tests.e2e.runner.rig import Load, Shop, look, new_topic
from tests.servers import until
from tests.servers.kafka import KafkaServer
from tests.servers.kube_pod import PodProcess
from tests.servers.nats import NatsServer
from tests.servers.sink import Answer

pytestmark = [
    pytest.mark.server("kube"),
    pytest.mark.timeout(400),
    pytest.mark.asyncio(loop_scope="session"),
]

SOURCE, TRIGGER = (kinds.EVENT_SOURCE, "shop"), (kinds.TRIGGER, "checkout")


def version(calls: Calls, number: int, **delivery: Any) -> dict[str, Any]:
    """A subscriber whose calls say of which version of the Trigger they are."""
    return {
        "name": "charge",
        "payload": f'{{"n": event.data.n, "version": {number}}}',
        "sink": calls.target("/charge"),
        "delivery": delivery,
    }


async def flowing(calls: Calls) -> None:
    """Wait until 50 more orders have come."""
    enough = len(calls.accepted) + 50
    await until(lambda: len(calls.accepted) >= enough, seconds=90, what="orders flow")


async def kill(pod: PodProcess) -> None:
    """SIGKILL its process, and wait until it is started again."""
    assert pod.pid is not None
    os.kill(pod.pid, signal.SIGKILL)
    await until(lambda: pod.restarts == 1, seconds=60, what="it is started again")


async def test_killed_workers_are_started_again_and_lose_nothing(
    shop: Shop, kafka: KafkaServer, nats: NatsServer, calls: Calls
) -> None:
    orders = Load(kafka, await new_topic(kafka))
    # Slower than the orders come, so that the one that is killed has some in hand.
    calls.answers = {"/charge": Answer(delay=0.08)}
    await shop.apply(
        shop.bus(nats.url),
        shop.source(kafka, orders.topic),
        shop.trigger("checkout", version(calls, 1, concurrency=4)),
    )
    await shop.rolled(SOURCE, TRIGGER)
    async with orders.going_on():
        for owner in ("checkout", "shop"):
            await flowing(calls)
            await kill(shop.only(owner))
        await shop.rolled(SOURCE, TRIGGER)
        await flowing(calls)
    # What the killed one had in hand is sent again after the ack wait of 30 s.
    await calls.all_of("/charge", set(orders.numbers))
    assert set(calls.numbers("/charge")) == set(orders.numbers)
    assert [shop.only(owner).restarts for owner in ("checkout", "shop")] == [1, 1]


async def test_roll_outs_and_a_controller_that_is_killed_in_the_middle_lose_nothing(
    shop: Shop, kafka: KafkaServer, nats: NatsServer, calls: Calls, controlled: Program
) -> None:
    orders = Load(kafka, await new_topic(kafka))
    await shop.apply(
        shop.bus(nats.url),
        shop.source(kafka, orders.topic),
        shop.trigger("checkout", version(calls, 1)),
    )
    await shop.rolled(SOURCE, TRIGGER)
    async with orders.going_on():
        await flowing(calls)
        first = shop.only("checkout")
        await shop.apply(shop.trigger("checkout", version(calls, 2)))
        await shop.rolled(TRIGGER)
        await until(lambda: first.pid is None, seconds=90, what="the old one has ended")

        # In the middle: the new Pods are there, and not all of the old have gone.
        typed = {"attributes": {"type": "'order.placed'"}}
        edited = shop.source(kafka, orders.topic)
        edited["spec"]["kafka"]["orders"] |= typed
        await shop.apply(edited, shop.trigger("checkout", version(calls, 3)))
        await until(lambda: len(shop.pods("checkout")) == 2, seconds=90, what="it is rolled")
        await controlled.kill()
        await shop.apply(shop.trigger("checkout", version(calls, 4)))
        await controlled.start()
        await shop.rolled(SOURCE, TRIGGER)

        def newest() -> bool:
            return calls.of("/charge")[-1].data["version"] == 4

        await until(newest, seconds=90, what="the newest version is at work")
    await calls.all_of("/charge", set(orders.numbers))
    assert sorted(calls.numbers("/charge")) == orders.numbers
    seen = [one.data["version"] for one in calls.of("/charge")]
    assert {1, 2, 4} <= set(seen)


async def test_a_bus_that_is_killed_is_told_and_comes_back(
    shop: Shop, kafka: KafkaServer, calls: Calls, tmp_path: Path
) -> None:
    orders = Load(kafka, await new_topic(kafka))
    async with NatsServer(tmp_path / "nats") as own:
        await shop.apply(
            shop.bus(own.url),
            shop.source(kafka, orders.topic),
            shop.trigger("checkout", version(calls, 1)),
        )
        await shop.rolled(SOURCE, TRIGGER)
        await calls.all_of("/charge", set(await orders.some(50)))
        await own.kill()
        for kind, name in (SOURCE, TRIGGER, (kinds.EVENT_BUS, "default")):
            await shop.becomes(kind, name, "Stalled", reason="Disconnected")
            await shop.becomes(kind, name, "Ready", "False", reason="Disconnected")
        await orders.some(50)
        await own.start()
        await shop.rolled(SOURCE, TRIGGER)
        await shop.becomes(kinds.EVENT_BUS, "default")
        for kind, name in (SOURCE, TRIGGER):
            await shop.becomes(kind, name, "Stalled", "False")
        await calls.all_of("/charge", set(orders.numbers))
        assert set(calls.numbers("/charge")) == set(orders.numbers)
        # Stalled is no reason to be started again.
        assert [shop.only(owner).restarts for owner in ("checkout", "shop")] == [0, 0]

        # A namespace goes with all that is in it, in whatever order: the bus may be first.
        pids = {shop.only(owner).pid for owner in ("checkout", "shop")}
        assert pids <= shop.runner.pids
        assert (await look(own.url, shop)).consumers
        await shop.close()

        async def gone() -> bool:
            left = [pid for pid in pids if pid is not None and psutil.pid_exists(pid)]
            return not left and not (await look(own.url, shop)).consumers

        await until(gone, seconds=180, what="its workers and their positions are gone")


async def test_a_rotated_secret_gets_to_the_workers(
    shop: Shop, kafka: KafkaServer, nats: NatsServer, calls: Calls
) -> None:
    orders = Load(kafka, await new_topic(kafka))
    login = {"valueFrom": {"secretKeyRef": {"name": "login", "key": "token"}}}
    charge = {"name": "charge", "sink": {**calls.target("/charge"), "auth": {"bearer": login}}}
    calls.sink.require = ("authorization", "Bearer first")
    await shop.apply(
        secret("login", shop.namespace, token="first"),
        shop.bus(nats.url),
        shop.source(kafka, orders.topic),
        shop.trigger("checkout", charge),
    )
    await shop.rolled(SOURCE, TRIGGER)
    await calls.all_of("/charge", set(await orders.some(20)))
    first = shop.only("checkout")
    async with orders.going_on():
        # Until the new worker is there, the old one is refused, and its events wait.
        calls.sink.require = ("authorization", "Bearer second")
        await shop.apply(secret("login", shop.namespace, token="second"))
        await until(lambda: first.pid is None, seconds=90, what="the old one has ended")
        await shop.rolled(TRIGGER)
    await calls.all_of("/charge", set(orders.numbers))
    assert sorted(calls.numbers("/charge")) == orders.numbers


async def test_a_new_worker_that_cannot_work_is_told_and_the_old_one_goes_on(
    shop: Shop, kafka: KafkaServer, nats: NatsServer, calls: Calls
) -> None:
    orders = Load(kafka, await new_topic(kafka))
    await shop.apply(
        shop.bus(nats.url),
        shop.source(kafka, orders.topic),
        shop.trigger("checkout", version(calls, 1)),
    )
    await shop.rolled(SOURCE, TRIGGER)
    edited = shop.source(kafka, orders.topic)
    edited["spec"]["kafka"]["orders"]["brokers"] = "127.0.0.1:1"
    await shop.apply(edited)
    told = await shop.becomes(*SOURCE, "Stalled")
    assert "127.0.0.1:1" in told["message"]
    await calls.all_of("/charge", set(await orders.some(20)))
    await shop.apply(shop.source(kafka, orders.topic))
    await shop.rolled(SOURCE)
    await shop.becomes(*SOURCE, "Stalled", "False")
    await calls.all_of("/charge", set(await orders.some(20)) | set(orders.numbers))
