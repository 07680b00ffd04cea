"""What a worker's daprd loads, and where it runs: beside the worker, or in a Pod of its own.

The documents are those that the driver and the adapters look for (`bus/dapr_components`,
`api/dapr`). Each worker has components of its own, which no other app may load (`scopes`):
two workers' consumers never share a `consumerID`. No credential stands in a component: Dapr
reads it by `secretKeyRef` from the user's Secret, or from the one with the worker's spec.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from ofevents.api import dapr
from ofevents.api.eventsource import PodTemplate
from ofevents.api.resolved import HttpTarget, ResolvedSource
from ofevents.api.secretref import only
from ofevents.bus.dapr_components import manifests as bus_manifests
from ofevents.bus.dapr_options import DaprOptions
from ofevents.controller.render import network, pods
from ofevents.controller.render.document import is_credential
from ofevents.controller.render.names import (
    SPEC_HASH,
    apart,
    child_name,
    daprd_name,
    digest,
    labels,
    metadata,
)
from ofevents.controller.render.workload import Manifest, Owner, Platform, Spec, Workload
from ofevents.local.sidecars import needs as own_needs
from ofevents.resolve.resolution import needs

APP_PORT: Final = 50010
"""Where daprd calls the worker; its own ports are 3500 to 3501 and 50001 to 50002."""
_CALLS: Final = {
    "dapr.io/app-port": str(APP_PORT),
    "dapr.io/app-protocol": "grpc",
    # Without it, a daprd that waited long for its app hands nothing over.
    "dapr.io/enable-app-health-check": "true",
    "dapr.io/app-health-probe-interval": "1",
}
"""Of a daprd that calls its worker. Any other waits for no port: it would never be ready."""
_TOKENLESS: Final = {"dapr.io/disable-builtin-k8s-secret-store": "true"}
"""That store logs in to Kubernetes by the Pod's token, and daprd ends where there is none.
Nobody needs it: Dapr's operator fills the components, and its injector mounts daprd's identity."""
_PORTS: Final = {"grpc": 50001, "http": 3500}
_METRICS: Final = 9095
"""daprd's own default is the port of the worker's probes."""
_WAIT: Final = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); signal.pause()"
)
"""daprd is injected beside a container, which has nothing to do in a Pod of daprd's own."""


@dataclass(frozen=True)
class Sidecar:
    """What a worker that needs Dapr has: manifests, and additions to its Pod.

    Attributes:
        secrets: credentials that Dapr reads from the Secret with the worker's spec, by key.
    """

    manifests: tuple[Manifest, ...]
    annotations: dict[str, str]
    env: dict[str, str]
    ports: dict[str, int]
    secrets: dict[str, str]


def scoped(spec: Spec) -> Spec:
    """The spec whose bus names components that are this worker's alone, and that says where
    daprd calls it. A source only writes to its bus: it is called for what it reads."""
    if isinstance(spec, ResolvedSource) and own_needs(spec).reads:
        spec = spec.model_copy(update={"spec": {**spec.spec, "appPort": APP_PORT}})
    if spec.bus is None or spec.bus.driver != "dapr":
        return spec
    own: dict[str, Any] = {"scope": child_name(spec)}
    if not isinstance(spec, ResolvedSource):
        own["app_port"] = APP_PORT
        if spec.dapr_mode == "standalone":
            own["app_host"] = "0.0.0.0"
    bus = spec.bus.model_copy(update={"options": {**spec.bus.options, **own}})
    return spec.model_copy(update={"bus": bus})


def needed(spec: Spec) -> bool:
    """Whether it has a daprd at all."""
    on_bus = spec.bus is not None and spec.bus.driver == "dapr"
    return on_bus or bool(own_needs(spec).manifests) or _invokes(spec)


