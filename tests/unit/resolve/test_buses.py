"""EventBuses: which one is meant, its driver and options, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofevents.api.resolved import ResolvedBus

from .sets import SHOP, clean, of, only, resource, trigger

DEFAULTS = {
    "stream": "ofevents",
    "replicas": 1,
    "storage": "file",
    "max_age": 604800.0,
    "duplicate_window": 120.0,
}


def bus_of(folder: Path, *documents: str, kind: str = "", namespace: str = "") -> ResolvedBus:
    source = resource("EventSource", "shop", "eventBus: default\nwebhook: {o: {}}", namespace)
    [plan] = clean(of(folder, *documents, source)).buses
    return plan.bus


def test_without_a_document_default_is_the_embedded_server(tmp_path: Path) -> None:
    assert bus_of(tmp_path) == ResolvedBus(
        name="default", driver="jetstream", options={"embedded": True, **DEFAULTS}
    )


def test_the_namespace_comes_first_then_the_cluster(tmp_path: Path) -> None:
    cluster = resource("ClusterEventBus", "default", "jetstream: {url: 'nats://cluster'}")
    own = resource("EventBus", "default", "jetstream: {url: 'nats://own'}", "shop")
    found = bus_of(tmp_path, cluster, own, namespace="shop")
    assert (found.name, found.options["url"]) == ("shop/default", "nats://own")
    found = bus_of(tmp_path, cluster, own, namespace="bank")
    assert (found.name, found.options["url"]) == ("default", "nats://cluster")


def test_options_are_seconds_bytes_and_secrets_in_place(tmp_path: Path) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {p: geheim}\n"
    spec = """
jetstream:
  url: nats://a,nats://b
  monitoring: http://a:8222
  credentials: {username: u, password: {valueFrom: {secretKeyRef: {name: s, key: p}}}}
  tls: {ca: PEM}
  maxAge: 1d
  maxBytes: 1Gi
  duplicateWindow: 30s
  replicas: 3
"""
    found = bus_of(tmp_path, secret, resource("EventBus", "default", spec))
    assert found.options == {
        **DEFAULTS,
        "url": "nats://a,nats://b",
        "monitoring": "http://a:8222",
        "credentials": {"user": "u", "password": "geheim"},
        "tls": {"ca": "PEM"},
        "max_age": 86400.0,
        "max_bytes": 2**30,
        "duplicate_window": 30.0,
        "replicas": 3,
    }


def test_nats_streaming_is_read_as_jetstream_with_a_warning(tmp_path: Path) -> None:
    spec = """
natsStreaming:
  natsURL: nats://nats:4222
  natsStreamingClusterID: stan
  subscriptionType: queue
  scaleOption: {natsServerMonitoringEndpoint: "nats:8222", lagThreshold: "10"}
"""
    resolution = of(tmp_path, resource("EventBus", "default", spec), SHOP)
    problem = only(resolution)
    assert (problem.severity, problem.path) == ("warning", "spec.natsStreaming")
    assert "read as jetstream on natsURL" in problem.message
    [plan] = resolution.buses
    assert plan.bus == ResolvedBus(
        name="default/default",
        driver="jetstream",
        options={"url": "nats://nats:4222", "monitoring": "nats:8222"},
    )


@pytest.mark.parametrize(
    "spec",
    [
        "dapr: {pubsub: {type: pubsub.redis, metadata: [{name: redisHost, value: 'r:6379'}]}}",
        "dapr: {type: pubsub.redis, metadata: [{name: redisHost, value: 'r:6379'}]}",
    ],
)
def test_dapr_components_are_passed_on(tmp_path: Path, spec: str) -> None:
    found = bus_of(tmp_path, resource("EventBus", "default", spec))
    assert found.driver == "dapr"
    assert found.options == {
        "pubsub": {
            "type": "pubsub.redis",
            "version": "v1",
            "metadata": [{"name": "redisHost", "value": "r:6379"}],
        }
    }


@pytest.mark.parametrize(
    ("spec", "line", "path", "sentence"),
    [
        ("topic: x", 4, "spec", "an EventBus needs a driver; expected one of jetstream, dapr"),
        (
            "jetstream: {}\ndapr: {type: pubsub.kafka}",
            6,
            "spec.dapr",
            "an EventBus has one driver, this one has jetstream and dapr",
        ),
        (
            "jetstream:\n  url: nats://a\n  sync: always",
            7,
            "spec.jetstream.sync",
            "with url it is that server's own setting",
        ),
        ("jetstream: {url: 'nats://a, http://b'}", 5, "spec.jetstream.url",
         "not reached by http://; expected nats://HOST:PORT"),
        ("jetstream: {tls: {insecureSkipVerify: true}}", 5, "spec.jetstream.tls.insecureSkipVerify",
         "give tls.ca"),
        ("jetstream: {credentials: {token: a, nkey: b}}", 5, "spec.jetstream.credentials",
         "one form, not token and nkey"),
        ("dapr: {}", 5, "spec.dapr", "dapr needs a component"),
        ("dapr: {pubsub: {type: bindings.kafka}}", 5, "spec.dapr.pubsub.type",
         "bindings.kafka is no pub/sub component, and a bus is one; expected pubsub.<name>"),
        ("dapr: {pubsub: {type: a}, type: b}", 5, "spec.dapr", "not both"),
    ],
)  # fmt: skip
def test_a_wrong_bus(tmp_path: Path, spec: str, line: int, path: str, sentence: str) -> None:
    problem = only(of(tmp_path, resource("EventBus", "b", spec)))
    assert (problem.severity, problem.line, problem.path) == ("error", line, path)
    assert sentence in problem.sentence


def test_a_bus_that_is_not_there_blocks_its_users(tmp_path: Path) -> None:
    bus = resource("EventBus", "orders", "jetstream: {}")
    text = trigger("- {topic: x}").replace("eventBus: default", "eventBus: order")
    resolution = of(tmp_path, bus, text)
    named = [each for each in resolution.problems if each.path == "spec.eventBus"]
    assert [each.sentence for each in named] == [
        "neither EventBus default/order nor ClusterEventBus order is in the set; "
        "did you mean orders?"
    ]
    assert resolution.errors == ()
    assert [each.kind for each in resolution.blocked] == ["Trigger"]
