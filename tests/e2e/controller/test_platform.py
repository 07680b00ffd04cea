"""CRDs of others that come and go, an API server that restarts, and one namespace alone."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.cluster import kinds
from ofevents.cluster.kinds import Kind
from tests.e2e.controller.rig import Cluster, cron, resource, trigger
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]


def calls(name: str, kind: Kind) -> Any:
    """A Trigger whose subscriber is an object of that kind."""
    ref = {"apiVersion": kind.api_version, "kind": kind.kind, "name": "charge"}
    return trigger(name, subscribers=[{"name": "charge", "sink": {"ref": ref}}])


def function(kind: Kind) -> Any:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": "charge", "namespace": "shop"},
        "status": {
            "url": "http://charge.example.com",
            "addresses": [{"type": "Internal", "value": "http://charge.shop.svc"}],
        },
    }


@pytest.mark.parametrize(
    "kind", [kinds.KNATIVE_SERVICE, kinds.FUNCTION_BETA1], ids=["knative", "openfunction"]
)
async def test_a_function_whose_crd_comes_later(
    cluster: Cluster, bus: NatsServer, kind: Kind
) -> None:
    name = f"calls-{kind.plural}"
    async with cluster.controller():
        await cluster.apply(calls(name, kind))
        told = await cluster.becomes(kinds.TRIGGER, name, "Stalled", "ReferenceNotFound")
        assert "this cluster has no" in told["message"]
        async with cluster.defined(kind):

            async def missing() -> bool:
                told = await cluster.condition(kinds.TRIGGER, name, "Stalled")
                return "there is no" in told["message"]

            await until(missing, seconds=60, what="the kind is there, and no such object")
            await cluster.create(function(kind))
            await cluster.have(name, 1)
            await cluster.becomes(kinds.TRIGGER, name, "Stalled", "None")
        await cluster.becomes(kinds.TRIGGER, name, "Stalled", "ReferenceNotFound")


async def test_dapr_that_comes_later(cluster: Cluster, bus: NatsServer) -> None:
    pubsub = {"type": "pubsub.redis", "version": "v1", "metadata": []}
    declared = resource("EventBus", "by-dapr", {"dapr": pubsub})
    named = (kinds.COMPONENT, kinds.RESILIENCY, kinds.SUBSCRIPTION)
    async with cluster.controller():
        await cluster.apply(declared, cron("dapr-clock", eventBus="by-dapr"))
        (deployment,) = await cluster.have("dapr-clock", 1)
        await cluster.becomes(kinds.EVENT_SOURCE, "dapr-clock", "Warning", "DaprNotInstalled")
        async with cluster.defined(*named):

            async def made() -> bool:
                found = await cluster.all(kinds.COMPONENT)
                return [each["scopes"] for each in found] == [[deployment["metadata"]["name"]]]

            await until(made, seconds=60, what="its component is there")

            async def quiet() -> bool:
                told = await cluster.condition(kinds.EVENT_SOURCE, "dapr-clock", "Warning")
                return bool(told["reason"] != "DaprNotInstalled")

            await until(quiet, seconds=60, what="the warning is gone")
        await cluster.becomes(kinds.EVENT_SOURCE, "dapr-clock", "Warning", "DaprNotInstalled")


async def test_the_api_server_restarts(cluster: Cluster, bus: NatsServer) -> None:
    async with cluster.controller() as running:
        await cluster.apply(cron("before"))
        await cluster.have("before", 1)
        await running.idle()
        await cluster.api.kill()
        await cluster.api.start()
        await cluster.apply(cron("after"))
        await cluster.have("after", 1, seconds=90)
        (deployment,) = await cluster.deployments("before")
        await cluster.delete(kinds.DEPLOYMENT, deployment["metadata"]["name"])
        await cluster.have("before", 1)


async def test_one_namespace_alone(cluster: Cluster, bus: NatsServer) -> None:
    elsewhere = cron("elsewhere")
    elsewhere["metadata"]["namespace"] = "billing"
    async with cluster.controller(namespaces=("shop",)):
        await cluster.apply(elsewhere, cron("here"))
        await cluster.have("here", 1)
        assert await cluster.condition(kinds.EVENT_SOURCE, "elsewhere", namespace="billing") == {}
