"""Kinds of the Kubernetes API by name: what is read, watched and written, and its paths.

Used by every module that talks to the API, and by `controller.rights`, which lists
what may be done with each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ofevents.api.meta import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind as the API serves it; `group` is "" for the core."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`apps/v1`, `v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def crd(self) -> str:
        """The name of its CustomResourceDefinition, if it has one."""
        return f"{self.plural}.{self.group}"

    def path(self, namespace: str | None = None, name: str = "", sub: str = "") -> str:
        """The path of an object, or of the list; a namespace of None or "" is all."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        parts = [f"{root}{inside}/{self.plural}", name, sub]
        return "/".join(part for part in parts if part)


EVENT_SOURCE: Final = Kind(GROUP, VERSION, "eventsources", "EventSource")
TRIGGER: Final = Kind(GROUP, VERSION, "triggers", "Trigger")
EVENT_BUS: Final = Kind(GROUP, VERSION, "eventbuses", "EventBus")
CLUSTER_EVENT_BUS: Final = Kind(GROUP, VERSION, "clustereventbuses", "ClusterEventBus", False)
OWN: Final = (EVENT_SOURCE, TRIGGER, EVENT_BUS, CLUSTER_EVENT_BUS)

SECRET: Final = Kind("", "v1", "secrets", "Secret")
SERVICE: Final = Kind("", "v1", "services", "Service")
KNATIVE_SERVICE: Final = Kind("serving.knative.dev", "v1", "services", "Service")
FUNCTION: Final = Kind("core.openfunction.io", "v1beta2", "functions", "Function")
FUNCTION_BETA1: Final = Kind("core.openfunction.io", "v1beta1", "functions", "Function")

DEPLOYMENT: Final = Kind("apps", "v1", "deployments", "Deployment")
POD: Final = Kind("", "v1", "pods", "Pod")
CONFIG_MAP: Final = Kind("", "v1", "configmaps", "ConfigMap")
SERVICE_ACCOUNT: Final = Kind("", "v1", "serviceaccounts", "ServiceAccount")
NETWORK_POLICY: Final = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
INGRESS: Final = Kind("networking.k8s.io", "v1", "ingresses", "Ingress")
DISRUPTION_BUDGET: Final = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
HTTP_ROUTE: Final = Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
COMPONENT: Final = Kind("dapr.io", "v1alpha1", "components", "Component")
RESILIENCY: Final = Kind("dapr.io", "v1alpha1", "resiliencies", "Resiliency")
SUBSCRIPTION: Final = Kind("dapr.io", "v2alpha1", "subscriptions", "Subscription")
SCALED_OBJECT: Final = Kind("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject")
TRIGGER_AUTHENTICATION: Final = Kind(
    "keda.sh", "v1alpha1", "triggerauthentications", "TriggerAuthentication"
)

CRD: Final = Kind(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False
)
LEASE: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease")
EVENT: Final = Kind("events.k8s.io", "v1", "events", "Event")
WEBHOOK: Final = Kind(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    False,
)

CHILDREN: Final = (
    DEPLOYMENT,
    SERVICE,
    SECRET,
    CONFIG_MAP,
    NETWORK_POLICY,
    DISRUPTION_BUDGET,
    INGRESS,
    HTTP_ROUTE,
    COMPONENT,
    RESILIENCY,
    SUBSCRIPTION,
    SCALED_OBJECT,
    TRIGGER_AUTHENTICATION,
)
"""What a worker may be made of."""
REFERENTS: Final = (SECRET, SERVICE, KNATIVE_SERVICE, FUNCTION, FUNCTION_BETA1)
"""What a resource may refer to, beside our own kinds."""
OPTIONAL: Final = (
    KNATIVE_SERVICE,
    FUNCTION,
    FUNCTION_BETA1,
    HTTP_ROUTE,
    COMPONENT,
    RESILIENCY,
    SUBSCRIPTION,
    SCALED_OBJECT,
    TRIGGER_AUTHENTICATION,
)
"""Kinds of somebody else's CRDs: they may be there, or come later."""

_ALL: Final[Mapping[tuple[str, str], Kind]] = {
    (one.api_version, one.kind): one
    for one in (*OWN, *REFERENTS, *CHILDREN, POD, SERVICE_ACCOUNT, LEASE, EVENT, CRD, WEBHOOK)
}


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """The kind of a manifest; KeyError for one that is not in this file."""
    return _ALL[manifest["apiVersion"], manifest["kind"]]
