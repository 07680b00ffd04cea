"""The kinds that an installation may have, in the order in which they are applied.

`survey` lists them by label, `remove` deletes them the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ofevents.cluster.kinds import (
    CONFIG_MAP,
    CRD,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    SERVICE,
    SERVICE_ACCOUNT,
    WEBHOOK,
    Kind,
)

_RBAC: Final = "rbac.authorization.k8s.io"
_MONITORING: Final = "monitoring.coreos.com"

NAMESPACE: Final = Kind("", "v1", "namespaces", "Namespace", False)
REVIEW: Final = Kind(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False
)
OPTIONAL: Final = (
    Kind(_MONITORING, "v1", "servicemonitors", "ServiceMonitor"),
    Kind(_MONITORING, "v1", "podmonitors", "PodMonitor"),
    Kind(_MONITORING, "v1", "prometheusrules", "PrometheusRule"),
)
"""Of the Prometheus operator, which may not be there."""
KINDS: Final = (
    NAMESPACE,
    CRD,
    SERVICE_ACCOUNT,
    Kind(_RBAC, "v1", "clusterroles", "ClusterRole", False),
    Kind(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", False),
    Kind(_RBAC, "v1", "roles", "Role"),
    Kind(_RBAC, "v1", "rolebindings", "RoleBinding"),
    NETWORK_POLICY,
    SERVICE,
    DISRUPTION_BUDGET,
    DEPLOYMENT,
    WEBHOOK,
    *OPTIONAL,
    CONFIG_MAP,
)
_BY_NAME: Final = {(kind.api_version, kind.kind): kind for kind in KINDS}


def kind_of(made: Mapping[str, Any]) -> Kind:
    """The kind of an object of an installation."""
    return _BY_NAME[made["apiVersion"], made["kind"]]


def title(made: Mapping[str, Any]) -> str:
    """`Role shop/ofevents-controller`, for people."""
    metadata = made["metadata"]
    place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{made['kind']} {place}{metadata['name']}"
