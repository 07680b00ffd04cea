"""Who reaches a worker: its Service and its way in from outside, its NetworkPolicy, its budget.

Workers are called by nobody but the kubelet, who asks the probes, whoever collects metrics,
and, for a webhook, its callers: all else is closed. What they call is left open: brokers and
functions may be anywhere, and no policy can name a host by its DNS name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ofevents.api.resolved import ResolvedSource
from ofevents.api.webhook import HttpRoute, Ingress
from ofevents.controller.render.names import apart, child_name, metadata, selector
from ofevents.controller.render.workload import PORT, Manifest, Owner, Spec

DAPR: Final = "dapr"
"""Name of the port where a daprd in a Pod of its own calls the worker."""
_DEFAULT: Final = 8080
_TAKEN: Final = range(1024), (PORT, 3500, 3501, 9095, 50001, 50002, 50010)
"""Ports that need a right, and those of probes and daprd in the same Pod."""


def webhook_port(spec: Spec) -> int | None:
    """Where a webhook listens in its Pod; None for any other worker.

    The port that it asks for, where it can have it; its Service hides which it is.
    """
    if not (isinstance(spec, ResolvedSource) and spec.source == "webhook"):
        return None
    asked = int(spec.spec.get("port") or _DEFAULT)
    return _DEFAULT if any(asked in some for some in _TAKEN) else asked


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


def ingress(owner: Owner, spec: Spec, asked: Ingress) -> Manifest:
    """The Ingress of a webhook."""
    name, path, port = _way(spec)
    backend = {"service": {"name": name, "port": {"number": port}}}
    rule: dict[str, Any] = {
        "http": {"paths": [{"path": path, "pathType": "Exact", "backend": backend}]}
    }
    body: dict[str, Any] = {"rules": [rule]}
    if asked.host:
        rule["host"] = asked.host
    if asked.class_name:
        body["ingressClassName"] = asked.class_name
    if asked.tls_secret:
        hosts = {"hosts": [asked.host]} if asked.host else {}
        body["tls"] = [{**hosts, "secretName": asked.tls_secret}]
    own = _annotated(metadata(owner, spec, name), asked.annotations)
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": own, "spec": body}


def route(owner: Owner, spec: Spec, asked: HttpRoute) -> Manifest:
    """The HTTPRoute of a webhook."""
    name, path, port = _way(spec)
    namespace, _, gateway = asked.gateway.rpartition("/")
    parent = {"name": gateway} | ({"namespace": namespace} if namespace else {})
    rule = {
        "matches": [{"path": {"type": "Exact", "value": path}}],
        "backendRefs": [{"name": name, "port": port}],
    }
    body: dict[str, Any] = {"parentRefs": [parent], "rules": [rule]}
    if asked.host:
        body["hostnames"] = [asked.host]
    own = _annotated(metadata(owner, spec, name), asked.annotations)
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": own, "spec": body}  # fmt: skip


def _way(spec: Spec) -> tuple[str, str, int]:
    """The name and port of a webhook's Service, and its path."""
    assert isinstance(spec, ResolvedSource)
    return child_name(spec), spec.spec["path"], 443 if spec.spec.get("tls") else 80


def _annotated(own: dict[str, Any], annotations: dict[str, str]) -> dict[str, Any]:
    return {**own, "annotations": annotations} if annotations else own


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
