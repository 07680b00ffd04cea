"""What the controller may do with the Kubernetes API, each with its reason.

The one list: the manifests under deploy/ are rendered from it, and the tests run the
controller with exactly it. Rights of workers are not among them: they have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ofevents.cluster import kinds


@dataclass(frozen=True, slots=True)
class Right:
    """One rule of a ClusterRole, or of the Role in the controller's own namespace.

    Attributes:
        where: `watched` in every watched namespace; `own` in the controller's own;
            `cluster` for kinds that have no namespace.
        names: the only objects it is for; none is all.
    """

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    reason: str
    where: str = "watched"
    names: tuple[str, ...] = ()

    def rule(self) -> dict[str, Any]:
        """As RBAC has it."""
        rule: dict[str, Any] = {
            "apiGroups": [self.group],
            "resources": list(self.resources),
            "verbs": list(self.verbs),
        }
        return {**rule, "resourceNames": list(self.names)} if self.names else rule


_READ: Final = ("list", "watch")
_MAKE: Final = ("get", "list", "watch", "create", "patch", "delete")
"""`get` before the first write, so that nobody else's object is taken over."""
_ADMISSION: Final = ("ofevents-admission",)
"""The name of what admission has, as in `admission.NAME`."""
_EVENTS: Final = kinds.EVENT_SOURCE.group

RIGHTS: Final = (
    Right(
        _EVENTS,
        ("eventsources", "triggers"),
        (*_READ, "patch"),
        "what shall run; patch is for the finalizer that clears a Trigger's place on the bus",
    ),
    Right(_EVENTS, ("eventbuses",), _READ, "what carries the events"),
    Right(_EVENTS, ("clustereventbuses",), _READ, "what carries the events", "cluster"),
    Right(
        _EVENTS,
        ("eventsources/status", "triggers/status", "eventbuses/status"),
        ("patch",),
        "conditions",
    ),
    Right(_EVENTS, ("clustereventbuses/status",), ("patch",), "conditions", "cluster"),
    Right(
        _EVENTS,
        ("eventsources/finalizers", "triggers/finalizers"),
        ("update",),
        "children block the deletion of their owner (blockOwnerDeletion)",
    ),
    Right(
        "",
        ("secrets",),
        _MAKE,
        "credentials that resources refer to, whose change must reach the workers; resolved "
        "specs that hold credentials are kept in Secrets",
    ),
    Right("", ("services",), _MAKE, "sinks that resources refer to; Services of webhooks"),
    Right("", ("configmaps",), _MAKE, "resolved specs without credentials"),
    Right("apps", ("deployments",), _MAKE, "the workers"),
    Right("", ("pods",), _READ, "why a worker is not ready"),
    Right("networking.k8s.io", ("networkpolicies",), _MAKE, "who reaches a worker"),
    Right(
        "networking.k8s.io",
        ("ingresses",),
        _MAKE,
        "webhooks that ask for one (expose.ingress): whoever may write EventSources has it made",
    ),
    Right("policy", ("poddisruptionbudgets",), _MAKE, "workers of several replicas"),
    Right(
        "gateway.networking.k8s.io",
        ("httproutes",),
        _MAKE,
        "webhooks that ask for one (expose.httpRoute)",
    ),
    Right(
        "dapr.io",
        ("components", "resiliencies", "subscriptions"),
        _MAKE,
        "what a worker's Dapr sidecar loads",
    ),
    Right(
        "keda.sh",
        ("scaledobjects", "triggerauthentications"),
        _MAKE,
        "scaling by lag, and how KEDA logs in to look at it",
    ),
    Right("serving.knative.dev", ("services",), _READ, "sinks that resources refer to"),
    Right("core.openfunction.io", ("functions",), _READ, "sinks that resources refer to"),
    Right(
        "apiextensions.k8s.io",
        ("customresourcedefinitions",),
        _READ,
        "whether KEDA, Dapr, Knative, OpenFunction and Gateway are there, as they come and go",
        "cluster",
    ),
    Right(
        kinds.WEBHOOK.group,
        (kinds.WEBHOOK.plural,),
        ("get", "patch"),
        "have the API server ask for admission; its certificate is made and renewed by us",
        "cluster",
        _ADMISSION,
    ),
    Right(
        kinds.WEBHOOK.group,
        (kinds.WEBHOOK.plural,),
        ("create",),
        "where it is not there yet; RBAC cannot narrow this verb to a name",
        "cluster",
    ),
    Right("events.k8s.io", ("events",), ("create",), "what changed, for kubectl describe"),
    Right(
        "",
        ("secrets",),
        ("get", "patch"),
        "the certificate of the admission webhook, shared by all controllers",
        "own",
        _ADMISSION,
    ),
    Right(
        "",
        ("secrets",),
        ("create",),
        "where it is not there yet; RBAC cannot narrow this verb to a name",
        "own",
    ),
    Right(
        "coordination.k8s.io",
        ("leases",),
        ("get", "create", "update"),
        "which of several controllers writes",
        "own",
    ),
)
