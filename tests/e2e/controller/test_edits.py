"""What an edit leaves on the bus: removed subscribers, a removed sink, also while nobody looked."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import topics
from ofevents.bus.open import open_bus
from ofevents.clock import SystemClock
from ofevents.cluster import kinds
from ofevents.event import Event
from ofevents.ports import Delivery, Message
from tests.e2e.controller.rig import Cluster, cron, resource, secret, trigger
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="session")]

LOG = {"name": "log", "sink": {"uri": "http://log.shop.svc/"}}
BILL = {"name": "bill", "sink": {"uri": "http://bill.shop.svc/"}}


async def test_what_removed_subscribers_are_owed(cluster: Cluster, bus: NatsServer) -> None:
    inbox = topics.inbox("shop", "edited", "bill")
    implicit = topics.trigger_group("shop", "source/was-sink")
    resolved = ResolvedBus(driver="jetstream", options={"url": bus.url})
    async with open_bus(resolved, clock=SystemClock()) as one:

        async def groups() -> set[str]:
            return {each.group for each in (await one.inspect()).consumers}

        async def dead() -> int:
            report = await one.inspect()
            topic = topics.dead("shop", "edited")
            return sum(each.messages for each in report.topics if each.topic == topic)

        async with cluster.controller():
            await cluster.apply(trigger("edited", subscribers=[LOG, BILL]))
            await cluster.apply(cron("was-sink", sink={"uri": "http://log.shop.svc/"}))
            await cluster.have("edited", 1)
            await cluster.have("was-sink", 2)
            # The bus has answered.
            await cluster.becomes(kinds.TRIGGER, "edited", "Ready", "Starting")
            await cluster.becomes(kinds.EVENT_SOURCE, "was-sink", "Ready", "Starting")
            assert {topics.inbox_group(inbox), implicit} <= await groups()
        # While no controller looks.
        event = Event.create(id="1", source="/shop", type="order", data="{}")
        await one.publish(inbox, Message(Delivery("shop/edited/bill", (event,)), "test"))
        await cluster.apply(trigger("edited", subscribers=[LOG]), cron("was-sink"))
        async with cluster.controller():

            async def swept() -> bool:
                left = await groups()
                return topics.inbox_group(inbox) not in left and implicit not in left

            await until(swept, seconds=90, what="the bus is swept")
            assert await dead() == 1
            await cluster.becomes(kinds.TRIGGER, "edited", "Stalled", "None")


async def test_positions_of_removed_entries(cluster: Cluster, bus: NatsServer) -> None:
    resolved = ResolvedBus(driver="jetstream", options={"url": bus.url})
    tick = {"schedule": "@every 1h"}
    ends, ended, stays = (f"cron/shop/fewer/{one}/position" for one in ("ends", "ended", "stays"))
    other = "file/shop/fewer-not/ended/position"
    async with open_bus(resolved, clock=SystemClock()) as one, cluster.controller():

        async def kept() -> set[str]:
            return {
                key
                for kind in ("cron", "file")
                async for key, _ in one.store.list(f"{kind}/shop/")
                if "/fewer" in key
            }

        await cluster.apply(cron("fewer", cron=dict.fromkeys(("ends", "ended", "stays"), tick)))
        workers = await cluster.have("fewer", 3)
        for key in (ends, ended, stays, other):
            await one.store.put(key, b"{}")
        (ending,) = (each for each in workers if "-ends-" in each["metadata"]["name"])
        pod = await cluster.pod(ending, {"podIP": "127.0.0.1"})
        await cluster.apply(cron("fewer", cron={"stays": tick}))

        async def forgot() -> bool:
            return ended not in await kept()

        await until(forgot, seconds=60, what="the position of an entry without a Pod is removed")
        assert await kept() == {ends, stays, other}  # A worker that ends has its position.
        path = kinds.POD.path("shop", pod) + "?gracePeriodSeconds=0"
        await cluster.api.call("DELETE", path)

        async def forgot_both() -> bool:
            return ends not in await kept()

        await until(forgot_both, seconds=60, what="its position is removed when it has ended")
        assert await kept() == {stays, other}


async def test_what_an_edit_takes_out_is_removed(cluster: Cluster, bus: NatsServer) -> None:
    scale = {"minReplicaCount": 0, "maxReplicaCount": 3}
    login = {"authRequired": True, "saslUsername": "shop"}
    kafka = {"brokers": "kafka:9092", "topic": "in", **login}
    hook = {"webhook": {"in": {"path": "/in", "expose": {"ingress": {}}}}}
    full = {
        "kafka": {"in": {**kafka, "saslPassword": "hunter2", "scaleOption": scale}},
        **hook,
        "template": {"labels": {"team": "shop"}, "nodeSelector": {"disk": "ssd"}},
    }
    token = {"valueFrom": {"secretKeyRef": {"name": "edited-login", "key": "token"}}}
    less = {"eventBus": "default", "kafka": {"in": {**kafka, "saslPassword": token}}}

    async def kinds_of(name: str) -> list[str]:
        found = []
        for kind in kinds.CHILDREN:
            try:
                every = await cluster.all(kind)
            except LookupError:
                continue
            found += [kind.kind for each in every if _owned(each, name)]
        return sorted(found)

    keda = ["ScaledObject", "TriggerAuthentication"]
    worker = ["Deployment", "NetworkPolicy"]
    entries = {
        "kafka": [*worker, "PodDisruptionBudget", "Secret", *keda],
        "webhook": [*worker, "ConfigMap", "Ingress", "Service"],
    }
    async with (
        cluster.defined(kinds.SCALED_OBJECT, kinds.TRIGGER_AUTHENTICATION),
        cluster.controller() as running,
    ):
        await cluster.apply(secret("edited-login", token="x"))
        await cluster.apply(resource("EventSource", "shrinks", {"eventBus": "default", **full}))
        await cluster.have("shrinks", 2)
        await running.idle()
        assert await kinds_of("shrinks") == sorted(entries["kafka"] + entries["webhook"])
        found = await cluster.deployments("shrinks")
        (scaled,) = (each for each in found if "shrinks-in" in each["metadata"]["name"]
                     and not _has_port(each, "webhook"))  # fmt: skip
        name = scaled["metadata"]["name"]
        # KEDA has taken it to nothing.
        path = kinds.DEPLOYMENT.path("shop", name) + "?fieldManager=keda"
        await cluster.api.call("PATCH", path, {"spec": {"replicas": 0}}, kind="merge-patch")

        await cluster.apply(resource("EventSource", "shrinks", less))
        left = sorted([*worker, "ConfigMap"])

        async def shrunk() -> bool:
            return await kinds_of("shrinks") == left

        await until(shrunk, seconds=60, what=f"only {left} are left")
        await running.idle()
        (now,) = await cluster.deployments("shrinks")
        assert (now["metadata"]["name"], now["spec"]["replicas"]) == (name, 1)
        pod = now["spec"]["template"]
        assert "team" not in pod["metadata"]["labels"]
        assert not pod["spec"].get("nodeSelector")
        assert [each["name"] for each in pod["spec"]["volumes"]] == ["spec", "tmp", "secrets"]
        assert "configMap" in pod["spec"]["volumes"][0]
        assert "secret" not in pod["spec"]["volumes"][0]
        await cluster.delete(kinds.EVENT_SOURCE, "shrinks")


def _owned(child: Any, name: str) -> bool:
    return any(each["name"] == name for each in child["metadata"].get("ownerReferences") or ())


def _has_port(deployment: Any, name: str) -> bool:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return any(each["name"] == name for each in container["ports"])
