"""A Deployment of the probe image, as tests of the cluster want it, and what its Pods say."""

from __future__ import annotations

from typing import Any

import aiohttp

from tests.servers import until
from tests.servers.kube_node import PROBE_IMAGE, KubeNode


def web(namespace: str, *, replicas: int = 2, account: str = "default") -> list[dict[str, Any]]:
    """Deployment and Service `web`: probes, no root, nothing to write to."""
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}
    container = {
        "name": "web",
        "image": PROBE_IMAGE,
        "imagePullPolicy": "Never",
        "ports": [{"containerPort": 8080}],
        "readinessProbe": probe,
        "livenessProbe": {**probe, "failureThreshold": 30},  # no pause of the machine ends it
        "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "10m"}},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    meta = {"name": "web", "namespace": namespace}
    labels = {"app": "web"}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "serviceAccountName": account,
                        "terminationGracePeriodSeconds": 1,
                        "containers": [container],
                    },
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ]


async def ready(node: KubeNode, namespace: str, count: int, *, seconds: float = 90) -> list[Any]:
    """Wait until that many Pods of `web` are Ready, and no more exist; the Pods."""
    found: list[Any] = []

    async def counted() -> bool:
        answer = await node.call("GET", f"/api/v1/namespaces/{namespace}/pods")
        found[:] = answer["items"]
        conditions = [pod["status"].get("conditions", ()) for pod in found]
        up = sum({"Ready": "True"}.items() <= _flat(each).items() for each in conditions)
        return up == count == len(found)

    await until(counted, seconds=seconds, what=f"{count} Pods are Ready")
    return found


def _flat(conditions: Any) -> dict[str, str]:
    return {each["type"]: each["status"] for each in conditions}


async def ask(url: str) -> tuple[int, Any]:
    """Status and body of a GET, JSON decoded."""
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
        text = await answer.text()
        try:
            return answer.status, await answer.json(content_type=None)
        except ValueError:
            return answer.status, text


async def answers(url: str, expected: int = 200, *, seconds: float = 30) -> Any:
    """Ask until it answers with that status; the body."""
    seen: list[Any] = []

    async def answered() -> bool:
        try:
            seen[:] = await ask(url)
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            seen[:] = [0, repr(error)]
        return bool(seen[0] == expected)

    try:
        await until(answered, seconds=seconds, what=f"{url} answers {expected}")
    except TimeoutError as error:
        raise TimeoutError(f"{error}: {seen}") from error
    return seen[1]
