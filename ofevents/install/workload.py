"""The controller's Pods and what is around them. Called by `objects`."""

from __future__ import annotations

from typing import Any

from ofevents.install.parts import Object, labels, metadata
from ofevents.install.settings import ADMISSION_PORT, NAME, PORT, SELECTOR, Settings

USER = 65532
"""Of the image; the number that is usual for `nonroot`."""


def namespace(settings: Settings) -> Object:
    """The controller's own namespace, in which no Pod can be privileged."""
    made = metadata(settings, settings.namespace, "")
    made["labels"]["pod-security.kubernetes.io/enforce"] = "restricted"
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": made}


def service(settings: Settings) -> Object:
    """Where Prometheus finds the metrics."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(settings, NAME, settings.namespace),
        "spec": {
            "selector": dict(SELECTOR),
            "ports": [
                {"name": "metrics", "port": PORT, "targetPort": "metrics", "protocol": "TCP"},
            ],
        },
    }


def network_policy(settings: Settings) -> Object:
    """Nothing else of the controller can be reached.

    From anywhere: an API server is no Pod that a rule could name. The way out is open: to
    the API server, to the workers, and to every EventBus, whose address a user chooses.
    """
    ports = [{"port": "admission", "protocol": "TCP"}, {"port": "metrics", "protocol": "TCP"}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(settings, NAME, settings.namespace),
        "spec": {
            "podSelector": {"matchLabels": dict(SELECTOR)},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": ports}],
        },
    }


def disruption_budget(settings: Settings) -> Object:
    """A drained node takes one replica at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(settings, NAME, settings.namespace),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": dict(SELECTOR)}},
    }


def deployment(settings: Settings) -> Object:
    """The controller: one replica is active, the others wait for its lease."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(settings, NAME, settings.namespace),
        "spec": {
            "replicas": settings.replicas,
            "selector": {"matchLabels": dict(SELECTOR)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": {"metadata": {"labels": labels(settings)}, "spec": _pod(settings)},
        },
    }


def _pod(settings: Settings) -> dict[str, Any]:
    return {
        "serviceAccountName": NAME,
        "automountServiceAccountToken": True,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": {"podAntiAffinity": _apart()},
        "containers": [_container(settings)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
    }


def _apart() -> dict[str, Any]:
    """Preferred, not required: a cluster of one node runs both."""
    term = {
        "labelSelector": {"matchLabels": dict(SELECTOR)},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "podAffinityTerm": term}
        ]
    }


def _container(settings: Settings) -> dict[str, Any]:
    return {
        "name": "controller",
        "image": settings.image,
        "args": arguments(settings),
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {
                "name": "POD_NAMESPACE",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}},
            },
        ],
        "ports": [
            {"name": "metrics", "containerPort": PORT, "protocol": "TCP"},
            {"name": "admission", "containerPort": ADMISSION_PORT, "protocol": "TCP"},
        ],
        # The start may wait for the API server; a stuck process is found in a minute.
        "startupProbe": {**_probe("/healthz"), "periodSeconds": 2, "failureThreshold": 60},
        "livenessProbe": {**_probe("/healthz"), "periodSeconds": 20, "failureThreshold": 3},
        "readinessProbe": {**_probe("/readyz"), "periodSeconds": 5, "failureThreshold": 2},
        "resources": settings.resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "metrics"}, "timeoutSeconds": 5}


def arguments(settings: Settings) -> list[str]:
    """How the controller is started."""
    scope = [f"--namespace={each}" for each in settings.namespaces]
    admission = [f"--admission-port={ADMISSION_PORT}"] if settings.admission.enabled else []
    return [
        "controller",
        f"--lease-namespace={settings.namespace}",
        *scope,
        f"--image={settings.image}",
        "--host=0.0.0.0",  # the node asks the probes
        f"--port={PORT}",
        *admission,
        "--log-format=json",
    ]
