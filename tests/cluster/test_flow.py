"""The main jobs on a real cluster, written as users write them and applied with kubectl."""

from __future__ import annotations

import asyncio
import json
import uuid

import aiohttp
import nats as nats_client
import pytest

from tests.cluster.manifests import EVENTS, bus, function
from tests.cluster.orders import numbers, orders, topic
from tests.cluster.pods import answers
from tests.cluster.shop import Nats, Shop
from tests.servers import until
from tests.servers.kafka import KafkaServer
from tests.servers.sink import Answer, Seen, Sink

pytestmark = [pytest.mark.cluster, pytest.mark.server("kubernetes"), pytest.mark.timeout(400)]
CHARGE = """
    from ofevents.function import Event, Function

    function = Function("charge")

    @function.on_http()
    def charge(event: Event) -> Event:
        return Event.create(id=event.id, source="/charge", type="charged", data=event.data,
                            datacontenttype="application/json")

    function.run()
"""


async def test_kafka_to_bus_to_function_and_topic(
    shop: Shop, kafka: KafkaServer, nats: Nats
) -> None:
    name = await topic(kafka, 3)
    async with Sink() as charge, Sink() as audit:
        await shop.serve("audit", audit.url)
        await shop.apply(
            f"""{bus(nats.url)}
apiVersion: {EVENTS}
kind: EventSource
metadata: {{name: shop}}
spec:
  eventBus: default
  kafka:
    orders: {{brokers: "{kafka.brokers}", topic: {name}}}
---
apiVersion: {EVENTS}
kind: Trigger
metadata: {{name: big}}
spec:
  eventBus: default
  inputs:
    orders: {{eventSource: shop, event: orders}}
  subscribers:
  - name: charge
    condition: orders && event.data.amount >= 50
    sink: {{uri: "{charge.url}"}}
  - name: copy
    condition: orders
    topic: copies
---
apiVersion: {EVENTS}
kind: Trigger
metadata: {{name: copies}}
spec:
  eventBus: default
  inputs:
    copies: {{topic: copies}}
  subscribers:
  - name: audit
    sink:
      ref: {{apiVersion: v1, kind: Service, name: audit}}
"""
        )
        await shop.ready("eventbus/default", "eventsource/shop", "trigger/big", "trigger/copies")
        await kafka.produce(name, orders(100))
        assert await numbers(audit, 100) == list(range(100))
        assert await numbers(charge, 50) == list(range(50, 100))


async def test_kafka_to_a_service_without_a_bus(shop: Shop, kafka: KafkaServer) -> None:
    name = await topic(kafka)
    async with Sink() as sink:
        await shop.serve("charge", sink.url)
        await shop.apply(
            f"""
apiVersion: {EVENTS}
kind: EventSource
metadata: {{name: direct}}
spec:
  kafka:
    orders: {{brokers: "{kafka.brokers}", topic: {name}, authRequired: false}}
  sink:
    ref: {{apiVersion: v1, kind: Service, name: charge, namespace: {shop.namespace}}}
"""
        )
        await shop.ready("eventsource/direct")
        await kafka.produce(name, orders(50))
        assert await numbers(sink, 50) == list(range(50))
        assert all(event.id.startswith(f"{name}/0/") for event in sink.events)

    head, line = (await shop.kubectl("get", "eventsource")).splitlines()
    assert head.split() == ["NAME", "EVENTBUS", "SINK", "READY", "REASON", "AGE"]
    url = f"http://charge.{shop.namespace}.svc.cluster.local:{sink.port}"
    assert line.split()[:-1] == ["direct", url, "True", "Running"]


