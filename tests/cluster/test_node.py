"""What the test cluster must be able to do, before anything of ours is tried on it."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from tests.cluster.pods import answers, ask, ready, web
from tests.servers import until
from tests.servers.kube_node import KubeNode

pytestmark = [pytest.mark.cluster, pytest.mark.server("kubernetes"), pytest.mark.timeout(400)]


def addresses(pods: list[Any]) -> set[str]:
    return {pod["status"]["podIP"] for pod in pods}


def identities(pods: list[Any]) -> set[tuple[str, int]]:
    """A Pod that lived on has the same uid, and its container was not started again."""
    return {
        (pod["metadata"]["uid"], each["restartCount"])
        for pod in pods
        for each in pod["status"]["containerStatuses"]
    }


async def reached(names: set[str], url: str) -> None:
    """Wait until all those, and nobody else, have answered: one by one they join a Service."""
    seen: set[str] = set()

    async def all_of_them() -> bool:
        seen.add((await answers(url))["host"])
        return seen >= names

    await until(all_of_them, seconds=30, what=f"{names} answer at {url}")
    assert seen == names


async def test_a_deployment_runs_and_is_reached(node: KubeNode, namespace: str) -> None:
    await node.apply(*web(namespace))
    pods = await ready(node, namespace, 2)
    service = f"http://web.{namespace}.svc.cluster.local"

    said = [await answers(f"http://{address}:8080/whoami") for address in addresses(pods)]
    assert {each["host"] for each in said} == {pod["metadata"]["name"] for pod in pods}
    assert {each["uid"] for each in said} == {65532}
    assert {each["root"] for each in said} == {"open /written: read-only file system"}
    # By the Service's name: from the test process, and from one Pod to the other.
    names = {each["host"] for each in said}
    await reached(names, f"{service}/whoami")
    inner = quote(f"http://web.{namespace}/whoami")
    for address in addresses(pods):  # a Pod keeps its connection, and so its partner
        assert (await answers(f"http://{address}:8080/get?url={inner}"))["host"] in names


async def test_a_pod_reaches_what_the_test_serves_and_nothing_outside(
    node: KubeNode, namespace: str
) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n{}")
        writer.close()

    await node.apply(*web(namespace, replicas=1))
    (address,) = addresses(await ready(node, namespace, 1))
    async with await asyncio.start_server(serve, "0.0.0.0") as server:
        port = server.sockets[0].getsockname()[1]
        await answers(f"http://{address}:8080/get?url=http://{node.address}:{port}/")
    # a documentation address, RFC 5737
    status, text = await ask(f"http://{address}:8080/get?url=http://192.0.2.1/")
    assert status == 502
    assert "no route to host" in text or "Timeout" in text


async def test_a_service_account_may_do_what_its_role_says(node: KubeNode, namespace: str) -> None:
    account = {"kind": "ServiceAccount", "name": "reader", "namespace": namespace}
    meta = {"name": "reader", "namespace": namespace}
    rbac = "rbac.authorization.k8s.io/v1"
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    await node.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": rbac, "kind": "Role", "metadata": meta, "rules": [rule]},
        {
            "apiVersion": rbac,
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": role,
            "subjects": [account],
        },
        *web(namespace, replicas=1, account="reader"),
    )
    (address,) = addresses(await ready(node, namespace, 1))
    asked = f"http://{address}:8080/api?path=/api/v1/namespaces/{namespace}"
    config = await answers(f"{asked}/configmaps/kube-root-ca.crt")
    assert config["kind"] == "ConfigMap"
    refused = await answers(f"{asked}/secrets", 403)
    assert f"system:serviceaccount:{namespace}:reader" in refused["message"]


async def test_pods_live_through_the_loss_of_the_control_plane(
    node: KubeNode, namespace: str
) -> None:
    await node.apply(*web(namespace))
    before = await ready(node, namespace, 2)
    service = f"http://web.{namespace}.svc.cluster.local/whoami"
    await answers(service)

    await node.end("apiserver")
    await answers(service)
    await node.start_api()

    await node.end("etcd")
    await asyncio.sleep(3)  # the outage itself: what the API server gives up on within it
    await answers(service)
    await node.start_etcd()
    await node.until(node.is_ready, "the node is Ready again")

    await node.end("containerd")
    await answers(service)
    await node.start_containerd()
    # It is no bystander: a Pod that is deleted now is replaced.
    assert identities(await ready(node, namespace, 2)) == identities(before)
    gone = before[0]["metadata"]
    await node.call("DELETE", f"/api/v1/namespaces/{namespace}/pods/{gone['name']}")
    await node.until(lambda: replaced(node, namespace, gone["uid"]), "the Pod is replaced")
    after = await ready(node, namespace, 2)
    assert len(identities(after) & identities(before)) == 1
    await answers(service)


async def replaced(node: KubeNode, namespace: str, uid: str) -> bool:
    pods = (await node.call("GET", f"/api/v1/namespaces/{namespace}/pods"))["items"]
    return uid not in {pod["metadata"]["uid"] for pod in pods}
