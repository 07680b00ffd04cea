"""What children are called, and what they carry so that they are found again.

A name is at most 52 characters, so that those of its Pods, Services and labels fit into 63.
It always ends in a hash of the whole identity: `my.orders` and `my-orders`, an EventSource
and a Trigger of one name, a Trigger and the implicit one of an EventSource never share one.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from ofevents.api.resolved import ResolvedSource
from ofevents.controller.render.workload import Owner, Spec

GROUP: Final = "events.openfunction.io"
HASH: Final = f"{GROUP}/hash"
"""Annotation of a child: of all that was rendered of it."""
SPEC_HASH: Final = f"{GROUP}/spec-hash"
"""Annotation of a Pod: of its spec and its Secrets, so that a change of either rolls."""
SINCE: Final = f"{GROUP}/since"
"""Annotation of a Trigger's Deployment: its bus, and since when it reads each topic there."""
_UNSAFE: Final = re.compile(r"[^a-z0-9]+")
_READABLE: Final = 41
_LABEL: Final = 63


def child_name(spec: Spec) -> str:
    """The name of a worker's Deployment; its other children have it, or begin with it and `-`."""
    if isinstance(spec, ResolvedSource):
        return entry_name(spec.name, spec.source, spec.entry)
    readable = f"{spec.name}-sink" if spec.implicit else spec.name
    return _bounded(readable, spec.kind, spec.name, "implicit" if spec.implicit else "")


def entry_name(name: str, source: str, entry: str) -> str:
    """The `child_name` of an EventSource's entry, which may be there no more."""
    return _bounded(f"{name}-{entry}", "EventSource", name, source, entry)


def _bounded(readable: str, *identity: str) -> str:
    # The pieces are a list, so that no two lists run together into one text.
    slug = _UNSAFE.sub("-", readable.lower()).strip("-")[:_READABLE].rstrip("-")
    if not slug[:1].isalpha():
        slug = f"w{slug}"[:_READABLE]  # a Service's name begins with a letter
    return f"{slug}-{digest(identity, 10)}"


def digest(value: Any, length: int = 32) -> str:
    """A hash of a JSON value; the same for the same value, in whatever order its keys are."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def selector(spec: Spec) -> dict[str, str]:
    """What a worker's Pods are known by; it never changes, as a Deployment's may not."""
    return {"app.kubernetes.io/name": "ofevents", "app.kubernetes.io/instance": child_name(spec)}


def daprd_name(name: str) -> str:
    """The name of a daprd in a Pod of its own, from that of its worker."""
    return f"{name}-dapr"


def apart(spec: Spec) -> dict[str, str]:
    """What the Pod of a worker's daprd is known by, where that has one of its own."""
    return {**selector(spec), "app.kubernetes.io/name": "ofevents-dapr"}


def labels(owner: Owner, spec: Spec) -> dict[str, str]:
    """Of every child and Pod of a worker."""
    component = "source" if isinstance(spec, ResolvedSource) else "trigger"
    return {
        **selector(spec),
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/managed-by": "ofevents",
        "app.kubernetes.io/part-of": _label(owner.name),
        f"{GROUP}/owner-kind": owner.kind,
        f"{GROUP}/owner-name": _label(owner.name),
    }


def _label(name: str) -> str:
    """A resource's name may be longer than a label's value."""
    return name if len(name) <= _LABEL else f"{name[:52].rstrip('-.')}-{digest(name, 10)}"


def metadata(owner: Owner, spec: Spec, name: str) -> dict[str, Any]:
    """The metadata of a child of that name."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": labels(owner, spec),
        "ownerReferences": [
            {
                "apiVersion": owner.api_version,
                "kind": owner.kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def stamped(manifest: dict[str, Any]) -> dict[str, Any]:
    """With the hash of what it is."""
    own = manifest["metadata"]
    annotations = {**own.get("annotations", {}), HASH: digest(manifest)}
    return {**manifest, "metadata": {**own, "annotations": annotations}}