async def test_kinds_side_by_side_on_a_cluster_bus_to_a_function_in_the_cluster(
    shop: Shop, kafka: KafkaServer, nats: Nats
) -> None:
    name, shared = await topic(kafka), f"bus-{shop.namespace}"
    async with Sink() as ticks, Sink() as charged:
        await shop.apply(
            f"""{bus(nats.url, "ClusterEventBus", shared)}{function("charge", CHARGE)}
apiVersion: {EVENTS}
kind: EventSource
metadata: {{name: shop}}
spec:
  eventBus: {shared}
  kafka:
    records: {{brokers: "{kafka.brokers}", topic: {name}}}
  cron:
    tick: {{schedule: "@every 1s"}}
  webhook:
    hook: {{path: /orders}}
---
apiVersion: {EVENTS}
kind: Trigger
metadata: {{name: billing}}
spec:
  eventBus: {shared}
  inputs:
    record: {{eventSource: shop, event: records}}
    hook: {{eventSource: shop, event: hook}}
    tick: {{eventSource: shop, event: tick}}
  subscribers:
  - name: charge
    condition: record || hook
    sink:
      ref: {{apiVersion: v1, kind: Service, name: charge}}
    reply: charged
  - name: tick
    condition: tick
    sink: {{uri: "{ticks.url}"}}
---
apiVersion: {EVENTS}
kind: Trigger
metadata: {{name: booked}}
spec:
  eventBus: {shared}
  inputs:
    charged: {{topic: charged}}
  subscribers:
  - sink: {{uri: "{charged.url}"}}
"""
        )
        try:
            await shop.ready(
                f"clustereventbus/{shared}", "eventsource/shop", "trigger/billing", "trigger/booked"
            )
            await kafka.produce(name, orders(10))
            # As its users find it: the Service of that EventSource.
            own = "events.openfunction.io/owner-name=shop"
            (service,) = json.loads(await shop.kubectl("get", "services", "-l", own, "-o", "json"))[
                "items"
            ]
            url = f"http://{service['metadata']['name']}.{shop.namespace}.svc/orders"
            await answers(url, 405)  # that its Pod is Ready comes to kube-proxy later
            async with aiohttp.ClientSession() as session:
                for order in orders(10, start=10):
                    async with session.post(url, json=json.loads(order["value"])) as answer:
                        assert answer.status == 202
            assert await numbers(charged, 20) == list(range(20))
            assert {event.type for event in charged.events} == {"charged"}
            await until(lambda: len(ticks.events) >= 2, seconds=20, what="two ticks")
        finally:
            # It is in no namespace, so that none takes it along.
            await shop.kubectl("delete", "clustereventbus", shared, "--wait=false")


async def test_nats_streaming_is_read_as_jetstream_and_a_condition_joins_two_sources(
    shop: Shop, kafka: KafkaServer, nats: Nats
) -> None:
    name = await topic(kafka)
    async with Sink() as sink:
        await shop.apply(
            f"""
apiVersion: {EVENTS}
kind: EventBus
metadata: {{name: default}}
spec:
  natsStreaming:
    natsURL: "{nats.url}"
    natsStreamingClusterID: stan
    subscriptionType: queue
    durableSubscriptionName: ImDurable
---
apiVersion: {EVENTS}
kind: EventSource
metadata: {{name: orders}}
spec:
  eventBus: default
  kafka:
    placed: {{brokers: "{kafka.brokers}", topic: {name}, authRequired: false}}
---
apiVersion: {EVENTS}
kind: EventSource
metadata: {{name: payments}}
spec:
  eventBus: default
  webhook:
    paid: {{path: /paid}}
---
apiVersion: {EVENTS}
kind: Trigger
metadata: {{name: both}}
spec:
  eventBus: default
  inputs:
    order: {{eventSource: orders, event: placed, joinBy: event.data.number}}
    payment: {{eventSource: payments, event: paid, joinBy: event.data.number}}
  subscribers:
  - name: ship
    condition: order && payment
    payload: '{{"number": events.order.data.number, "paid": events.payment.data.sum}}'
    sink: {{uri: "{sink.url}"}}
"""
        )
        warning = await shop.becomes("eventbus", "default", "Warning")
        assert "NATS Streaming has ended" in warning["message"]
        await shop.ready(
            "eventbus/default", "eventsource/orders", "eventsource/payments", "trigger/both"
        )
        await kafka.produce(name, orders(10))
        (service,) = (await shop.get("services"))["items"]
        url = f"http://{service['metadata']['name']}.{shop.namespace}.svc/paid"
        await answers(url, 405)
        async with aiohttp.ClientSession() as session:
            for number in range(0, 20, 2):
                async with session.post(url, json={"number": number, "sum": 7}) as answer:
                    assert answer.status == 202
        assert await numbers(sink, 5) == [0, 2, 4, 6, 8]
        assert {event.value["paid"] for event in sink.events} == {7}


