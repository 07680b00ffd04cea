"""What runs follows what is declared: children appear, change and go, and nobody else's do."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import topics
from ofevents.bus.open import open_bus
from ofevents.clock import SystemClock
from ofevents.cluster import kinds
from tests.e2e.controller.rig import Cluster, cron, resource, secret, trigger
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="session")]


def template(deployment: Any) -> Any:
    return deployment["spec"]["template"]


async def groups(bus: NatsServer) -> set[str]:
    """The consumer groups on the bus."""
    resolved = ResolvedBus(driver="jetstream", options={"url": bus.url})
    async with open_bus(resolved, clock=SystemClock()) as one:
        return {each.group for each in (await one.inspect()).consumers}


async def test_children_follow_what_is_declared(cluster: Cluster, bus: NatsServer) -> None:
    async with cluster.controller():
        await cluster.apply(cron(), trigger())
        (source,) = await cluster.have("clock", 1)
        (reader,) = await cluster.have("audit", 1)
        await cluster.becomes(kinds.TRIGGER, "audit", "Ready", "Starting")
        assert topics.trigger_group("shop", "audit") in await groups(bus)
        for each in (source, reader):
            await cluster.play(each)
        ready = await cluster.becomes(kinds.TRIGGER, "audit", "Ready", "Running")
        assert (ready["status"], ready["observedGeneration"]) == ("True", 1)
        await cluster.becomes(kinds.EVENT_SOURCE, "clock", "Ready", "Running")
        await cluster.becomes(kinds.EVENT_BUS, "default", "Ready", "Connected")

        more = {"tick": {"schedule": "@every 1h"}, "tock": {"schedule": "@every 2h"}}
        await cluster.apply(cron(cron=more))
        await cluster.have("clock", 2)
        await cluster.apply(cron(cron={"tock": {"schedule": "@every 2h"}}))
        (left,) = await cluster.have("clock", 1)
        assert left["metadata"]["name"] != source["metadata"]["name"]


async def test_a_rotated_secret_reaches_the_worker(cluster: Cluster, bus: NatsServer) -> None:
    login = {"bearer": {"valueFrom": {"secretKeyRef": {"name": "login", "key": "token"}}}}
    sink = {"uri": "http://log.shop.svc/", "auth": login}
    rotated = trigger("rotated", subscribers=[{"name": "log", "sink": sink}])
    async with cluster.controller():
        await cluster.apply(rotated)
        stalled = await cluster.becomes(kinds.TRIGGER, "rotated", "Stalled", "ReferenceNotFound")
        assert "there is no Secret shop/login" in stalled["message"]
        assert await cluster.deployments("rotated") == []

        await cluster.apply(secret("login", token="first-password"))
        (before,) = await cluster.have("rotated", 1)
        await cluster.becomes(kinds.TRIGGER, "rotated", "Stalled", "None")

        await cluster.apply(secret("login", token="second-password"))

        async def rolled() -> bool:
            (now,) = await cluster.deployments("rotated")
            return template(now) != template(before)

        await until(rolled, seconds=60, what="the pod template has changed")
        # What the Secret holds is nowhere else.
        for kind in (kinds.CONFIG_MAP, kinds.DEPLOYMENT):
            assert "password" not in str(await cluster.all(kind))


async def test_a_referent_that_comes_and_goes(cluster: Cluster, bus: NatsServer) -> None:
    ref = {"apiVersion": "v1", "kind": "Service", "name": "late"}
    waits = trigger("waits", subscribers=[{"name": "log", "sink": {"ref": ref}}])
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "late", "namespace": "shop"},
        "spec": {"ports": [{"port": 8080}]},
    }
    async with cluster.controller():
        await cluster.apply(waits)
        await cluster.becomes(kinds.TRIGGER, "waits", "Stalled", "ReferenceNotFound")
        await cluster.apply(service)
        await cluster.have("waits", 1)
        await cluster.becomes(kinds.TRIGGER, "waits", "Stalled", "None")
        await cluster.delete(kinds.SERVICE, "late")
        await cluster.becomes(kinds.TRIGGER, "waits", "Stalled", "ReferenceNotFound")
        assert len(await cluster.deployments("waits")) == 1  # It runs on.


async def test_an_object_of_somebody_else_is_not_taken_over(
    cluster: Cluster, bus: NatsServer
) -> None:
    async with cluster.controller():
        await cluster.apply(cron("mine"))
        (deployment,) = await cluster.have("mine", 1)
    name = deployment["metadata"]["name"]
    await cluster.delete(kinds.DEPLOYMENT, name)
    labels = {"app": "theirs"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": labels}, "template": pod},
    }
    await cluster.create(theirs)
    before = await cluster.get(kinds.DEPLOYMENT, name)
    async with cluster.controller():
        stalled = await cluster.becomes(kinds.EVENT_SOURCE, "mine", "Stalled", "NameTaken")
        assert f"Deployment {name}" in stalled["message"]
        assert await cluster.get(kinds.DEPLOYMENT, name) == before
        await cluster.delete(kinds.DEPLOYMENT, name)
        await cluster.have("mine", 1)
        await cluster.becomes(kinds.EVENT_SOURCE, "mine", "Stalled", "None")


async def test_what_somebody_changes_is_changed_back(cluster: Cluster, bus: NatsServer) -> None:
    async with cluster.controller():
        await cluster.apply(cron("kept"))
        (deployment,) = await cluster.have("kept", 1)
        name = deployment["metadata"]["name"]
        container = template(deployment)["spec"]["containers"][0]["name"]
        change = {
            "spec": {"template": {"spec": {"containers": [{"name": container, "image": "evil"}]}}}
        }
        path = kinds.DEPLOYMENT.path("shop", name) + "?fieldManager=someone"
        await cluster.api.call("PATCH", path, change, kind="strategic-merge-patch")

        async def back() -> bool:
            found = await cluster.get(kinds.DEPLOYMENT, name)
            return bool(template(found)["spec"]["containers"][0]["image"] == "ofevents:test")

        await until(back, seconds=60, what="the image is ours again")


async def test_another_namespace_reads_only_what_it_may(cluster: Cluster, bus: NatsServer) -> None:
    await cluster.apply(
        resource("ClusterEventBus", "shared", {"jetstream": {"url": bus.url}}),
        cron("open", eventBus="shared"),
    )
    reads = resource(
        "Trigger",
        "reads",
        {
            "eventBus": "shared",
            "inputs": {"tick": {"eventSource": "open", "event": "tick", "namespace": "shop"}},
            "subscribers": [{"name": "log", "sink": {"uri": "http://log.billing.svc/"}}],
        },
        namespace="billing",
    )

    async def runs(count: int) -> bool:
        return len(await cluster.deployments("reads", "billing")) == count

    async with cluster.controller():
        await cluster.apply(reads)
        await until(lambda: runs(1), seconds=60, what="it runs")
        warning = await cluster.becomes(kinds.EVENT_SOURCE, "open", "Warning", "Questionable")
        assert "billing/reads of another namespace" in warning["message"]

        await cluster.apply(cron("open", eventBus="shared", allowNamespaces=[]))
        await cluster.becomes(kinds.TRIGGER, "reads", "Stalled", "NotAllowed", namespace="billing")
        await until(lambda: runs(0), seconds=60, what="it no longer runs")

        await cluster.apply(cron("open", eventBus="shared", allowNamespaces=["billing"]))
        await until(lambda: runs(1), seconds=60, what="it runs again")
        await cluster.becomes(kinds.EVENT_SOURCE, "open", "Warning", "None")


async def test_a_bus_without_an_address(cluster: Cluster, bus: NatsServer) -> None:
    async with cluster.controller():
        await cluster.apply(
            resource("EventBus", "embedded", {"jetstream": {}}),
            cron("nowhere", eventBus="embedded"),
        )
        told = await cluster.becomes(kinds.EVENT_BUS, "embedded", "Stalled", "UrlMissing")
        assert "spec.jetstream.url" in told["message"]
        told = await cluster.becomes(kinds.EVENT_SOURCE, "nowhere", "Stalled", "ReferenceNotFound")
        assert "spec.jetstream.url" in told["message"]
        await cluster.apply(resource("EventBus", "embedded", {"jetstream": {"url": bus.url}}))
        await cluster.have("nowhere", 1)
