"""What the controller may do in a cluster, and why: the least that it works with.

`ofevents.install` makes the Roles from these lines, and no right is written anywhere
else. RBAC cannot tell an object that the controller owns from another of its kind: what
it may write it writes only under its own names, and refuses a foreign object.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ofevents.api.meta import GROUP

READ: Final = ("get", "list", "watch")
OWN: Final = (*READ, "create", "patch", "update", "delete")


class Right(NamedTuple):
    """One rule; `names` narrows it to objects of those names."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    reason: str
    names: tuple[str, ...] = ()


IN_NAMESPACES: Final = (
    Right(
        GROUP,
        ("eventsources", "triggers", "eventbuses"),
        (*READ, "patch", "update"),
        "what it makes run; it adds and takes away its finalizer",
    ),
    Right(
        GROUP,
        ("eventsources/status", "triggers/status", "eventbuses/status"),
        ("get", "patch", "update"),
        "tells how they are",
    ),
    Right(
        GROUP,
        ("eventsources/finalizers", "triggers/finalizers", "eventbuses/finalizers"),
        ("update",),
        "children block the deletion of their owner, where the API server checks that",
    ),
    Right("", ("pods",), READ, "why a worker does not start, and where its /status is"),
    Right("", ("secrets",), OWN, "reads what resources refer to; keeps specs with credentials"),
    Right("", ("configmaps",), OWN, "keeps the specs of workers"),
    Right("", ("services",), OWN, "finds sinks; makes those of webhooks"),
    Right("apps", ("deployments",), OWN, "the workers"),
    Right(
        "networking.k8s.io",
        ("networkpolicies", "ingresses"),
        OWN,
        "who may reach a worker; the way in to a webhook where it is asked for",
    ),
    Right("policy", ("poddisruptionbudgets",), OWN, "keeps one of several workers up"),
    Right("gateway.networking.k8s.io", ("httproutes",), OWN, "as an Ingress"),
    Right("dapr.io", ("components",), OWN, "the components of dapr buses, sources and sinks"),
    Right(
        "keda.sh", ("scaledobjects", "triggerauthentications"), OWN, "scales workers by their lag"
    ),
    Right("serving.knative.dev", ("services",), READ, "finds sinks"),
    Right("core.openfunction.io", ("functions",), READ, "finds sinks"),
    Right("", ("events",), ("create", "patch"), "tells what changed"),
    Right("events.k8s.io", ("events",), ("create", "patch"), "tells what changed"),
)
"""In every namespace that it looks after."""

AT_HOME: Final = (
    Right(
        "coordination.k8s.io",
        ("leases",),
        ("get", "list", "watch", "create", "patch", "update"),
        "one controller of several is active",
    ),
    Right(
        "",
        ("secrets",),
        ("get", "list", "watch", "create", "patch", "update"),
        "the certificate of the admission webhook, shared by its replicas",
    ),
    Right("events.k8s.io", ("events",), ("create", "patch"), "tells who became active"),
    Right("", ("events",), ("create", "patch"), "tells who became active"),
)
"""In the controller's own namespace."""

IN_THE_CLUSTER: Final = (
    Right(
        GROUP,
        ("clustereventbuses",),
        (*READ, "patch", "update"),
        "buses that several namespaces share; it adds and takes away its finalizer",
    ),
    Right(GROUP, ("clustereventbuses/status",), ("get", "patch", "update"), "tells how they are"),
    Right("", ("namespaces",), READ, "a namespace that is being deleted is not written to"),
    Right(
        "apiextensions.k8s.io",
        ("customresourcedefinitions",),
        READ,
        "notices when KEDA, Dapr or Knative are installed",
    ),
    Right(
        "admissionregistration.k8s.io",
        ("validatingwebhookconfigurations",),
        ("get", "patch", "update"),
        "writes its certificate's authority into its own",
        ("ofevents-controller",),
    ),
    Right(
        "admissionregistration.k8s.io",
        ("validatingwebhookconfigurations",),
        ("list", "watch"),
        "notices when its own was changed; these verbs cannot be narrowed to a name",
    ),
)
"""What has no namespace."""
