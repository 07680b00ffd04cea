"""The main jobs, carried by workers that a cluster runs: from Kafka to a function."""

from __future__ import annotations

import aiohttp
import psutil
import pytest

from ofevents.cluster import kinds
from tests.e2e.controller.rig import resource
from tests.e2e.orders import Calls
from tests.e2e.runner.rig import Load, Shop, look, new_topic
from tests.servers import until
from tests.servers.kafka import KafkaServer
from tests.servers.nats import NatsServer

pytestmark = [
    pytest.mark.server("kube"),
    pytest.mark.timeout(400),
    pytest.mark.asyncio(loop_scope="session"),
]

HOOKS = 8080
"""The port of the webhook; its Pod has an address of its own."""


async def test_kafka_to_bus_to_function_and_topic(
    shop: Shop, kafka: KafkaServer, nats: NatsServer, calls: Calls
) -> None:
    orders = Load(kafka, await new_topic(kafka))
    charge = {"name": "charge", "condition": "orders && event.data.n >= 50"}
    audit = {"name": "audit", "sink": calls.target("/audit")}
    await shop.apply(
        shop.bus(nats.url),
        shop.source(kafka, orders.topic),
        shop.trigger(
            "big", {**charge, "sink": calls.target("/charge")}, {"name": "copy", "topic": "copies"}
        ),
        shop.trigger("copies", audit, inputs={"copies": {"topic": "copies"}}),
    )
    await shop.becomes(kinds.EVENT_BUS, "default")
    await shop.rolled(
        (kinds.EVENT_SOURCE, "shop"), (kinds.TRIGGER, "big"), (kinds.TRIGGER, "copies")
    )
    everything = await orders.some(100)
    await calls.all_of("/audit", set(everything))
    await calls.all_of("/charge", set(everything[50:]))
    assert sorted(calls.numbers("/audit")) == everything
    assert sorted(calls.numbers("/charge")) == everything[50:]

    # Suspended: it reads no more, and goes on where it was.
    suspended = shop.trigger("copies", audit, inputs={"copies": {"topic": "copies"}}, suspend=True)
    reader = shop.only("copies")
    await shop.apply(suspended)
    await shop.rolled((kinds.TRIGGER, "copies"), reason="Suspended")
    await until(lambda: reader.pid is None, seconds=90, what="the one that read has ended")
    more = await orders.some(30)

    async def held() -> bool:
        report = await look(nats.url, shop)
        return any(one.pending == 30 for one in report.consumers if one.group.endswith("copies"))

    await until(held, seconds=90, what="30 orders wait")
    assert sorted(calls.numbers("/audit")) == everything
    suspended["spec"]["suspend"] = False
    await shop.apply(suspended)
    await calls.all_of("/audit", {*everything, *more})
    assert sorted(calls.numbers("/audit")) == everything + more
    await shop.rolled((kinds.TRIGGER, "copies"))


async def test_two_sources_and_a_cluster_event_bus_and_nothing_is_left(
    shop: Shop, kafka: KafkaServer, nats: NatsServer, calls: Calls
) -> None:
    orders = Load(kafka, await new_topic(kafka))
    name = f"bus-{shop.namespace}"

    def joined(source: str, event: str) -> dict[str, str]:
        return {"eventSource": source, "event": event, "joinBy": "string(event.data.n)"}

    paid = {
        "name": "paid",
        "condition": "orders && payments",
        "payload": '{"n": events.orders.data.n, "amount": events.payments.data.amount}',
        "sink": calls.target("/paid"),
    }
    inputs = {"orders": joined("shop", "orders"), "payments": joined("bank", "payments")}
    hooks = {"eventBus": name, "webhook": {"payments": {"path": "/payments", "port": HOOKS}}}
    resources = (
        (kinds.EVENT_SOURCE, "shop"),
        (kinds.EVENT_SOURCE, "bank"),
        (kinds.TRIGGER, "join"),
    )
    await shop.apply(
        shop.bus(nats.url, "ClusterEventBus", name),
        shop.source(kafka, orders.topic, bus=name),
        resource("EventSource", "bank", hooks, shop.namespace),
        shop.trigger("join", paid, bus=name, inputs=inputs),
    )
    await shop.becomes(kinds.CLUSTER_EVENT_BUS, name)
    await shop.rolled(*resources)
    await orders.some(40)
    async with aiohttp.ClientSession() as session:
        for n in range(20, 60):
            url = f"http://{shop.only('bank').address}:{HOOKS}/payments"
            async with session.post(url, json={"n": n, "amount": 10 * n}) as answer:
                assert answer.status == 202, await answer.text()
    await calls.all_of("/paid", set(range(20, 40)))
    assert sorted((one.number, one.data["amount"]) for one in calls.of("/paid")) == [
        (n, 10 * n) for n in range(20, 40)
    ]

    assert (await look(nats.url, shop, name)).consumers
    pids = {shop.only(owner).pid for _, owner in resources}
    assert pids <= shop.runner.pids
    for kind, owner in resources:
        await shop.delete(kind, owner)

    async def nothing() -> bool:
        there = [await shop.cluster.get(kind, owner, shop.namespace) for kind, owner in resources]
        return not any(there) and not await shop.left()

    await until(nothing, seconds=120, what="nothing is left of them")
    assert not [pid for pid in pids if pid is None or psutil.pid_exists(pid)]
    assert (await look(nats.url, shop, name)).consumers == ()
    await shop.cluster.delete(kinds.CLUSTER_EVENT_BUS, name)
