"""A worker's Deployment: one container that needs no rights, no root and no writable disk.

It rolls without a gap (one more Pod before one less): Pods of one worker share their work or
have leases. Only a source that must be one and has no bus for a lease ends before it begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from ofevents.api.eventsource import PodTemplate
from ofevents.api.resolved import ResolvedSource, ResolvedTrigger
from ofevents.controller.render import document
from ofevents.controller.render.names import (
    SINCE,
    SPEC_HASH,
    child_name,
    digest,
    labels,
    metadata,
    selector,
)
from ofevents.controller.render.workload import PORT, Manifest, Owner, Platform, Spec, Workload

_EXACTLY_ONE: Final = ("cron", "file", "kubernetes")
_USER: Final = 65532
_DRAIN: Final = 30
"""Seconds for a worker to settle what it has in hand, beside the call that it waits for."""
_ACCOUNT: Final = {"serviceAccountName": "default"}
"""Said, as it cannot be taken back: where an apply leaves it out, the API server goes on with
the old one, which it also keeps under the field's former name."""
_RESOURCES: Final = {
    "requests": {"cpu": "50m", "memory": "96Mi"},
    "limits": {"memory": "512Mi"},
}


def exactly_one(spec: Spec) -> bool:
    """A source of which two at a time would emit everything twice."""
    return isinstance(spec, ResolvedSource) and spec.source in _EXACTLY_ONE and spec.bus is None


def deployment(
    owner: Owner,
    workload: Workload,
    platform: Platform,
    child: Manifest,
    *,
    replicas: int | None,
    annotations: dict[str, str],
    env: dict[str, str],
    ports: dict[str, int],
) -> Manifest:
    """The Deployment.

    Args:
        child: the ConfigMap or Secret of the spec.
        replicas: None where an autoscaler owns the number.
        annotations, env, ports: what the Pods have beside their own.
    """
    spec = workload.spec
    template = workload.template or PodTemplate()
    strategy: dict[str, Any] = {"type": "Recreate"}
    if not exactly_one(spec):
        rolling = {"maxSurge": 1, "maxUnavailable": 0}
        strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    rendered: dict[str, Any] = {
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": selector(spec)},
        "strategy": strategy,
        "template": {
            "metadata": {
                "labels": {**template.labels, **labels(owner, spec)},
                "annotations": {
                    **template.annotations,
                    **annotations,
                    SPEC_HASH: _content(workload, child),
                },
            },
            "spec": _pod(workload, template, platform, child, env, ports),
        },
    }
    if replicas is not None:
        rendered["replicas"] = replicas
    own = metadata(owner, spec, child_name(spec))
    if isinstance(spec, ResolvedTrigger) and spec.since:
        kept = {"bus": spec.bus.name, "topics": spec.since}
        own["annotations"] = {SINCE: json.dumps(kept, sort_keys=True)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": own, "spec": rendered}


def _content(workload: Workload, child: Manifest) -> str:
    used = sorted((each.name, each.key, each.digest) for each in workload.secrets.values())
    return digest([child["data"], used])


def _pod(
    workload: Workload,
    template: PodTemplate,
    platform: Platform,
    child: Manifest,
    env: dict[str, str],
    ports: dict[str, int],
) -> dict[str, Any]:
    spec = workload.spec
    volumes, mounts = _volumes(workload, child)
    verb = "source" if isinstance(spec, ResolvedSource) else "trigger"
    container: dict[str, Any] = {
        "name": "worker",
        "image": platform.image,
        "imagePullPolicy": platform.pull_policy,
        "args": [verb, "-f", f"{document.FOLDER}/{document.FILE}", "--host", "0.0.0.0",
                 "--port", str(PORT), "--log-format", "json"],
        "ports": [
            {"name": name, "containerPort": number, "protocol": "TCP"}
            for name, number in {"probes": PORT, **ports}.items()
        ],
        "startupProbe": _probe("/healthz", period=2, failures=60),
        "livenessProbe": _probe("/healthz", period=10, failures=6),
        "readinessProbe": _probe("/readyz", period=5, failures=2),
        "resources": template.resources or _RESOURCES,
        "securityContext": locked(),
        # So that the status of the resource can say why it ended.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }  # fmt: skip
    if env:
        container["env"] = [{"name": name, "value": value} for name, value in env.items()]
    rights = isinstance(spec, ResolvedSource) and spec.source == "kubernetes"
    pod: dict[str, Any] = {
        "automountServiceAccountToken": rights,
        "containers": [container],
        "securityContext": unprivileged(),
        "terminationGracePeriodSeconds": grace(spec),
        "volumes": volumes,
    }
    return pod | placement(template)


def placement(template: PodTemplate) -> dict[str, Any]:
    """What a resource says of where and as whom its Pods run; the rest is ours."""
    given = template.model_dump(mode="json", by_alias=True, exclude_none=True)
    found = {name: given[name] for name in sorted(given)
             if name not in ("labels", "annotations", "resources") and given[name]}  # fmt: skip
    return _ACCOUNT | found


def grace(spec: Spec) -> int:
    """Seconds that a Pod may take to end: its longest call, and what it has in hand."""
    settings = [spec.delivery] if isinstance(spec, ResolvedSource) else [
        each.delivery for each in spec.subscribers
    ]  # fmt: skip
    return _DRAIN + int(max((each.timeout for each in settings), default=0.0)) + 1


def locked() -> dict[str, Any]:
    """The security context of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def unprivileged() -> dict[str, Any]:
    """The security context of a Pod: the `restricted` standard."""
    return {
        "fsGroup": _USER,
        "runAsGroup": _USER,
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "probes"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _volumes(workload: Workload, child: Manifest) -> tuple[list[Any], list[Any]]:
    """The spec, the used keys of the user's Secrets, and a place for temporary files."""
    name = child["metadata"]["name"]
    items = [{"key": document.FILE, "path": document.FILE}]
    held: dict[str, Any] = {"configMap": {"name": name, "items": items}}
    if child["kind"] == "Secret":
        held = {"secret": {"secretName": name, "items": items}}
    volumes = [{"name": "spec", **held}, {"name": "tmp", "emptyDir": {}}]
    mounts = [
        {"name": "spec", "mountPath": document.FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    used: dict[str, list[str]] = {}
    for one in workload.secrets.values():
        used.setdefault(one.name, []).append(one.key)
    if used:
        # One projected volume: a Secret's name may be longer than a volume's.
        sources = [_projected(name, keys) for name, keys in sorted(used.items())]
        volumes.append({"name": "secrets", "projected": {"sources": sources}})
        mounts.append({"name": "secrets", "mountPath": document.SECRETS, "readOnly": True})
    return volumes, mounts


def _projected(name: str, keys: Iterable[str]) -> dict[str, Any]:
    items = [{"key": key, "path": f"{name}/{key}"} for key in sorted(set(keys))]
    return {"secret": {"name": name, "items": items}}


def text_of(spec: Spec) -> dict[str, Any]:
    """The spec as JSON values, with what is the default: that may be another one in a release
    to come."""
    found: dict[str, Any] = json.loads(spec.model_dump_json())
    return found
