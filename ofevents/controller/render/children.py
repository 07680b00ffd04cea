"""The children of an EventSource or Trigger: all manifests of all of its workers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from ofevents.api.meta import ScaleOption
from ofevents.api.resolved import ResolvedSource
from ofevents.controller.render import dapr, network, pods, scale
from ofevents.controller.render.document import document
from ofevents.controller.render.names import child_name, stamped
from ofevents.controller.render.workload import Manifest, Owner, Platform, Rendered, Workload

_ORDER: Final = (
    "Secret",
    "ConfigMap",
    "Component",
    "Resiliency",
    "Subscription",
    "NetworkPolicy",
    "Service",
    "Deployment",
    "PodDisruptionBudget",
    "Ingress",
    "HTTPRoute",
    "TriggerAuthentication",
    "ScaledObject",
)
"""What a Pod needs is there before the Pod."""
_KEDA_MOST: Final = 100
"""Where `maxReplicaCount` is not given."""


def children(
    owner: Owner,
    workloads: Sequence[Workload],
    platform: Platform,
    also: Mapping[str, Collection[str]] | None = None,
) -> Rendered:
    """What shall be there for that owner, whatever the order of `workloads`.

    Args:
        also: Dapr component -> workers that load it and are not rendered now, but run on.
    """
    found: dict[tuple[str, str], Manifest] = {}
    warnings: dict[tuple[str, str], None] = {}
    for workload in sorted(workloads, key=lambda one: child_name(one.spec)):
        manifests, told = _worker(owner, workload, platform)
        warnings.update(dict.fromkeys(told))
        for each in manifests:
            key = each["kind"], each["metadata"]["name"]
            # A sink's component is the same for all entries that call it.
            if "scopes" in each:
                others = {*found.get(key, each)["scopes"], *(also or {}).get(key[1], ())}
                each = {**found.get(key, each), "scopes": sorted({*others, *each["scopes"]})}
            found[key] = each
    ordered = sorted(found.values(), key=_place)
    return Rendered(tuple(map(stamped, ordered)), tuple(sorted(warnings)))


def _place(manifest: Manifest) -> tuple[int, str]:
    return _ORDER.index(manifest["kind"]), manifest["metadata"]["name"]


def _worker(
    owner: Owner, workload: Workload, platform: Platform
) -> tuple[list[Manifest], list[tuple[str, str]]]:
    workload = replace(workload, spec=dapr.scoped(workload.spec), scale=_bounded(workload))
    spec = workload.spec
    warnings: list[tuple[str, str]] = []
    found: list[Manifest] = []
    annotations: dict[str, str] = {}
    env: dict[str, str] = {}
    ports: dict[str, int] = {}
    text = pods.text_of(spec)

    if (port := network.webhook_port(spec)) is not None:
        ports["webhook"] = port
        text["spec"] = {**text["spec"], "host": "0.0.0.0", "port": port}
        assert isinstance(spec, ResolvedSource)
        found += [network.service(owner, spec, port)]
        ways, trouble = _ways_in(owner, workload, platform)
        found += ways
        warnings += trouble

    extra: dict[str, str] = {}
    replicas, scaled, trouble = _scaling(owner, workload, platform)
    warnings += trouble
    if (sidecar := dapr.sidecar(owner, workload, platform, scaled=scaled.sleeps)) is not None:
        annotations, env = sidecar.annotations, sidecar.env
        ports |= sidecar.ports
        if platform.dapr:
            found += sidecar.manifests
            extra |= sidecar.secrets
        else:
            warnings.append(("DaprNotInstalled", "this cluster has no Dapr, which is needed here"))

    found += scaled.manifests
    child = document(owner, spec, text, {**extra, **scaled.secrets})
    found.append(child)
    found.append(network.policy(owner, spec, ports))
    found.append(
        pods.deployment(
            owner,
            workload,
            platform,
            child,
            replicas=replicas,
            annotations=annotations,
            env=env,
            ports=ports,
        )
    )
    if (_most(workload) if replicas is None else replicas) > 1:
        found.append(network.budget(owner, spec))
    return found, warnings


def _most(workload: Workload) -> int:
    """How many Pods KEDA may make of it."""
    most = workload.scale.max_replica_count if workload.scale is not None else None
    return most or _KEDA_MOST


def _ways_in(
    owner: Owner, workload: Workload, platform: Platform
) -> tuple[list[Manifest], list[tuple[str, str]]]:
    """A webhook's ways in from outside the cluster, where they are asked for."""
    asked, found = workload.expose, []
    if asked is not None and asked.ingress is not None:
        found.append(network.ingress(owner, workload.spec, asked.ingress))
    if asked is not None and asked.http_route is not None:
        if not platform.gateway:
            told = "httpRoute needs the Gateway API, which this cluster has not: there is no route"
            return found, [("GatewayNotInstalled", told)]
        found.append(network.route(owner, workload.spec, asked.http_route))
    return found, []


def _bounded(workload: Workload) -> ScaleOption | None:
    """What is asked for, but no two of a source that must be one."""
    scale = workload.scale
    if scale is None or not pods.exactly_one(workload.spec):
        return scale
    least = min(scale.min_replica_count or 0, 1)
    return scale.model_copy(update={"min_replica_count": least, "max_replica_count": 1})


def _scaling(
    owner: Owner, workload: Workload, platform: Platform
) -> tuple[int | None, scale.Scaling, list[tuple[str, str]]]:
    """The Deployment's number of Pods (None: KEDA's to say), and what KEDA is told."""
    option, none = workload.scale, scale.Scaling()
    if option is None or workload.spec.suspend:
        return 1, none, []
    plain = max(option.min_replica_count or 0, 1)
    if not platform.keda:
        told = "scaleOption needs KEDA, which this cluster has not: the number of workers is fixed"
        return plain, none, [("KEDANotInstalled", told)]
    spec = workload.spec
    apart = spec.dapr_mode == "standalone" and platform.dapr and dapr.needed(spec)
    made = scale.scaling(owner, spec, option, apart=apart)
    if not made.manifests:
        return plain, none, [("NotScaled", made.trouble)]
    return None, made, [("KeptAwake", made.trouble)] if made.trouble else []
