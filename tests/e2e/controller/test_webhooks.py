"""The ways in to a webhook: asked for, changed, taken back; and a Gateway API that comes later."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.cluster import kinds
from ofevents.cluster.cache import owner_of
from ofevents.cluster.kinds import Kind
from tests.e2e.controller.rig import Cluster, resource
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="session")]


def hooks(name: str, **more: Any) -> Any:
    return resource("EventSource", name, {"eventBus": "default", "webhook": {"in": more}})


async def of(cluster: Cluster, owner: str, kind: Kind) -> list[Any]:
    """Those of an EventSource."""
    uid = (await cluster.get(kinds.EVENT_SOURCE, owner))["metadata"]["uid"]
    return [each for each in await cluster.all(kind) if owner_of(each) == uid]


async def made(cluster: Cluster, owner: str, kind: Kind, count: int) -> list[Any]:
    """Wait until it has that many objects of that kind, and return them."""
    found: list[Any] = []

    async def there() -> bool:
        found[:] = await of(cluster, owner, kind)
        return len(found) == count

    await until(there, seconds=60, what=f"{count} {kind.kind}")
    return found


def answered(accepted: str) -> Any:
    """What a Gateway writes into an HTTPRoute."""
    condition = {"type": "Accepted", "status": accepted, "message": "not from here"}
    parent = {"parentRef": {"name": "public"}, "conditions": [condition]}
    return {"status": {"parents": [parent]}}


async def test_an_ingress_follows_what_is_asked_for(cluster: Cluster, bus: NatsServer) -> None:
    async with cluster.controller():
        await cluster.apply(hooks("shown"))
        await cluster.have("shown", 1)
        assert await of(cluster, "shown", kinds.INGRESS) == []

        annotations = {"example.com/body-size": "1m"}
        asked = {"className": "nginx", "host": "hooks.shop.example", "tlsSecret": "hooks"}
        ingress = {**asked, "annotations": annotations}
        await cluster.apply(hooks("shown", expose={"ingress": ingress}))
        (found,) = await made(cluster, "shown", kinds.INGRESS, 1)
        (service,) = (
            each for each in await cluster.all(kinds.SERVICE)
            if each["metadata"]["name"] == found["metadata"]["name"]
        )  # fmt: skip
        assert found["metadata"]["annotations"].items() >= annotations.items()
        (rule,) = found["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        assert (rule["host"], path["path"]) == ("hooks.shop.example", "/shown/in")
        port = path["backend"]["service"]["port"]["number"]
        assert port == service["spec"]["ports"][0]["port"]
        assert found["spec"]["tls"] == [{"hosts": [rule["host"]], "secretName": "hooks"}]

        await cluster.apply(hooks("shown", expose={"ingress": {"className": "nginx"}}))

        async def less() -> bool:
            (now,) = await of(cluster, "shown", kinds.INGRESS)
            annotated = annotations.keys() & now["metadata"]["annotations"].keys()
            return not ("tls" in now["spec"] or "host" in now["spec"]["rules"][0] or annotated)

        await until(less, seconds=60, what="what is no longer asked for is gone")
        await cluster.apply(hooks("shown"))
        await made(cluster, "shown", kinds.INGRESS, 0)
        await cluster.have("shown", 1)


async def test_a_gateway_api_that_comes_later(cluster: Cluster, bus: NatsServer) -> None:
    route = {"gateway": "infra/public", "host": "hooks.shop.example"}
    async with cluster.controller():
        await cluster.apply(hooks("routed", expose={"httpRoute": route}))
        (deployment,) = await cluster.have("routed", 1)
        await cluster.play(deployment)
        told = await cluster.becomes(
            kinds.EVENT_SOURCE, "routed", "Warning", "GatewayNotInstalled"
        )  # fmt: skip
        assert "Gateway API" in told["message"]
        await cluster.becomes(kinds.EVENT_SOURCE, "routed", "Ready", "Running")

        async with cluster.defined(kinds.HTTP_ROUTE):
            (found,) = await made(cluster, "routed", kinds.HTTP_ROUTE, 1)
            assert found["spec"]["parentRefs"] == [{"namespace": "infra", "name": "public"}]
            await cluster.becomes(kinds.EVENT_SOURCE, "routed", "Warning", "None")

            name = found["metadata"]["name"]
            await cluster.merge(kinds.HTTP_ROUTE, name, answered("False"))
            told = await cluster.becomes(kinds.EVENT_SOURCE, "routed", "Warning", "RouteRefused")
            assert "Gateway public does not serve the HTTPRoute: not from here" in told["message"]
            await cluster.merge(kinds.HTTP_ROUTE, name, answered("True"))
            await cluster.becomes(kinds.EVENT_SOURCE, "routed", "Warning", "None")

            await cluster.apply(hooks("routed"))
            await made(cluster, "routed", kinds.HTTP_ROUTE, 0)

            await cluster.apply(hooks("routed", expose={"httpRoute": route}))
            await made(cluster, "routed", kinds.HTTP_ROUTE, 1)
        await cluster.becomes(kinds.EVENT_SOURCE, "routed", "Warning", "GatewayNotInstalled")
        await cluster.becomes(kinds.EVENT_SOURCE, "routed", "Stalled", "None")


async def test_what_cannot_be_exposed_is_refused(cluster: Cluster) -> None:
    for wrong in ({"ingress": {"host": "a b"}}, {"httpRoute": {"host": "a"}}, {"route": {}}, {}):
        with pytest.raises(RuntimeError, match=r"spec\.webhook(\.|\[)in\]?\.expose|unknown field"):
            await cluster.create_strictly(hooks("wrong", expose=wrong))