def sidecar(
    owner: Owner, workload: Workload, platform: Platform, *, scaled: bool = False
) -> Sidecar | None:
    """What it needs of Dapr; None for a worker that needs none. Its spec is `scoped`.

    Args:
        scaled: it sleeps with its worker, where it has a Pod of its own.
    """
    spec = workload.spec
    own = own_needs(spec)
    found, called = list(own.manifests), own.reads
    if spec.bus is not None and spec.bus.driver == "dapr":
        options = DaprOptions.model_validate(spec.bus.options)
        found += bus_manifests(options, spec.bus.name, needs(spec).consumers)
        called |= options.bulk
    if not needed(spec):
        return None
    app = child_name(spec)
    secrets: dict[str, str] = {}
    rendered = [_resource(owner, spec, each, app, secrets) for each in found]
    annotations = {
        "dapr.io/enabled": "true",
        "dapr.io/app-id": app,
        **_TOKENLESS,
        **(_CALLS if called else {}),
        "dapr.io/log-as-json": "true",
        "dapr.io/metrics-port": str(_METRICS),
        "dapr.io/graceful-shutdown-seconds": str(pods.grace(spec) - 5),
    }
    ports = {network.DAPR: APP_PORT} if called else {}
    if spec.dapr_mode != "standalone":
        # The sidecar calls over the Pod's loopback, which no policy closes.
        return Sidecar(tuple(rendered), annotations, {}, {}, secrets)
    proxy = daprd_name(app)
    env = {
        "DAPR_HOST": proxy,
        "DAPR_GRPC_PORT": "50001",
        "DAPR_HTTP_PORT": "3500",
        "DAPR_GRPC_ENDPOINT": f"http://{proxy}:50001",
    }
    elsewhere = {**annotations, "dapr.io/sidecar-listen-addresses": "0.0.0.0"}
    if called:
        elsewhere["dapr.io/app-channel-address"] = f"{app}-app"
        worker = {name: labels(owner, spec)[name] for name in apart(spec)}
        service = _service(metadata(owner, spec, f"{app}-app"), worker, {"grpc": APP_PORT})
        rendered.append(service)
    # It reads its components' credentials when it starts.
    used = sorted((each.name, each.key, each.digest) for each in workload.secrets.values())
    elsewhere[SPEC_HASH] = digest([found, used])
    rendered += _standalone(owner, workload, platform, elsewhere, scaled)
    return Sidecar(tuple(rendered), {}, env, ports, secrets)


def _invokes(spec: Spec) -> bool:
    parts = [spec] if isinstance(spec, ResolvedSource) else spec.subscribers
    return any(
        isinstance(each, HttpTarget) and each.uri.startswith(dapr.SCHEME)
        for part in parts
        for each in (part.target, part.dead_letter)
    )


def _resource(
    owner: Owner, spec: Spec, manifest: Manifest, app: str, secrets: dict[str, str]
) -> Manifest:
    """As an object of the cluster: ours, for that app, credentials by reference; those that
    are no reference yet are added to `secrets`."""
    body = {**manifest["spec"]}
    found = {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": metadata(owner, spec, manifest["metadata"]["name"]),
        "spec": body,
        "scopes": [app],
    }
    if manifest["kind"] == "Component":
        named = manifest["metadata"]["name"]
        body["metadata"] = [_setting(named, app, one, secrets) for one in body["metadata"]]
        found["auth"] = {"secretStore": "kubernetes"}
    return found


def _setting(
    component: str, app: str, given: dict[str, Any], secrets: dict[str, str]
) -> dict[str, Any]:
    """A setting as the cluster has it; Dapr's operator puts the value in."""
    name, value = given["name"], given["value"]
    ref = only(value)
    if ref is None:
        if not is_credential(name, value):
            return given
        ref = app, f"dapr-{digest([component, name], 16)}"
        secrets[ref[1]] = value if isinstance(value, str) else json.dumps(value)
    return {"name": name, "secretKeyRef": {"name": ref[0], "key": ref[1]}}


def _standalone(
    owner: Owner, workload: Workload, platform: Platform, annotations: dict[str, str], scaled: bool
) -> list[Manifest]:
    """A daprd of the worker's in a Pod of its own, and the ways between the two."""
    spec = workload.spec
    app = child_name(spec)
    name = daprd_name(app)
    chosen = apart(spec)
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "containers": [
            {
                "name": "dapr",
                "image": platform.image,
                "imagePullPolicy": platform.pull_policy,
                "command": ["python3", "-c", _WAIT],
                "resources": {
                    "requests": {"cpu": "10m", "memory": "16Mi"},
                    "limits": {"memory": "64Mi"},
                },
                "securityContext": pods.locked(),
            }
        ],
        "securityContext": pods.unprivileged(),
        "terminationGracePeriodSeconds": pods.grace(spec),
    }
    pod |= pods.placement(workload.template or PodTemplate())
    if workload.template is not None:
        # Such as dapr.io/config: it is daprd's, wherever that is.
        given = workload.template.annotations.items()
        asked = {name: value for name, value in given if name.startswith("dapr.io/")}
        annotations = {**asked, **annotations}
    own = metadata(owner, spec, name)
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": own,
        "spec": {
            **({} if scaled else {"replicas": 1}),
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": chosen},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": {
                "metadata": {"labels": {**labels(owner, spec), **chosen},
                             "annotations": annotations},
                "spec": pod,
            },
        },
    }  # fmt: skip
    return [
        deployment,
        network.dapr_policy(own, spec, _PORTS.values(), _METRICS),
        _service(own, chosen, _PORTS),
    ]


def _service(own: dict[str, Any], selector: dict[str, str], ports: dict[str, int]) -> Manifest:
    """One of the two ways; each end is ready only after it has reached the other."""
    listed = [
        {"name": name, "port": number, "targetPort": number, "protocol": "TCP"}
        for name, number in ports.items()
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": own,
        "spec": {
            "selector": selector,
            "ports": listed,
            "type": "ClusterIP",
            "publishNotReadyAddresses": True,
        },
    }
