"""KEDA on the test cluster: its operator and its metrics adapter, processes of the node.

    async with KubeNode(folder) as node:
        await keda.install(node)
        await node.apply({"kind": "ScaledObject", ...})

The operator takes a Deployment from nothing to one and back; beyond one the cluster's own
autoscaler asks the adapter, which the API server has as an extension and which asks the
operator. Both run as the administrator and end with the node.
"""

from __future__ import annotations

import base64
import os
from typing import Final

import aiohttp
import trustme

from tests.servers import kube_config
from tests.servers.kube_build import KEDA
from tests.servers.kube_namespace import ADDRESS
from tests.servers.kube_node import KubeNode

NAMESPACE: Final = "keda"
_PORTS: Final = {"metrics": 8090, "health": 8091, "grpc": 9666, "adapter": 443, "own": 8092}
_API: Final = "v1beta1.external.metrics.k8s.io"


async def install(node: KubeNode) -> None:
    """Apply KEDA's CRDs, start its processes, and wait until its API is there.

    Raises:
        ServerMissing: it is not built.
        ServerFailed: it does not come up; with the ends of the logs.
    """
    operator, adapter, crds = (KEDA.find(each) for each in ("operator", "adapter", "crds"))
    authority = _certificates(node)
    await node.kubectl("apply", "--server-side", "-f", str(crds))
    await node.create_namespace(NAMESPACE)
    service = kube_config.on_node(NAMESPACE, "keda-metrics-apiserver", _PORTS["adapter"])
    await node.apply(*service, _extension(authority))
    environment = {
        **os.environ,
        "KUBECONFIG": str(node.config),
        "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
        "POD_NAMESPACE": NAMESPACE,
        "POD_NAME": "keda-0",
        "OPERATOR_NAME": "keda-operator",
        "WATCH_NAMESPACE": "",
    }
    certificates = node.folder / "keda"
    node.run(
        "keda-operator",
        str(operator),
        f"--cert-dir={certificates}",
        f"--metrics-bind-address=127.0.0.1:{_PORTS['metrics']}",
        f"--health-probe-bind-address=127.0.0.1:{_PORTS['health']}",
        f"--metrics-service-bind-address=127.0.0.1:{_PORTS['grpc']}",
        env=environment,
    )
    await node.until(_healthy, "KEDA's operator is ready")
    node.run(
        "keda-adapter",
        str(adapter),
        f"--bind-address={ADDRESS}",
        f"--secure-port={_PORTS['adapter']}",
        f"--port={_PORTS['own']}",
        f"--metrics-service-address=127.0.0.1:{_PORTS['grpc']}",
        f"--cert-dir={certificates}",
        f"--client-ca-file={certificates / 'ca.crt'}",
        f"--tls-cert-file={certificates / 'tls.crt'}",
        f"--tls-private-key-file={certificates / 'tls.key'}",
        *(f"--{use}-kubeconfig={node.config}" for use in _KUBECONFIGS),
        env=environment,
    )

    async def available() -> bool:
        found = await node.call("GET", f"/apis/apiregistration.k8s.io/v1/apiservices/{_API}")
        conditions = found.get("status", {}).get("conditions", ())
        return any({"type": "Available", "status": "True"}.items() <= c.items() for c in conditions)

    await node.until(available, "KEDA's metrics API is available")


_KUBECONFIGS: Final = ("authentication", "authorization", "lister")


def _certificates(node: KubeNode) -> bytes:
    """Write one certificate for all of KEDA's ends; its authority, as PEM."""
    folder = node.folder / "keda"
    folder.mkdir(exist_ok=True)
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1", f"keda-metrics-apiserver.{NAMESPACE}.svc")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    own.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    own.private_key_pem.write_to_path(folder / "tls.key")
    return authority.cert_pem.bytes()


def _extension(authority: bytes) -> dict[str, object]:
    """The API server's entry for the adapter."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": _API},
        "spec": {
            "service": {"name": "keda-metrics-apiserver", "namespace": NAMESPACE},
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "caBundle": base64.b64encode(authority).decode(),
        },
    }


async def _healthy() -> bool:
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{_PORTS['health']}/readyz") as answer,
        ):
            return answer.status == 200
    except (OSError, aiohttp.ClientError):
        return False
