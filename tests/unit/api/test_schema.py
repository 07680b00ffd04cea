"""Models as structural schemas: the dialect, and what becomes of our own types."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.api.eventbus import EventBusSpec
from ofevents.api.eventsource import EventSource, EventSourceSpec
from ofevents.api.meta import Model
from ofevents.api.schema import at, crd, structural
from ofevents.api.trigger import TriggerSpec


def _at(model: type[Model], *path: str | int) -> dict[str, Any]:
    found = at(structural(model), path)
    assert found is not None
    return found


def test_a_duration_is_a_string_with_a_pattern_and_a_readable_default() -> None:
    schema = _at(TriggerSpec, "window")
    assert schema["type"] == "string"
    assert schema["default"] == "1m"
    assert "ms|s|m|h|d" in schema["pattern"]


def test_a_size_is_int_or_string_and_a_credential_is_left_open() -> None:
    assert _at(EventBusSpec, "jetstream", "maxBytes")["x-kubernetes-int-or-string"] is True
    password = _at(EventSourceSpec, "kafka", "orders", "saslPassword")
    assert password["x-kubernetes-preserve-unknown-fields"] is True
    assert "type" not in password


def test_what_others_define_is_passed_through() -> None:
    resources = _at(TriggerSpec, "template", "resources")
    assert resources["type"] == "object"
    assert resources["x-kubernetes-preserve-unknown-fields"] is True


def test_every_field_is_described() -> None:
    missing = []

    def walk(schema: dict[str, Any], path: str) -> None:
        for name, each in schema.get("properties", {}).items():
            if "description" not in each:
                missing.append(f"{path}.{name}")
            walk(each, f"{path}.{name}")
        for inner in ("items", "additionalProperties"):
            if inner in schema:
                walk(schema[inner], path)

    for model in (EventSourceSpec, TriggerSpec, EventBusSpec):
        walk(structural(model), model.__name__)
    assert missing == []


def test_the_host_of_a_webhook_has_no_default_on_the_cluster() -> None:
    assert "default" not in _at(EventSourceSpec, "webhook", "orders", "host")


def test_a_place_that_nobody_knows_has_no_schema() -> None:
    assert at(structural(EventSource), ("spec", "nothing")) is None
    assert at(structural(EventSource), ("spec", "sink", 0)) is None


@pytest.mark.parametrize(
    ("kind", "plural", "short", "scope"),
    [
        ("EventBus", "eventbuses", "eb", "Namespaced"),
        ("ClusterEventBus", "clustereventbuses", "ceb", "Cluster"),
        ("EventSource", "eventsources", "es", "Namespaced"),
        ("Trigger", "triggers", "trg", "Namespaced"),
    ],
)
def test_the_names_of_a_kind(kind: str, plural: str, short: str, scope: str) -> None:
    definition = crd(kind)
    assert definition["metadata"]["name"] == f"{plural}.events.openfunction.io"
    assert definition["spec"]["names"]["shortNames"] == [short]
    assert definition["spec"]["scope"] == scope
    [version] = definition["spec"]["versions"]
    assert version["subresources"] == {"status": {}}
    columns = [column["name"] for column in version["additionalPrinterColumns"]]
    expected = ["Ready", "Reason", "Age"]
    if kind in ("EventSource", "Trigger"):
        expected = ["EventBus", "Sink", *expected]
    assert columns == expected


def test_a_union_is_refused_when_the_schema_is_made() -> None:
    class Wrong(Model):
        both: int | str

    with pytest.raises(TypeError, match="no unions"):
        structural(Wrong)
