"""What a spec of a schema registry may not say; no server is needed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ofevents.api.kafka import KafkaSpec
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.ports import SourceIdentity
from ofevents_adapters.kafka import KafkaSource

IDENTITY = SourceIdentity("default", "shop", "kafka", "orders")


def build(**registry: Any) -> KafkaSource:
    spec = KafkaSpec.model_validate({"brokers": "k:9092", "schemaRegistry": registry})
    return KafkaSource(spec, IDENTITY, clock=SystemClock())


@pytest.mark.parametrize(
    ("registry", "field"),
    [
        ({"url": "registry:8081"}, ".url"),
        ({"url": ""}, ".url"),
        ({"url": "http://one:8081,ftp://two"}, ".url"),
        ({"url": "http://me:hidden@registry"}, ".url"),
        ({"url": "http://registry:99999"}, ".url"),
        ({"url": "http://registry", "username": "me"}, ""),
        ({"url": "http://registry", "username": "m:e", "password": "x"}, ".username"),
        ({"url": "http://registry", "tls": {}}, ".tls"),
        ({"url": "https://registry", "tls": {"ca": "no PEM"}}, ".tls"),
        ({"url": "https://registry", "tls": {"cert": "x"}}, ".tls"),
    ],
)
def test_a_wrong_field_is_found_when_it_is_built(registry: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as found:
        build(**registry)
    assert found.value.path == f"spec.kafka.orders.schemaRegistry{field}"
    assert "hidden" not in str(found.value)


def test_good_ones_are_taken() -> None:
    build(url="http://one:8081, http://two:8081", username="me", password="x")
    build(url="https://registry", tls={"insecureSkipVerify": True})


def test_the_schema_refuses() -> None:
    with pytest.raises(ValidationError):
        build(address="http://registry")
    with pytest.raises(ValidationError):
        build()
