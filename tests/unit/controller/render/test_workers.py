"""What several workers share, what must be one, and who reaches a daprd of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ofevents.api.eventsource import PodTemplate
from ofevents.api.meta import ScaleOption
from ofevents.api.resolved import HttpTarget, ResolvedSource, SinkTarget
from ofevents.controller.render import Owner, Platform, Workload, child_name, children
from tests.unit.controller.render.samples import DAPR, trigger

OWNER = Owner("events.openfunction.io/v1alpha1", "EventSource", "shop", "orders", "uid-1", 3)
CLOCK = {"start": "0 8 * * *", "end": "0 9 * * *", "timezone": "UTC", "desiredReplicas": "3"}


def cron(entry: str = "tick", **more: Any) -> ResolvedSource:
    given: dict[str, Any] = {"spec": {"schedule": "@daily"}, **more}
    return ResolvedSource(namespace="shop", name="orders", source="cron", entry=entry, **given)


def render(*workloads: Workload, keda: bool = True) -> tuple[Any, ...]:
    platform = Platform(image="ofevents:1", keda=keda, dapr=True)
    return children(OWNER, workloads, platform).manifests


def named(manifests: tuple[Any, ...], kind: str) -> dict[str, Any]:
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


def test_a_component_that_two_workers_call_does_not_depend_on_their_order() -> None:
    component = {"type": "bindings.http", "version": "v1", "metadata": []}
    target = SinkTarget(sink="dapr", spec={"component": component, "componentName": "ofe-sink"})
    workloads = [Workload(cron(entry, target=target)) for entry in ("a", "b")]
    manifests = render(*workloads)
    assert json.dumps(manifests) == json.dumps(render(*reversed(workloads)))
    scopes = named(manifests, "Component")["ofe-sink"]["scopes"]
    assert scopes == [child_name(each.spec) for each in workloads]


@pytest.mark.parametrize("metadata", [None, CLOCK], ids=["plain", "clock"])
@pytest.mark.parametrize("keda", [True, False])
def test_a_source_that_must_be_one_is_never_two(keda: bool, metadata: Any) -> None:
    asked = ScaleOption(min_replica_count=2, max_replica_count=5, metadata=metadata)
    manifests = render(Workload(cron(), None, asked), keda=keda)
    by_the_clock = named(manifests, "ScaledObject")
    assert bool(by_the_clock) is (keda and metadata is not None)
    for scaled in by_the_clock.values():
        assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (1, 1)
    (deployment,) = named(manifests, "Deployment").values()
    assert deployment["spec"].get("replicas", 1) == 1
    assert not named(manifests, "PodDisruptionBudget")


def test_a_daprd_of_its_own_is_reached_by_its_worker_alone() -> None:
    spec = trigger(bus=DAPR, dapr_mode="standalone")
    manifests = render(Workload(spec, PodTemplate(annotations={"dapr.io/config": "mine"})))
    app = child_name(spec)
    services = named(manifests, "Service")
    assert set(services) == {f"{app}-app", f"{app}-dapr"}
    # Neither becomes ready before it has reached the other.
    assert all(each["spec"]["publishNotReadyAddresses"] for each in services.values())
    deployments = named(manifests, "Deployment")
    policies = named(manifests, "NetworkPolicy")
    assert set(policies) == set(deployments) == {app, f"{app}-dapr"}
    for name, other, guarded in (
        (app, f"{app}-dapr", {50010}),
        (f"{app}-dapr", app, {50001, 3500}),
    ):
        policy = policies[name]["spec"]
        own, pod = (deployments[each]["spec"]["template"]["metadata"] for each in (name, other))
        assert policy["podSelector"]["matchLabels"].items() <= own["labels"].items()
        for rule in policy["ingress"]:
            ports = {each["port"] for each in rule["ports"]}
            if ports & guarded:
                (sender,) = rule["from"]
                assert sender["podSelector"]["matchLabels"].items() <= pod["labels"].items()
        assert guarded <= {p["port"] for rule in policy["ingress"] for p in rule["ports"]}
    daprd = deployments[f"{app}-dapr"]["spec"]["template"]["metadata"]["annotations"]
    assert daprd["dapr.io/config"] == "mine"


READ = {"component": {"type": "pubsub.kafka", "version": "v1", "metadata": []}, "topic": "x"}


@pytest.mark.parametrize(
    ("spec", "called"),
    [
        (trigger(bus=DAPR), True),
        (cron(bus=DAPR), False),  # it only writes to the bus
        (cron(target=HttpTarget(uri="dapr://shop/in")), False),
        (cron().model_copy(update={"source": "dapr", "spec": READ}), True),
    ],
    ids=["trigger", "writes", "invokes", "reads"],
)
@pytest.mark.parametrize("mode", ["sidecar", "standalone"])
def test_daprd_waits_for_the_port_of_a_worker_that_opens_one(
    spec: Any, called: bool, mode: str
) -> None:
    manifests = render(Workload(spec.model_copy(update={"dapr_mode": mode})))
    (asked,) = (
        found
        for each in named(manifests, "Deployment").values()
        if "dapr.io/enabled"
        in (found := each["spec"]["template"]["metadata"].get("annotations", {}))
    )
    assert ("dapr.io/app-port" in asked) is called
    assert ("dapr.io/enable-app-health-check" in asked) is called
    if spec.kind == "EventSource":
        (held,) = named(manifests, "ConfigMap").values()
        assert ("50010" in held["data"]["spec.json"]) is called


def test_a_component_stays_open_to_a_worker_that_runs_on() -> None:
    component = {"type": "bindings.http", "version": "v1", "metadata": []}
    target = SinkTarget(sink="dapr", spec={"component": component, "componentName": "ofe-sink"})
    platform = Platform(image="ofevents:1", dapr=True)
    worker = Workload(cron("a", target=target))
    rendered = children(OWNER, [worker], platform, {"ofe-sink": ["blocked"], "other": ["x"]})
    scopes = named(rendered.manifests, "Component")["ofe-sink"]["scopes"]
    assert scopes == sorted(["blocked", child_name(worker.spec)])


def test_a_daprd_of_its_own_is_rolled_with_its_credentials() -> None:
    def annotations(password: str) -> Any:
        metadata = [{"name": "password", "value": password}]
        component = {"type": "bindings.http", "version": "v1", "metadata": metadata}
        target = SinkTarget(sink="dapr", spec={"component": component, "componentName": "ofe-sink"})
        spec = cron("a", target=target, dapr_mode="standalone")
        daprd = named(render(Workload(spec)), "Deployment")[f"{child_name(spec)}-dapr"]
        return daprd["spec"]["template"]["metadata"]["annotations"]

    assert annotations("one") != annotations("two")
    assert annotations("one") == annotations("one")


@pytest.mark.parametrize("mode", ["sidecar", "standalone"])
def test_daprd_does_without_a_token(mode: str) -> None:
    """Its secret store would log in by the Pod's, and end daprd where there is none."""
    manifests = render(Workload(trigger(bus=DAPR, dapr_mode=mode)))
    templates = [each["spec"]["template"] for each in named(manifests, "Deployment").values()]
    assert [each["spec"]["automountServiceAccountToken"] for each in templates] == [
        False for _ in templates
    ]
    asked = [each["metadata"]["annotations"] for each in templates]
    (beside,) = (each for each in asked if "dapr.io/enabled" in each)
    assert beside["dapr.io/disable-builtin-k8s-secret-store"] == "true"
