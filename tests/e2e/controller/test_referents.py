"""What a resource refers to changes and goes: its workers are told, and what runs goes on.

That it may come later is judged in `test_bad_input` and `test_platform`.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from ofevents.cluster import kinds
from ofevents.cluster.kinds import Kind
from tests.e2e.controller.rig import Cluster, cron, resource, secret, trigger
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="session")]

URL = "http://{}.shop.svc"


def service(host: str) -> Any:
    spec = {"ports": [{"port": {"one": 8081, "two": 8082}[host]}]}
    return _named(kinds.SERVICE, {"spec": spec})


def knative(host: str) -> Any:
    return _named(kinds.KNATIVE_SERVICE, {"status": {"url": URL.format(host)}})


def function(host: str, kind: Kind = kinds.FUNCTION) -> Any:
    addresses = [{"type": "Internal", "value": URL.format(host)}]
    return _named(kind, {"status": {"addresses": addresses}})


def function_beta1(host: str) -> Any:
    return function(host, kinds.FUNCTION_BETA1)


def _named(kind: Kind, more: Any) -> Any:
    metadata = {"name": "called", "namespace": "shop"}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **more}


async def spec(cluster: Cluster, name: str) -> Any:
    """What the worker of that Trigger is told."""
    (deployment,) = await cluster.deployments(name)
    document = await cluster.get(kinds.CONFIG_MAP, deployment["metadata"]["name"])
    return json.loads(document["data"]["spec.json"])


async def template(cluster: Cluster, name: str) -> Any:
    (deployment,) = await cluster.deployments(name)
    return deployment["spec"]["template"]


@pytest.mark.parametrize(
    ("kind", "made", "called"),
    [
        (kinds.SERVICE, service, ["called.shop.svc.cluster.local:808" + each for each in "12"]),
        (kinds.KNATIVE_SERVICE, knative, [URL.format(each) for each in ("one", "two")]),
        (kinds.FUNCTION, function, [URL.format(each) for each in ("one", "two")]),
        (kinds.FUNCTION_BETA1, function_beta1, [URL.format(each) for each in ("one", "two")]),
    ],
    ids=["service", "knative", "v1beta2", "v1beta1"],
)
async def test_a_function(
    cluster: Cluster, bus: NatsServer, kind: Kind, made: Any, called: list[str]
) -> None:
    name = f"calls-{kind.version}-{kind.group or 'core'}"
    ref = {"apiVersion": kind.api_version, "kind": kind.kind, "name": "called"}
    others = (kind,) if kind is not kinds.SERVICE else ()
    async with cluster.defined(*others), cluster.controller():
        await cluster.apply(made("one"))
        await cluster.apply(trigger(name, subscribers=[{"name": "log", "sink": {"ref": ref}}]))
        await cluster.have(name, 1)
        assert called[0] in str(await spec(cluster, name))
        before = await template(cluster, name)

        await cluster.apply(made("two"))

        async def told() -> bool:
            return called[1] in str(await spec(cluster, name))

        await until(told, seconds=60, what="the worker is told")

        async def rolled() -> bool:
            return bool(await template(cluster, name) != before)

        await until(rolled, seconds=60, what="it is rolled")
        runs = await template(cluster, name)
        await cluster.delete(kind, "called")
        await cluster.becomes(kinds.TRIGGER, name, "Stalled", "ReferenceNotFound")
        assert await template(cluster, name) == runs


async def test_a_secret_goes_and_comes_back(cluster: Cluster, bus: NatsServer) -> None:
    token = {"valueFrom": {"secretKeyRef": {"name": "passing", "key": "token"}}}
    sink = {"uri": "http://log.shop.svc/", "auth": {"bearer": token}}
    async with cluster.controller():
        await cluster.apply(secret("passing", token="x"))
        await cluster.apply(trigger("logs-in", subscribers=[{"name": "log", "sink": sink}]))
        await cluster.have("logs-in", 1)
        before = await template(cluster, "logs-in")
        await cluster.delete(kinds.SECRET, "passing")
        await cluster.becomes(kinds.TRIGGER, "logs-in", "Stalled", "ReferenceNotFound")
        assert await template(cluster, "logs-in") == before
        await cluster.apply(secret("passing", token="x"))
        await cluster.becomes(kinds.TRIGGER, "logs-in", "Stalled", "None")
        assert await template(cluster, "logs-in") == before


async def test_a_namespaces_bus_comes_before_the_clusters(
    cluster: Cluster, bus: NatsServer
) -> None:
    both = resource("ClusterEventBus", "either", {"jetstream": {"url": bus.url}})
    own = resource("EventBus", "either", {"jetstream": {"url": bus.url}})

    async def on(name: str, url: str) -> None:
        async def told() -> bool:
            found = (await spec(cluster, "rides"))["bus"]
            return (found["name"], found["options"]["url"]) == (name, url)

        await until(told, seconds=60, what=f"its worker is told of bus {name} at {url}")

    async with cluster.controller():
        await cluster.apply(trigger("rides", eventBus="either"), cron("drives", eventBus="either"))
        await cluster.becomes(kinds.TRIGGER, "rides", "Stalled", "ReferenceNotFound")
        await cluster.apply(both)
        await cluster.have("rides", 1)
        await cluster.have("drives", 1)
        await on("either", bus.url)
        await cluster.apply(own)
        await on("shop/either", bus.url)
        # Both are changed; its own one alone counts.
        elsewhere = bus.url.replace("127.0.0.1", "localhost")
        for each in (own, both):
            moved = copy.deepcopy(each)
            moved["spec"]["jetstream"]["url"] = elsewhere
            await cluster.apply(moved)
        await on("shop/either", elsewhere)
        await cluster.delete(kinds.EVENT_BUS, "either")
        await on("either", elsewhere)
        await cluster.apply(both)
        await on("either", bus.url)
        await cluster.becomes(kinds.TRIGGER, "rides", "Stalled", "None")
        await cluster.delete(kinds.CLUSTER_EVENT_BUS, "either", "")
        for kind, name in ((kinds.TRIGGER, "rides"), (kinds.EVENT_SOURCE, "drives")):
            await cluster.becomes(kind, name, "Stalled", "ReferenceNotFound")
            assert len(await cluster.deployments(name)) == 1


async def test_the_service_of_a_webhook_comes_back(cluster: Cluster, bus: NatsServer) -> None:
    """Made by the controller itself, which tells nobody of its own writes."""
    hook = resource("EventSource", "called", {"eventBus": "default", "webhook": {"in": {}}})
    async with cluster.controller() as running:
        await cluster.apply(hook)
        (deployment,) = await cluster.have("called", 1)
        await running.idle()
        name = deployment["metadata"]["name"]
        ref = {"apiVersion": "v1", "kind": "Service", "name": name}
        await cluster.apply(trigger("calls-it", subscribers=[{"name": "a", "sink": {"ref": ref}}]))
        await cluster.have("calls-it", 1)
        await cluster.delete(kinds.EVENT_SOURCE, "called")

        async def gone() -> bool:
            return await cluster.get(kinds.EVENT_SOURCE, "called") is None

        await until(gone, seconds=60, what="the EventSource is gone")
        await cluster.delete(kinds.SERVICE, name)  # as the garbage collector does
        for kind in (kinds.CONFIG_MAP, kinds.NETWORK_POLICY):
            await cluster.delete(kind, name)
        await cluster.becomes(kinds.TRIGGER, "calls-it", "Stalled", "ReferenceNotFound")
        await cluster.apply(hook)
        await cluster.have("called", 1)
        await cluster.becomes(kinds.TRIGGER, "calls-it", "Stalled", "None")
