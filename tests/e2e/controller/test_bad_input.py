"""What people get wrong: it is said where they look, nothing that runs is harmed, and once it
is right it works without a restart."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.bus import topics
from ofevents.cluster import kinds
from tests.e2e.controller.rig import Cluster, cron, resource, secret, trigger
from tests.e2e.controller.test_leaving import gone, groups
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="session")]

FUNCTION = {"apiVersion": "core.openfunction.io/v1beta2", "kind": "Function", "name": "dangle"}
SERVICE = {"apiVersion": "v1", "kind": "Service", "name": "dangle"}


def calls(name: str, **sink: Any) -> Any:
    return trigger(name, subscribers=[{"name": "log", "sink": sink}])


def service(name: str, namespace: str = "shop") -> Any:
    metadata = {"name": name, "namespace": namespace}
    spec = {"ports": [{"port": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


async def test_references_to_nothing(cluster: Cluster, bus: NatsServer) -> None:
    token = {"valueFrom": {"secretKeyRef": {"name": "dangle", "key": "token"}}}
    login = {"uri": "http://log.shop.svc/", "auth": {"bearer": token}}
    function = {
        "apiVersion": FUNCTION["apiVersion"],
        "kind": "Function",
        "metadata": {"name": "dangle", "namespace": "shop"},
        "status": {"addresses": [{"type": "Internal", "value": "http://dangle.shop.svc"}]},
    }
    stalled = {
        "no-bus": "spec.eventBus: there is neither EventBus shop/dangle nor ClusterEventBus",
        "no-secret": "there is no Secret shop/dangle",
        "no-service": "there is no Service shop/dangle",
        "no-function": "there is no Function shop/dangle",
    }
    async with cluster.defined(kinds.FUNCTION), cluster.controller():
        await cluster.apply(
            trigger("no-bus", eventBus="dangle"),
            calls("no-secret", **login),
            calls("no-service", ref=SERVICE),
            calls("no-function", ref=FUNCTION),
            trigger("no-source", source="dangle"),
            trigger("no-event", source="dangle", event="tikc"),
        )
        for name, sentence in stalled.items():
            told = await cluster.becomes(kinds.TRIGGER, name, "Stalled", "ReferenceNotFound")
            assert sentence in told["message"]
            ready = await cluster.condition(kinds.TRIGGER, name)
            assert (ready["status"], ready["reason"]) == ("False", "ReferenceNotFound")
            assert await cluster.deployments(name) == []
        # Its events may come yet: the Trigger waits for them, and says so.
        for name in ("no-source", "no-event"):
            told = await cluster.becomes(kinds.TRIGGER, name, "Warning", "Questionable")
            assert "there is no EventSource shop/dangle" in told["message"]
            await cluster.have(name, 1)

        await cluster.apply(
            resource("EventBus", "dangle", {"jetstream": {"url": bus.url}}),
            secret("dangle", token="x"),
            service("dangle"),
            function,
            cron("dangle"),
        )
        for name in stalled:
            await cluster.have(name, 1)
            await cluster.becomes(kinds.TRIGGER, name, "Stalled", "None")
        await cluster.becomes(kinds.TRIGGER, "no-source", "Warning", "None")

        async def nearest() -> bool:
            told = await cluster.condition(kinds.TRIGGER, "no-event", "Warning")
            return "has no event tikc" in told["message"] and "tick" in told["message"]

        await until(nearest, seconds=60, what="the nearest name is told")


async def test_a_key_that_a_secret_lacks(cluster: Cluster, bus: NatsServer) -> None:
    token = {"valueFrom": {"secretKeyRef": {"name": "keyless", "key": "token"}}}
    async with cluster.controller():
        await cluster.apply(secret("keyless", tokens="x"))
        await cluster.apply(calls("keyless", uri="http://a.shop.svc/", auth={"bearer": token}))
        told = await cluster.becomes(kinds.TRIGGER, "keyless", "Stalled", "ReferenceNotFound")
        assert "Secret shop/keyless has no key token" in told["message"]
        assert "tokens" in told["message"]
        await cluster.apply(secret("keyless", token="x"))
        await cluster.have("keyless", 1)


async def test_a_bus_deleted_under_its_users(cluster: Cluster, bus: NatsServer) -> None:
    declared = resource("EventBus", "passing", {"jetstream": {"url": bus.url}})
    users = {kinds.EVENT_SOURCE: "on-passing", kinds.TRIGGER: "reads-passing"}
    async with cluster.controller():
        await cluster.apply(
            declared,
            cron("on-passing", eventBus="passing"),
            trigger("reads-passing", "on-passing", eventBus="passing"),
            trigger("leaves-passing", "on-passing", eventBus="passing"),
        )
        before = {name: await cluster.have(name, 1) for name in users.values()}
        await cluster.have("leaves-passing", 1)
        for name in ("reads-passing", "leaves-passing"):
            await cluster.becomes(kinds.TRIGGER, name, "Ready", "Starting")  # the bus answers
        left = {topics.trigger_group("shop", name) for name in ("reads-passing", "leaves-passing")}
        assert left <= await groups(bus)

        await cluster.delete(kinds.EVENT_BUS, "passing")
        for kind, name in users.items():
            told = await cluster.becomes(kind, name, "Stalled", "ReferenceNotFound")
            assert "neither EventBus shop/passing" in told["message"]
            assert await cluster.deployments(name) == before[name]  # It runs on.
        # What it was is still known, so that who goes now leaves nothing behind.
        await cluster.delete(kinds.TRIGGER, "leaves-passing")
        await gone(cluster, kinds.TRIGGER, "leaves-passing")
        assert left & await groups(bus) == {topics.trigger_group("shop", "reads-passing")}

        await cluster.apply(declared)
        for kind, name in users.items():
            await cluster.becomes(kind, name, "Stalled", "None")
            assert await cluster.deployments(name) == before[name]
        await cluster.becomes(kinds.EVENT_BUS, "passing", "Ready", "Connected")


async def test_names_that_differ_in_punctuation_alone(cluster: Cluster, bus: NatsServer) -> None:
    names = ("my.orders", "my-orders", "my_orders", "My-Orders")
    schedule = {"schedule": "@every 1h"}
    async with cluster.controller():
        await cluster.apply(cron("dots", cron=dict.fromkeys(names, schedule)))
        await cluster.apply(
            cron("do.ts", cron={"x": schedule}), cron("do-ts", cron={"x": schedule})
        )
        for name in names:
            await cluster.apply(trigger(f"of-{names.index(name)}", "dots", name))
        found = await cluster.have("dots", len(names))
        assert len({each["metadata"]["name"] for each in found}) == len(names)
        await cluster.have("do.ts", 1)
        await cluster.have("do-ts", 1)
        read = []
        for number in range(len(names)):
            (deployment,) = await cluster.have(f"of-{number}", 1)
            await cluster.becomes(kinds.TRIGGER, f"of-{number}", "Warning", "None")
            config = await cluster.get(kinds.CONFIG_MAP, deployment["metadata"]["name"])
            read.append(config["data"]["spec.json"].partition('"topic":')[2].partition("}")[0])
        assert len(set(read)) == len(names), read


async def test_a_storage_that_cannot_change(cluster: Cluster, bus: NatsServer) -> None:
    spec = {"url": "nats://127.0.0.1:1", "storage": "file"}
    await cluster.apply(resource("EventBus", "stored", {"jetstream": spec}))
    memory = {**spec, "storage": "memory"}
    with pytest.raises(RuntimeError, match="the storage of streams that exist cannot change"):
        await cluster.apply(resource("EventBus", "stored", {"jetstream": memory}))
    with pytest.raises(RuntimeError, match="the storage of streams that exist cannot change"):
        without = {"url": spec["url"]}
        await cluster.apply(resource("EventBus", "unsaid", {"jetstream": without}))
        await cluster.apply(resource("EventBus", "unsaid", {"jetstream": memory}))
    # Other streams may be kept otherwise.
    await cluster.apply(resource("EventBus", "stored", {"jetstream": {**memory, "stream": "mine"}}))
    elsewhere = {"url": "nats://127.0.0.1:2", "storage": "file", "stream": "mine"}
    await cluster.apply(resource("EventBus", "stored", {"jetstream": elsewhere}))
    for name in ("stored", "unsaid"):
        await cluster.delete(kinds.EVENT_BUS, name)


async def test_a_child_that_cannot_be_changed(cluster: Cluster, bus: NatsServer) -> None:
    async with cluster.controller() as running:
        await cluster.apply(cron("frozen"))
        (deployment,) = await cluster.have("frozen", 1)
        name = deployment["metadata"]["name"]
        await cluster.merge(kinds.CONFIG_MAP, name, {"immutable": True})
        await cluster.apply(cron("frozen", cron={"tick": {"schedule": "@every 3h"}}))
        told = await cluster.becomes(kinds.EVENT_SOURCE, "frozen", "Stalled", "ApplyRefused")
        assert f"ConfigMap {name}" in told["message"]
        assert "delete the object, and it is made anew" in told["message"]
        # Not rolled: it would read the old spec and look as if it read the new one.
        assert await cluster.deployments("frozen") == [deployment]
        await cluster.delete(kinds.CONFIG_MAP, name)

        async def rolled() -> bool:
            (now,) = await cluster.deployments("frozen")
            return bool(now["spec"]["template"] != deployment["spec"]["template"])

        await until(rolled, seconds=60, what="it is rolled")
        await cluster.becomes(kinds.EVENT_SOURCE, "frozen", "Stalled", "None")

        # A Deployment of ours with another selector, as after a restore of a changed backup.
        await running.idle()
        other = {"apiVersion": "apps/v1", "kind": "Deployment"}
        kept = {"name", "namespace", "ownerReferences", "annotations"}
        metadata = {key: deployment["metadata"][key] for key in kept}
        labels = {**deployment["spec"]["selector"]["matchLabels"], "more": "yes"}
        template = deployment["spec"]["template"]
        every = {**template["metadata"]["labels"], **labels}
        other["metadata"] = {**metadata, "labels": deployment["metadata"]["labels"]}
        other["spec"] = {
            **deployment["spec"],
            "selector": {"matchLabels": labels},
            "template": {**template, "metadata": {**template["metadata"], "labels": every}},
        }
    await cluster.delete(kinds.DEPLOYMENT, name)
    await cluster.create(other)
    async with cluster.controller():
        told = await cluster.becomes(kinds.EVENT_SOURCE, "frozen", "Stalled", "ApplyRefused")
        assert f"Deployment {name}" in told["message"]
        assert "delete the object, and it is made anew" in told["message"]
        await cluster.delete(kinds.DEPLOYMENT, name)
        await cluster.becomes(kinds.EVENT_SOURCE, "frozen", "Stalled", "None")


async def test_what_somebody_adds_is_left_and_what_is_ours_is_kept(
    cluster: Cluster, bus: NatsServer
) -> None:
    async with cluster.controller() as running:
        await cluster.apply(cron("shared"))
        (deployment,) = await cluster.have("shared", 1)
        await cluster.play(deployment)
        await cluster.becomes(kinds.EVENT_SOURCE, "shared", "Ready", "Running")
        name = deployment["metadata"]["name"]
        # `kubectl apply --server-side --force-conflicts` of a manifest with their image in it.
        theirs = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": "shop", "labels": {"team": "shop"}},
            "spec": {
                "replicas": 5,
                "template": {
                    "spec": {
                        "containers": [
                            {"name": "worker", "image": "theirs:1"},
                            {"name": "more", "image": "more:1"},
                        ]
                    }
                },
            },
        }
        await cluster.apply(theirs)

        async def ours() -> bool:
            now = await cluster.get(kinds.DEPLOYMENT, name)
            images = {
                each["name"]: each["image"]
                for each in now["spec"]["template"]["spec"]["containers"]
            }
            assert now["metadata"]["labels"]["team"] == "shop" and images["more"] == "more:1"
            return images["worker"] == "ofevents:test" and now["spec"]["replicas"] == 1

        await until(ours, seconds=60, what="what is ours is ours again")
        await running.idle()
        now = await cluster.get(kinds.DEPLOYMENT, name)
        writes = running.writes
        running.resync()
        await running.idle()
        assert running.writes == writes  # It is not fought over.
        owners = {
            each["manager"] for each in now["metadata"]["managedFields"]
            if "f:replicas" in each["fieldsV1"].get("f:spec", {})
        }  # fmt: skip
        assert owners == {"ofevents"}
        await cluster.delete(kinds.EVENT_SOURCE, "shared")
        await gone(cluster, kinds.EVENT_SOURCE, "shared")


async def test_controllers_of_two_versions(cluster: Cluster, bus: NatsServer) -> None:
    async with cluster.controller(image="ofevents:old"):
        await cluster.apply(cron("upgraded"))
        (old,) = await cluster.have("upgraded", 1)
        name = old["metadata"]["name"]
    # What an older version has rendered, and no version does any more.
    container = {"name": "worker", "env": [{"name": "OLD", "value": "1"}]}
    once = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop", "annotations": {"old": "1"}},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    path = kinds.DEPLOYMENT.path("shop", name) + "?fieldManager=ofevents&force=true"
    stamped = old["metadata"]["annotations"]
    once["metadata"]["annotations"] |= {  # type: ignore[index]
        key: "of-an-older-version" for key in stamped if key.endswith("/hash")
    }
    keep = {key: old["metadata"][key] for key in ("labels", "ownerReferences")}
    once["metadata"] |= keep  # type: ignore[operator]
    once["spec"] = {
        "selector": old["spec"]["selector"],
        "template": {
            "metadata": {"labels": old["spec"]["template"]["metadata"]["labels"]},
            "spec": {"containers": [{**container, "image": "ofevents:old"}]},
        },
    }
    await cluster.api.call("PATCH", path, once, kind="apply-patch")
    async with cluster.controller(image="ofevents:new") as running:

        async def new() -> bool:
            now = await cluster.get(kinds.DEPLOYMENT, name)
            (container,) = now["spec"]["template"]["spec"]["containers"]
            assert now["metadata"]["uid"] == old["metadata"]["uid"]  # Rolled, not made anew.
            return container["image"] == "ofevents:new"

        await until(new, seconds=60, what="it is of the new version")
        await running.idle()
        now = await cluster.get(kinds.DEPLOYMENT, name)
        (container,) = now["spec"]["template"]["spec"]["containers"]
        assert "env" not in container and "old" not in now["metadata"]["annotations"]
        generation = now["metadata"]["generation"]
        running.resync()
        await running.idle()
        assert (await cluster.get(kinds.DEPLOYMENT, name))["metadata"]["generation"] == generation
