"""Rendering by itself: names, stability, and what each child says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofevents.api.eventsource import PodTemplate
from ofevents.api.meta import ScaleOption
from ofevents.api.resolved import HttpTarget
from ofevents.api.secretref import marker
from ofevents.api.webhook import Expose, HttpRoute, Ingress
from ofevents.controller.render import (
    Platform,
    Rendered,
    Workload,
    child_name,
    children,
)
from tests.unit.controller.render.samples import (
    DAPR,
    JETSTREAM,
    OWNER,
    PLATFORM,
    kafka,
    source,
    trigger,
    used,
    webhook,
)

LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")


def render(*workloads: Workload, platform: Platform = PLATFORM) -> Rendered:
    return children(OWNER, workloads, platform)


def one(rendered: Rendered, kind: str) -> Any:
    found = [each for each in rendered.manifests if each["kind"] == kind]
    assert len(found) == 1, [each["kind"] for each in rendered.manifests]
    return found[0]


def kinds(rendered: Rendered) -> list[str]:
    return [each["kind"] for each in rendered.manifests]


# -- names -----------------------------------------------------------------------------------

NAMES = st.from_regex(r"\A[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
ENTRIES = st.text(min_size=1, max_size=80)
SPECS = st.one_of(
    st.builds(
        lambda name, kind, entry: source(kind, entry).model_copy(update={"name": name}),
        NAMES,
        st.sampled_from(["kafka", "cron"]),
        ENTRIES,
    ),
    st.builds(lambda name, implicit: trigger(name, implicit=implicit), NAMES, st.booleans()),
)


@settings(max_examples=50, deadline=None)
@given(SPECS)
def test_a_name_is_a_short_dns_label(spec: Any) -> None:
    name = child_name(spec)
    assert len(name) <= 52
    assert LABEL.match(name)


@settings(max_examples=100, deadline=None)
@given(SPECS, SPECS)
def test_two_workers_never_share_a_name(one: Any, other: Any) -> None:
    def identity(spec: Any) -> Any:
        entry = (spec.source, spec.entry) if spec.kind == "EventSource" else (spec.implicit,)
        return spec.kind, spec.name, entry

    assert (child_name(one) == child_name(other)) == (identity(one) == identity(other))


def test_names_that_differ_in_punctuation_only_do_not_clash() -> None:
    punctuated = [source(entry=each) for each in ("a.b", "a-b", "a_b", "A-B")]
    alike = [trigger("orders"), trigger("orders", implicit=True), source(entry="sink")]
    long = [trigger("o" * 60), trigger("o" * 60, implicit=True), trigger("o" * 61)]
    names = [child_name(each) for each in (*punctuated, *alike, *long)]
    assert len(set(names)) == len(names)


# -- the whole -------------------------------------------------------------------------------


def test_the_same_input_makes_the_same_bytes_in_whatever_order() -> None:
    workloads = [Workload(kafka()), Workload(webhook()), Workload(trigger())]
    first = json.dumps(render(*workloads).manifests)
    assert first == json.dumps(render(*workloads).manifests)
    assert first == json.dumps(render(*reversed(workloads)).manifests)


def test_every_child_says_whose_it_is_and_what_it_is() -> None:
    rendered = render(Workload(webhook()), Workload(trigger(), None, ScaleOption()))
    for each in rendered.manifests:
        metadata = each["metadata"]
        assert metadata["ownerReferences"][0]["uid"] == "uid-1"
        assert metadata["ownerReferences"][0]["controller"] is True
        assert metadata["labels"]["events.openfunction.io/owner-name"] == "orders"
        assert len(metadata["annotations"]["events.openfunction.io/hash"]) == 32


def test_what_a_pod_needs_comes_before_it() -> None:
    found = kinds(render(Workload(webhook())))
    assert found == ["ConfigMap", "NetworkPolicy", "Service", "Deployment"]


# -- the Deployment --------------------------------------------------------------------------


def pod(rendered: Rendered) -> Any:
    return one(rendered, "Deployment")["spec"]["template"]["spec"]


def test_a_pod_has_no_rights() -> None:
    rendered = pod(render(Workload(kafka())))
    assert rendered["automountServiceAccountToken"] is False
    assert rendered["securityContext"]["runAsNonRoot"] is True
    container = rendered["containers"][0]["securityContext"]
    assert container["readOnlyRootFilesystem"] is True
    assert container["capabilities"] == {"drop": ["ALL"]}
    watching = source("kubernetes", spec={"apiVersion": "v1", "kind": "Pod"})
    assert pod(render(Workload(watching)))["automountServiceAccountToken"] is True


@pytest.mark.parametrize(
    ("spec", "strategy"),
    [
        (source(), "RollingUpdate"),
        (source(bus=None), "Recreate"),
        (source("file", bus=None), "Recreate"),
        (source("kubernetes", bus=None), "Recreate"),
        (source("webhook", bus=None, spec={"path": "/in"}), "RollingUpdate"),
        (trigger(), "RollingUpdate"),
    ],
)
def test_only_what_must_be_one_and_has_no_lease_is_recreated(spec: Any, strategy: str) -> None:
    assert one(render(Workload(spec)), "Deployment")["spec"]["strategy"]["type"] == strategy


def test_an_edit_and_a_rotated_secret_roll() -> None:
    def hash_of(workload: Workload) -> str:
        template = one(render(workload), "Deployment")["spec"]["template"]
        return template["metadata"]["annotations"]["events.openfunction.io/spec-hash"]

    spec = kafka(saslPassword=marker("kafka", "password"))
    before = Workload(spec, secrets=used(("kafka", "password")))
    rotated = {name: replace(use, digest="other") for name, use in before.secrets.items()}
    assert hash_of(before) == hash_of(Workload(spec, secrets=used(("kafka", "password"))))
    assert hash_of(before) != hash_of(replace(before, secrets=rotated))
    assert hash_of(before) != hash_of(replace(before, spec=kafka(topic="other")))


def test_the_template_is_added_and_takes_nothing_away() -> None:
    template = PodTemplate(
        labels={"team": "shop", "app.kubernetes.io/instance": "mine"},
        annotations={"note": "x"},
        resources={"limits": {"memory": "1Gi"}},
        node_selector={"disk": "ssd"},
        service_account_name="shop",
    )
    deployment = one(render(Workload(kafka(), template)), "Deployment")
    metadata = deployment["spec"]["template"]["metadata"]
    assert metadata["labels"]["team"] == "shop"
    assert deployment["spec"]["selector"]["matchLabels"].items() <= metadata["labels"].items()
    rendered = pod(render(Workload(kafka(), template)))
    assert rendered["nodeSelector"] == {"disk": "ssd"}
    assert rendered["serviceAccountName"] == "shop"
    assert rendered["containers"][0]["resources"] == {"limits": {"memory": "1Gi"}}


def test_an_account_that_is_no_longer_asked_for_is_given_back() -> None:
    for mode in ("sidecar", "standalone"):
        rendered = render(Workload(trigger(bus=DAPR, dapr_mode=mode)))
        for each in rendered.manifests:
            if each["kind"] == "Deployment":
                assert each["spec"]["template"]["spec"]["serviceAccountName"] == "default"


def test_a_pod_may_take_as_long_to_end_as_its_longest_call() -> None:
    slow = trigger().subscribers[0]
    slow = slow.model_copy(update={"delivery": slow.delivery.model_copy(update={"timeout": 300})})
    rendered = pod(render(Workload(trigger(subscribers=(slow,)))))
    assert rendered["terminationGracePeriodSeconds"] > 300


# -- credentials -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        kafka(saslPassword="hunter2"),
        source("rabbitmq", spec={"url": "amqp://u:p@rabbitmq", "queue": "q"}),
        source("theirs", spec={"anything": "at all"}),
        trigger(
            subscribers=(
                trigger()
                .subscribers[0]
                .model_copy(
                    update={"target": HttpTarget(uri="http://a/", headers={"X-Key": "hunter2"})}
                ),
            )
        ),
        trigger(
            bus=JETSTREAM.model_copy(
                update={"options": {**JETSTREAM.options, "credentials": {"password": "hunter2"}}}
            )
        ),
    ],
)
def test_a_spec_with_a_credential_in_it_is_a_secret(spec: Any) -> None:
    rendered = render(Workload(spec))
    assert "Secret" in kinds(rendered)
    assert "hunter2" not in json.dumps(rendered.manifests)


@pytest.mark.parametrize("spec", [source(), kafka(), trigger(), webhook()])
def test_a_spec_without_one_is_a_config_map(spec: Any) -> None:
    assert "ConfigMap" in kinds(render(Workload(spec)))


def test_a_secret_that_is_referred_to_stays_where_it_is() -> None:
    spec = kafka(saslPassword=marker("kafka", "pass"), saslUsername=marker("kafka", "user"))
    rendered = render(Workload(spec, secrets=used(("kafka", "pass"), ("kafka", "user"))))
    assert "Secret" not in kinds(rendered)
    volume = next(each for each in pod(rendered)["volumes"] if each["name"] == "secrets")
    items = volume["projected"]["sources"][0]["secret"]["items"]
    assert [each["path"] for each in items] == ["kafka/pass", "kafka/user"]


# -- the way in ------------------------------------------------------------------------------


def test_a_webhook_listens_to_its_pod_and_has_a_service() -> None:
    rendered = render(Workload(webhook()))
    held = json.loads(one(rendered, "ConfigMap")["data"]["spec.json"])
    assert held["spec"]["host"] == "0.0.0.0"
    assert one(rendered, "Service")["spec"]["ports"][0]["targetPort"] == "webhook"
    ports = one(rendered, "NetworkPolicy")["spec"]["ingress"][0]["ports"]
    assert [each["port"] for each in ports] == [9090, 8080]


@pytest.mark.parametrize("port", [80, 443, 9090, 50001])
@pytest.mark.parametrize("bus", [JETSTREAM, DAPR], ids=["jetstream", "dapr"])
def test_a_webhook_of_any_port_can_listen_in_its_pod(port: int, bus: Any) -> None:
    """Its Pod has no right to a port below 1024, and others of its own; callers see neither."""
    workload = Workload(webhook(port=port).model_copy(update={"bus": bus}))
    (container,) = pod(render(workload))["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert len(set(ports.values())) == len(ports)
    assert ports["webhook"] == 8080
    policy = one(render(workload), "NetworkPolicy")["spec"]["ingress"][0]["ports"]
    assert {each["port"] for each in policy} >= {8080}
    held = json.loads(one(render(workload), "ConfigMap")["data"]["spec.json"])
    assert held["spec"]["port"] == 8080


def test_a_webhook_is_exposed_where_it_is_asked_for() -> None:
    asked = Expose(
        ingress=Ingress(class_name="nginx", host="hooks.shop", tls_secret="hooks"),
        http_route=HttpRoute(gateway="infra/front", host="hooks.shop", annotations={"a": "b"}),
    )
    rendered = render(Workload(webhook(), expose=asked))
    service = one(rendered, "Service")["metadata"]["name"]
    ingress = one(rendered, "Ingress")["spec"]
    assert ingress["ingressClassName"] == "nginx"
    assert ingress["tls"] == [{"hosts": ["hooks.shop"], "secretName": "hooks"}]
    (rule,) = ingress["rules"]
    assert rule["host"] == "hooks.shop"
    (path,) = rule["http"]["paths"]
    assert path["path"] == "/orders/in"
    assert path["backend"] == {"service": {"name": service, "port": {"number": 80}}}
    route = one(rendered, "HTTPRoute")
    assert route["metadata"]["annotations"]["a"] == "b"
    assert route["spec"]["parentRefs"] == [{"name": "front", "namespace": "infra"}]
    assert route["spec"]["hostnames"] == ["hooks.shop"]
    assert route["spec"]["rules"][0]["backendRefs"] == [{"name": service, "port": 80}]


def test_a_way_in_to_a_webhook_with_tls_leads_to_its_port() -> None:
    asked = Expose(http_route=HttpRoute(gateway="front"))
    rendered = render(Workload(webhook(tls={"cert": "c", "key": "k"}), expose=asked))
    route = one(rendered, "HTTPRoute")["spec"]
    assert route["parentRefs"] == [{"name": "front"}]
    assert route["rules"][0]["backendRefs"][0]["port"] == 443


def test_without_the_gateway_api_there_is_no_route_and_that_is_said() -> None:
    asked = Expose(ingress=Ingress(), http_route=HttpRoute(gateway="front"))
    platform = replace(PLATFORM, gateway=False)
    rendered = render(Workload(webhook(), expose=asked), platform=platform)
    kinds = [each["kind"] for each in rendered.manifests]
    assert "Ingress" in kinds and "HTTPRoute" not in kinds
    assert [reason for reason, _ in rendered.warnings] == ["GatewayNotInstalled"]


# -- scaling ---------------------------------------------------------------------------------


def test_keda_owns_the_replicas_where_it_scales() -> None:
    scale = ScaleOption(min_replica_count=0, max_replica_count=9, lag_threshold="7")
    rendered = render(Workload(trigger(), None, scale))
    assert "replicas" not in one(rendered, "Deployment")["spec"]
    scaled = one(rendered, "ScaledObject")["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (0, 9)
    looked = [(each["metadata"]["stream"], each["type"]) for each in scaled["triggers"]]
    assert looked == [
        ("ofevents-events", "nats-jetstream"),
        ("ofevents-inboxes", "nats-jetstream"),
    ]


def test_what_the_user_tells_keda_goes_over_what_was_found_out() -> None:
    scale = ScaleOption(metadata={"account": "SHOP"})
    rendered = render(Workload(trigger(), None, scale))
    looked = one(rendered, "ScaledObject")["spec"]["triggers"]
    assert {each["metadata"]["account"] for each in looked} == {"SHOP"}


def test_without_keda_the_number_is_fixed_and_said() -> None:
    scale = ScaleOption(min_replica_count=3)
    rendered = render(Workload(trigger(), None, scale), platform=replace(PLATFORM, keda=False))
    assert one(rendered, "Deployment")["spec"]["replicas"] == 3
    assert [reason for reason, _ in rendered.warnings] == ["KEDANotInstalled"]
    assert "PodDisruptionBudget" in kinds(rendered)


def test_a_suspended_worker_is_not_scaled() -> None:
    rendered = render(Workload(trigger(suspend=True), None, ScaleOption()))
    assert "ScaledObject" not in kinds(rendered)
    assert one(rendered, "Deployment")["spec"]["replicas"] == 1


def test_keda_logs_in_by_the_same_secret() -> None:
    spec = kafka(
        authRequired=True, saslUsername="shop", saslPassword=marker("kafka", "pass"), tls={}
    )
    rendered = render(Workload(spec, None, ScaleOption(), used(("kafka", "pass"))))
    targets = one(rendered, "TriggerAuthentication")["spec"]["secretTargetRef"]
    where = {each["parameter"]: (each["name"], each["key"]) for each in targets}
    assert where["password"] == ("kafka", "pass")
    assert where["username"][0] == child_name(spec)
    held = one(rendered, "Secret")["data"]
    assert where["username"][1] in held
    seen = one(rendered, "ScaledObject")["spec"]["triggers"][0]
    assert seen["metadata"]["consumerGroup"] == "ofevents.shop.orders.kafka.tick"
    assert (seen["metadata"]["sasl"], seen["metadata"]["tls"]) == ("plaintext", "enable")


@pytest.mark.parametrize("spec", [source(), source("mqtt", spec={"url": "x", "topic": "t"})])
def test_what_cannot_be_scaled_is_said(spec: Any) -> None:
    rendered = render(Workload(spec, None, ScaleOption(min_replica_count=0)))
    assert [reason for reason, _ in rendered.warnings] == ["NotScaled"]
    assert one(rendered, "Deployment")["spec"]["replicas"] == 1


# -- Dapr ------------------------------------------------------------------------------------


def test_each_trigger_has_components_of_its_own() -> None:
    rendered = render(Workload(trigger("one", bus=DAPR)), Workload(trigger("two", bus=DAPR)))
    components = [each for each in rendered.manifests if each["kind"] == "Component"]
    groups: dict[str, set[str]] = {}
    for each in components:
        assert len(each["scopes"]) == 1
        for setting in each["spec"]["metadata"]:
            if setting["name"] == "consumerGroup":
                groups.setdefault(setting["value"], set()).update(each["scopes"])
            if setting["name"] == "saslPassword":
                assert setting["secretKeyRef"] == {"name": "kafka", "key": "password"}
    assert len(groups) == 4  # two Triggers, and an inbox of each
    assert all(len(apps) == 1 for apps in groups.values())
    prefixes = {
        setting["value"]
        for each in components
        for setting in each["spec"]["metadata"]
        if setting["name"] == "keyPrefix"
    }
    assert len(prefixes) == 1  # and one state
    assert "\\u0000" not in json.dumps(components)


def test_the_worker_knows_the_names_of_its_components() -> None:
    from ofevents.bus.dapr_components import Names
    from ofevents.bus.dapr_options import DaprOptions

    rendered = render(Workload(trigger(bus=DAPR)))
    held = json.loads(one(rendered, "ConfigMap")["data"]["spec.json"])
    names = Names(DaprOptions.model_validate(held["bus"]["options"]), held["bus"]["name"])
    there = {each["metadata"]["name"] for each in rendered.manifests}
    assert {names.pubsub, names.state, *names.lanes("trigger.shop.audit", "event.x")} <= there


def test_the_sidecar_is_in_the_pod_or_in_its_own() -> None:
    beside = one(render(Workload(trigger(bus=DAPR))), "Deployment")["spec"]["template"]
    assert beside["metadata"]["annotations"]["dapr.io/enabled"] == "true"
    assert beside["metadata"]["annotations"]["dapr.io/app-protocol"] == "grpc"
    assert beside["metadata"]["annotations"]["dapr.io/enable-app-health-check"] == "true"
    rendered = render(Workload(trigger(bus=DAPR, dapr_mode="standalone")))
    deployments = {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in rendered.manifests
        if each["kind"] == "Deployment"
    }
    name = child_name(trigger())
    worker, daprd = deployments[name], deployments[f"{name}-dapr"]
    assert "dapr.io/enabled" not in worker["metadata"]["annotations"]
    assert daprd["metadata"]["annotations"]["dapr.io/enabled"] == "true"
    env = {each["name"]: each["value"] for each in worker["spec"]["containers"][0]["env"]}
    assert env["DAPR_HOST"] == f"{name}-dapr"


def test_a_cluster_without_dapr_is_told() -> None:
    rendered = render(Workload(trigger(bus=DAPR)), platform=replace(PLATFORM, dapr=False))
    assert [reason for reason, _ in rendered.warnings] == ["DaprNotInstalled"]
    assert "Component" not in kinds(rendered)
