"""The `kubernetes` source without a server: its spec, its records, its position."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.api.platform import KubernetesSpec
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError, Disconnected
from ofevents.event import check_attributes
from ofevents.ports import SourceIdentity
from ofevents_adapters.kubernetes import KubernetesSource
from ofevents_adapters.kubernetes_api import Resource
from ofevents_adapters.kubernetes_position import Kept, Position, Remembered, newer
from ofevents_adapters.kubernetes_record import event_of

IDENTITY = SourceIdentity("default", "shop", "kubernetes", "orders")
OBJECT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "till",
        "namespace": "shop",
        "uid": "0f8d",
        "resourceVersion": "42",
        "creationTimestamp": "2026-01-31T12:00:00Z",
        "managedFields": [
            {"manager": "kubectl", "time": "2026-01-31T12:00:07Z"},
            {"manager": "old", "time": "2026-01-31T12:00:01Z"},
            {"manager": "none"},
        ],
    },
    "spec": {"replicas": 3},
}


def make(**fields: Any) -> KubernetesSource:
    document = {"apiVersion": "apps/v1", "kind": "Deployment", **fields}
    return KubernetesSource(KubernetesSpec.model_validate(document), IDENTITY, clock=SystemClock())


def test_what_it_promises() -> None:
    features = make().features
    assert (features.guarantee, features.stable_ids) == ("at-least-once", True)
    assert features.ordered and not features.scales


@pytest.mark.parametrize(
    ("fields", "path", "why"),
    [
        ({"apiVersion": ""}, "apiVersion", "such as v1 or apps/v1"),
        ({"apiVersion": "apps/v1/x"}, "apiVersion", "'apps/v1/x' is no apiVersion"),
        ({"apiVersion": "apps v1"}, "apiVersion", "is no apiVersion"),
        ({"kind": ""}, "kind", "such as Deployment"),
        ({"kind": "a/b"}, "kind", "is no kind"),
        ({"namespace": ""}, "namespace", r"or \* for all"),
        ({"namespace": "a/b"}, "namespace", "is no namespace"),
        ({"namespace": "a?b"}, "namespace", "is no namespace"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, str], path: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        make(**fields)
    assert caught.value.path == f"spec.kubernetes.orders.{path}"


async def test_no_cluster_to_log_in_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", "/nowhere")

    async def emit(*events: Any) -> None:
        return None

    why = r"a Pod's service account, or a kubeconfig \(KUBECONFIG\): no such file: /nowhere$"
    with pytest.raises(ConfigError, match=why) as caught:
        await make().run(emit, store=None, started=lambda address: None)
    assert caught.value.path == "spec.kubernetes.orders"


def test_a_change() -> None:
    event = event_of("MODIFIED", OBJECT, "/ofevents/default/shop/orders")
    check_attributes(event.attributes)
    assert dict(event.attributes) == {
        "specversion": "1.0",
        "id": "0f8d@42",
        "source": "/ofevents/default/shop/orders",
        "type": "ofevents.kubernetes.modified",
        "subject": "shop/till",
        "partitionkey": "shop/till",
        "time": "2026-01-31T12:00:07Z",
        "kubernetesapiversion": "apps/v1",
        "kubernetesobjectkind": "Deployment",
        "datacontenttype": "application/json",
    }
    assert event.value == OBJECT


def test_an_object_without_a_namespace_or_times() -> None:
    about = {"name": "till", "uid": "1", "resourceVersion": "2"}
    event = event_of("DELETED", {**OBJECT, "metadata": about}, "/a")
    check_attributes(event.attributes)
    assert (event.attributes["subject"], event.type) == ("till", "ofevents.kubernetes.deleted")
    assert "time" not in event.attributes


@pytest.mark.parametrize(
    ("resource", "namespace", "path"),
    [
        (Resource("/api/v1", "pods", True), "shop", "/api/v1/namespaces/shop/pods"),
        (Resource("/apis/apps/v1", "deployments", True), None, "/apis/apps/v1/deployments"),
    ],
)
def test_paths(resource: Resource, namespace: str | None, path: str) -> None:
    assert resource.within(namespace) == path


@pytest.mark.parametrize(
    ("version", "than", "later"),
    [("10", "9", True), ("9", "10", False), ("9", "9", False), ("x", "9", True), ("x", "x", False)],
)
def test_versions(version: str, than: str, later: bool) -> None:
    assert newer(version, than) is later


async def test_a_position_is_not_put_back() -> None:
    store = MemoryStore(Broker(max_bytes=10_000, window=60), SystemClock())
    one, two = Kept(store, "k"), Kept(store, "k")
    assert await one.load() is None
    await one.keep(Position("1", 7))
    assert await two.load() == Position("1", 7)
    await two.keep(Position("2", 8))
    with pytest.raises(Disconnected, match="has taken over"):
        await one.keep(Position("1", 9))
    assert await one.load() == Position("2", 8)


async def test_without_a_store_it_is_remembered() -> None:
    positions = Remembered()
    assert await positions.load() is None
    await positions.keep(Position("1", 7))
    assert await positions.load() == Position("1", 7)
