"""stand-in"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SecretUse:
    name: str
    key: str
    digest: str


@dataclass(frozen=True)
class Workload:
    spec: Any
    template: Any = None
    scale: Any = None
    secrets: Mapping[str, SecretUse] = field(default_factory=dict)


@dataclass(frozen=True)
class Owner:
    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    generation: int


@dataclass(frozen=True)
class Platform:
    image: str
    pull_policy: str = "IfNotPresent"
    keda: bool = False
    dapr: bool = False


@dataclass(frozen=True)
class Rendered:
    manifests: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...] = ()


def child_name(spec: Any) -> str:
    parts = [
        spec.kind,
        spec.name,
        getattr(spec, "source", ""),
        getattr(spec, "entry", ""),
        str(getattr(spec, "implicit", "")),
    ]
    return f"{spec.name}-{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:8]}"


def children(owner: Owner, workloads: Sequence[Workload], platform: Platform) -> Rendered:
    out = []
    for w in workloads:
        name = child_name(w.spec)
        labels = {"app.kubernetes.io/managed-by": "ofevents", "app.kubernetes.io/instance": name}
        meta = {
            "namespace": owner.namespace,
            "name": name,
            "labels": labels,
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
        text = w.spec.model_dump_json()
        digest = hashlib.sha256(
            json.dumps(
                [text, sorted((u.name, u.key, u.digest) for u in w.secrets.values())]
            ).encode()
        ).hexdigest()[:16]
        out.append(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"spec.json": text}}
        )
        out.append(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": meta,
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels, "annotations": {"h": digest}},
                        "spec": {
                            "containers": [
                                {
                                    "name": "worker",
                                    "image": platform.image,
                                    "ports": [{"name": "probes", "containerPort": 9090}],
                                }
                            ]
                        },
                    },
                },
            }
        )
    return Rendered(tuple(out))