async def test_a_rotated_secret_loses_nothing(shop: Shop, kafka: KafkaServer, nats: Nats) -> None:
    """The function takes the new token only; until the worker has it, events wait."""
    name = await topic(kafka)
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\nstringData: {{token: {}}}\n"
    token, refused, accepted = "old", 0, set()

    def check(seen: Seen) -> Answer:
        nonlocal refused
        if seen.headers.get("authorization") != f"Bearer {token}":
            refused += 1
            return Answer(401)
        accepted.update(event.value["number"] for event in seen.events)
        return Answer()

    async with Sink(answer=check) as sink:
        await shop.apply(
            f"""{bus(nats.url)}
apiVersion: {EVENTS}
kind: EventSource
metadata: {{name: shop}}
spec:
  eventBus: default
  kafka:
    orders: {{brokers: "{kafka.brokers}", topic: {name}}}
---
apiVersion: {EVENTS}
kind: Trigger
metadata: {{name: billing}}
spec:
  eventBus: default
  inputs:
    orders: {{eventSource: shop, event: orders}}
  subscribers:
  - name: charge
    sink:
      uri: "{sink.url}"
      auth: {{bearer: {{valueFrom: {{secretKeyRef: {{name: login, key: token}}}}}}}}
---
{secret.format("old")}"""
        )
        await shop.ready("eventsource/shop", "trigger/billing")

        fed, enough = 0, asyncio.Event()

        async def feed() -> None:
            nonlocal fed
            while not enough.is_set():
                await kafka.produce(name, orders(5, fed))
                fed += 5
                await asyncio.sleep(0.2)

        async with asyncio.TaskGroup() as feeding:
            feeding.create_task(feed())
            await until(lambda: len(accepted) >= 20, seconds=30, what="calls with the old token")
            token, old = "new", len(accepted)
            await until(lambda: refused > 0, seconds=30, what="a call is refused")
            assert len(accepted) == old
            await shop.apply(secret.format("new"))
            await until(lambda: len(accepted) > old, seconds=60, what="calls with the new token")
            enough.set()
        # Longer than the ack wait of 30 s: what the worker that went had just been sent.
        await until(lambda: accepted == set(range(fed)), seconds=90, what="all orders")
        await shop.ready("trigger/billing")
        spec = json.dumps(await shop.get("configmaps"))
        assert "Bearer" not in spec and '"new"' not in spec


async def test_what_is_deleted_leaves_nothing_and_a_namespace_ends(
    shop: Shop, kafka: KafkaServer, nats: Nats
) -> None:
    name, stream = await topic(kafka), uuid.uuid4().hex[:8]
    sources = f"""{bus(nats.url, stream=stream)}
apiVersion: {EVENTS}
kind: EventSource
metadata: {{name: shop}}
spec:
  eventBus: default
  delivery: {{timeout: 1s}}  # half of a Pod's time to end is what a namespace waits for it
  kafka:
    orders: {{brokers: "{kafka.brokers}", topic: {name}}}
  webhook:
    hook: {{path: /orders}}
---
apiVersion: {EVENTS}
kind: Trigger
metadata: {{name: billing}}
spec:
  eventBus: default
  inputs:
    orders: {{eventSource: shop, event: orders}}
  subscribers:
  - name: charge
    sink: {{uri: "http://nobody.invalid"}}
    delivery: {{timeout: 1s}}
"""
    client = await nats_client.connect(nats.url)

    async def consumers() -> int:
        found = await client.jetstream().streams_info()
        return sum(
            each.state.consumer_count for each in found if each.config.name.startswith(stream)
        )

    mine = ("-l", "app.kubernetes.io/managed-by=ofevents")
    kinds = "deployments,replicasets,pods,services,configmaps,secrets,networkpolicies"
    await shop.apply(sources)
    await shop.ready("eventsource/shop", "trigger/billing")
    assert len((await shop.get("deployments"))["items"]) == 3
    assert await consumers() > 0
    await shop.kubectl("delete", "trigger/billing", "eventsource/shop", "--timeout=60s")

    async def gone() -> bool:
        await asyncio.sleep(0.2)
        return not (await shop.kubectl("get", kinds, *mine, "--ignore-not-found")).strip()

    await until(gone, seconds=60, what="all that belonged to them is gone")
    assert (await shop.get("eventbus"))["items"], "what was not deleted stays"
    assert await consumers() == 0
    await client.close()

    await shop.apply(sources)
    await shop.ready("eventsource/shop", "trigger/billing")
    # Some rounds of 17 s: half of its Pods' grace, in which Kubernetes looks again.
    await shop.kubectl("delete", "namespace", shop.namespace, "--timeout=120s")
