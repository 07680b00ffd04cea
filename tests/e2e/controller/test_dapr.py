"""Dapr's objects: no credential in them, and a component is every worker's that loads it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from ofevents.cluster import kinds
from tests.e2e.controller.rig import Cluster, resource, secret, trigger
from tests.e2e.controller.test_leaving import gone
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="session")]

CRDS = (kinds.COMPONENT, kinds.RESILIENCY, kinds.SUBSCRIPTION)
REF = {"secretKeyRef": {"name": "dapr-login", "key": "password"}}


def component(type: str, **metadata: Any) -> Any:
    settings = [
        {"name": name, **(value if isinstance(value, dict) else {"value": value})}
        for name, value in metadata.items()
    ]
    return {"type": type, "version": "v1", "metadata": settings}


async def test_a_credential_is_in_a_secret_alone(cluster: Cluster, bus: NatsServer) -> None:
    pubsub = component(
        "pubsub.kafka",
        brokers="kafka:9092",
        authType="password",
        saslUsername="shop",
        saslPassword="hunter2-sasl",
    )
    state = component("state.postgresql", connectionString="host=pg user=a password=hunter2-pg")
    async with cluster.defined(*CRDS), cluster.controller():
        await cluster.apply(
            resource("EventBus", "plain", {"dapr": {"pubsub": pubsub, "state": state}}),
            trigger("plain", eventBus="plain", deletionPolicy="Retain"),
        )
        (deployment,) = await cluster.have("plain", 1)
        held = {
            key: base64.b64decode(value).decode()
            for one in await cluster.all(kinds.SECRET)
            if one["metadata"]["name"] == deployment["metadata"]["name"]
            for key, value in one["data"].items()
        }
        read: dict[str, str] = {}
        for one in await cluster.all(kinds.COMPONENT):
            assert one["auth"] == {"secretStore": "kubernetes"}
            for setting in one["spec"]["metadata"]:
                if ref := setting.get("secretKeyRef"):
                    assert ref["name"] == deployment["metadata"]["name"]
                    read[setting["name"]] = held[ref["key"]]
        assert read["saslPassword"] == "hunter2-sasl"
        assert "hunter2-pg" in read["connectionString"]
        for kind in (*CRDS, kinds.CONFIG_MAP, kinds.DEPLOYMENT):
            assert "hunter2" not in str(await cluster.all(kind))
        await cluster.delete(kinds.TRIGGER, "plain")
        await gone(cluster, kinds.TRIGGER, "plain")


async def test_a_blocked_worker_keeps_its_component(cluster: Cluster, bus: NatsServer) -> None:
    http = component("bindings.http", url="http://a.shop.svc/")
    called = {"dapr": {"component": http, "operation": "post"}}
    webhook = {
        "open": {},
        "closed": {"auth": {"bearer": {"valueFrom": REF}}},
        "gone": {},
    }
    declared = resource("EventSource", "share", {"sink": called, "webhook": webhook})
    async with cluster.defined(*CRDS), cluster.controller():
        await cluster.apply(secret("dapr-login", password="x"), declared)
        found = await cluster.have("share", 3)
        names = {
            entry: each["metadata"]["name"]
            for each in found
            for entry in webhook
            if f"-{entry}-" in each["metadata"]["name"]
        }

        async def scopes() -> list[Any]:
            return [each["scopes"] for each in await cluster.all(kinds.COMPONENT)]

        assert await scopes() == [sorted(names.values())]
        await cluster.delete(kinds.SECRET, "dapr-login")
        await cluster.becomes(kinds.EVENT_SOURCE, "share", "Stalled", "ReferenceNotFound")
        assert await scopes() == [sorted(names.values())]

        # It is looked at again, and changed, while that one waits.
        del webhook["gone"]
        await cluster.apply(secret("dapr-login", password="x"), declared)
        left = sorted(names[entry] for entry in webhook)

        async def fewer() -> bool:
            return await scopes() == [left]

        await until(fewer, seconds=60, what="the one that is gone loads it no more")
        await cluster.have("share", 2)
        await cluster.delete(kinds.EVENT_SOURCE, "share")
        await gone(cluster, kinds.EVENT_SOURCE, "share")
