"""Who reaches a worker: its Service and its way in from outside, its NetworkPolicy, its budget.

Workers are called by nobody but the kubelet, who asks the probes, whoever collects metrics,
and, for a webhook, its callers: all else is closed. What they call is left open: brokers and
functions may be anywhere, and no policy can name a host by its DNS name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ofevents.api.resolved import ResolvedSource
from ofevents.controller.render.names import apart, child_name, metadata, selector
from ofevents.controller.render.workload import PORT, Exposure, Manifest, Owner, Spec

DAPR: Final = "dapr"
"""Name of the port where a daprd in a Pod of its own calls the worker."""
_DEFAULT: Final = 8080


def webhook_port(spec: Spec) -> int | None:
    """Where a webhook listens in its Pod; None for any other worker."""
    if isinstance(spec, ResolvedSource) and spec.source == "webhook":
        return int(spec.spec.get("port") or _DEFAULT)
    return None


def service(owner: Owner, spec: Spec, port: int) -> Manifest:
    """How callers inside the cluster find a webhook: port 80, or 443 where it has TLS."""
    assert isinstance(spec, ResolvedSource)
    secure = bool(spec.spec.get("tls"))
    listed = {
        "name": "https" if secure else "http",
        "port": 443 if secure else 80,
        "protocol": "TCP",
        "targetPort": "webhook",
        "appProtocol": "https" if secure else "http",
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, spec, child_name(spec)),
        "spec": {"selector": selector(spec), "ports": [listed], "type": "ClusterIP"},
    }


def ways_in(owner: Owner, spec: Spec, exposure: Exposure) -> list[Manifest]:
    """The Ingress or HTTPRoute of a webhook, where the operator asks for them."""
    assert isinstance(spec, ResolvedSource)
    name, path = child_name(spec), spec.spec["path"] or "/"
    port = 443 if spec.spec.get("tls") else 80
    found = []
    if exposure.ingress_class is not None:
        backend = {"service": {"name": name, "port": {"number": port}}}
        paths = [{"path": path, "pathType": "Exact", "backend": backend}]
        rule: dict[str, Any] = {"http": {"paths": paths}}
        if exposure.host:
            rule["host"] = exposure.host
        body: dict[str, Any] = {"rules": [rule]}
        if exposure.ingress_class:
            body["ingressClassName"] = exposure.ingress_class
        if exposure.tls_secret:
            hosts = {"hosts": [exposure.host]} if exposure.host else {}
            body["tls"] = [{**hosts, "secretName": exposure.tls_secret}]
        found.append({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                      "metadata": metadata(owner, spec, name), "spec": body})  # fmt: skip
    if exposure.gateway:
        namespace, _, gateway = exposure.gateway.rpartition("/")
        parent = {"name": gateway} | ({"namespace": namespace} if namespace else {})
        route: dict[str, Any] = {
            "parentRefs": [parent],
            "rules": [
                {
                    "matches": [{"path": {"type": "Exact", "value": path}}],
                    "backendRefs": [{"name": name, "port": port}],
                }
            ],
        }
        if exposure.host:
            route["hostnames"] = [exposure.host]
        found.append({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
                      "metadata": metadata(owner, spec, name), "spec": route})  # fmt: skip
    return found


def policy(owner: Owner, spec: Spec, ports: dict[str, int]) -> Manifest:
    """Lets in what comes to the probes and to `ports`, and nothing else; to the port that
    Dapr calls, its own daprd alone."""
    numbers = [PORT, *(number for name, number in ports.items() if name != DAPR)]
    rules: list[dict[str, Any]] = [{"ports": _tcp(numbers)}]
    if DAPR in ports:
        rules.append({"from": _pods(apart(spec)), "ports": _tcp([ports[DAPR]])})
    return _policy(metadata(owner, spec, child_name(spec)), selector(spec), rules)


def dapr_policy(own: dict[str, Any], spec: Spec, ports: Iterable[int], metrics: int) -> Manifest:
    """Of a daprd that has a Pod of its own: who gets to it may publish and read as its worker,
    so nobody but the worker does."""
    rules = [{"from": _pods(selector(spec)), "ports": _tcp(ports)}, {"ports": _tcp([metrics])}]
    return _policy(own, apart(spec), rules)


def _tcp(ports: Iterable[int]) -> list[dict[str, Any]]:
    return [{"port": each, "protocol": "TCP"} for each in ports]


def _pods(labels: dict[str, str]) -> list[dict[str, Any]]:
    return [{"podSelector": {"matchLabels": labels}}]


def _policy(own: dict[str, Any], of: dict[str, str], rules: list[dict[str, Any]]) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": own,
        "spec": {
            "podSelector": {"matchLabels": of},
            "policyTypes": ["Ingress"],
            "ingress": rules,
        },
    }


def budget(owner: Owner, spec: Spec) -> Manifest:
    """For workers of several Pods: a drained node takes one at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(owner, spec, child_name(spec)),
        "spec": {"selector": {"matchLabels": selector(spec)}, "maxUnavailable": 1},
    }
