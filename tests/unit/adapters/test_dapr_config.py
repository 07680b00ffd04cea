"""From DaprSpec to what is read; what loses events is refused, by `ofevents validate` too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ofevents.api import dapr
from ofevents.api.platform import DaprComponent, DaprSpec
from ofevents.cli.validate import validate
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.ports import SourceIdentity
from ofevents_adapters.dapr import DaprSource
from ofevents_adapters.dapr_config import Settings, settings

IDENTITY = SourceIdentity("default", "shop", "dapr", "orders")


@pytest.fixture(autouse=True)
def _no_sidecar(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DAPR_GRPC_ENDPOINT", "DAPR_GRPC_PORT", "DAPR_HOST", "APP_PORT"):
        monkeypatch.delenv(name, raising=False)


def component(type: str, **settings: Any) -> dict[str, Any]:
    return {"type": type, "metadata": [{"name": k, "value": v} for k, v in settings.items()]}


def read(**fields: Any) -> Settings:
    return settings(DaprSpec.model_validate(fields), IDENTITY)


def rendered(type: str, **settings: Any) -> dict[str, str]:
    given = DaprComponent.model_validate(component(type, **settings))
    made = dapr.input_component("c", given, IDENTITY.group)
    return {one["name"]: one["value"] for one in made["spec"]["metadata"]}


def test_a_topic_of_a_component_written_here() -> None:
    made = read(component=component("pubsub.kafka", brokers="k:9092"), topic="orders")
    assert made.component.startswith("ofe-shop-orders-")
    assert (made.topic, made.sidecar, made.app_port) == ("orders", "127.0.0.1:50001", None)
    assert made.metadata == {"rawPayload": "true"}


def test_where_the_sidecar_is_is_what_dapr_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAPR_GRPC_PORT", "3501")
    monkeypatch.setenv("APP_PORT", "9000")
    made = read(componentName="orders")
    assert (made.sidecar, made.app_host, made.app_port) == ("127.0.0.1:3501", "127.0.0.1", 9000)
    monkeypatch.setenv("DAPR_HOST", "proxy.shop")
    made = read(componentName="orders")
    assert (made.sidecar, made.app_host) == ("proxy.shop:3501", "0.0.0.0")
    monkeypatch.setenv("DAPR_GRPC_ENDPOINT", "http://dapr:4000")
    assert read(componentName="orders").sidecar == "dapr:4000"
    made = read(componentName="orders", sidecar="here:1", appPort=9001)
    assert (made.sidecar, made.app_port) == ("here:1", 9001)


@pytest.mark.parametrize(
    ("fields", "path", "sentence"),
    [
        ({}, "", "either component or componentName"),
        ({"component": component("pubsub.x"), "componentName": "x"}, "", "either component or"),
        ({"component": component("state.redis")}, ".component.type", "nothing to read from"),
        ({"component": component("pubsub.redis")}, "", "pubsub.redis needs a topic"),
        ({"component": component("bindings.cron"), "topic": "t"}, ".topic", "no topic here"),
        ({"componentName": "x", "metadata": {"a": 1}}, ".metadata", "input binding has none"),
        (
            {"componentName": "x", "topic": "t", "metadata": {"rawPayload": "false"}},
            ".metadata.rawPayload",
            "rawPayload is always true",
        ),
    ],
)
def test_what_contradicts_itself(fields: dict[str, Any], path: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        read(**fields)
    assert caught.value.path == f"spec.dapr.orders{path}"


@pytest.mark.parametrize(
    ("type", "setting", "value"),
    [
        ("pubsub.kafka", "initialOffset", "newest"),
        ("pubsub.kafka", "backOffMaxRetries", 3),
        ("pubsub.kafka", "consumeRetryEnabled", False),
        ("bindings.kafka", "consumeRetryEnabled", "false"),
        ("bindings.kafka", "initialoffset", "newest"),
        ("pubsub.kafka", "backOffPolicy", "exponential"),
        ("bindings.kafka", "backoffpolicy", "exponential"),
        ("pubsub.jetstream", "concurrency", "parallel"),
        ("pubsub.jetstream", "ackPolicy", "none"),
        ("pubsub.jetstream", "ackWait", "0s"),
        ("pubsub.jetstream", "maxDeliver", 3),
        ("pubsub.jetstream", "memoryStorage", True),
        ("pubsub.redis", "processingTimeout", "0"),
        ("pubsub.redis", "redeliverInterval", "-1"),
        ("pubsub.rabbitmq", "autoAck", True),
        ("pubsub.rabbitmq", "requeueInFailure", False),
        ("pubsub.rabbitmq", "deletedWhenUnused", True),
        ("pubsub.rabbitmq", "durable", False),
        ("bindings.rabbitmq", "deleteWhenUnused", True),
        ("bindings.rabbitmq", "durable", False),
        ("bindings.rabbitmq", "exclusive", True),
        ("pubsub.mqtt3", "cleanSession", True),
        ("pubsub.mqtt3", "qos", 0),
    ],
)
def test_a_setting_that_loses_events_is_refused(type: str, setting: str, value: Any) -> None:
    fields: dict[str, Any] = {"component": component(type, other="x", **{setting: value})}
    if type.startswith("pubsub."):
        fields["topic"] = "orders"
    with pytest.raises(ConfigError, match="must be") as caught:
        read(**fields)
    assert caught.value.path == "spec.dapr.orders.component.metadata.1.value"


@pytest.mark.parametrize("value", ["60s", "1m", "0.5s", "100ms", "500"])
def test_a_duration_that_is_longer_than_nothing_is_taken(value: str) -> None:
    fields = component("pubsub.redis", processingTimeout=value)
    assert read(component=fields, topic="orders").topic == "orders"


def test_a_component_gets_what_its_defaults_would_lose() -> None:
    made = rendered("bindings.kafka", brokers="k:9092", direction="input, output")
    assert made["consumeRetryEnabled"] == "true"
    assert made["initialOffset"] == "oldest"
    assert made["consumerGroup"] == IDENTITY.group
    assert made["direction"] == "input, output"
    made = rendered("pubsub.jetstream", ackWait="5s")
    assert made["ackWait"] == "5s"
    assert made["durableName"] == made["queueGroupName"]
    assert "." not in made["durableName"]
    made = rendered("pubsub.kafka", consumerID="mine", disableTls=True, version=2)
    assert (made["consumerID"], made["disableTls"], made["version"]) == ("mine", "true", "2")
    assert "consumerGroup" not in made


def test_what_is_promised_is_the_components() -> None:
    def features(type: str, **fields: Any) -> Any:
        spec = DaprSpec.model_validate({"component": component(type), **fields})
        return DaprSource(spec, IDENTITY, clock=SystemClock()).features

    kafka = features("pubsub.kafka", topic="t", appPort=9000)
    assert (kafka.guarantee, kafka.stable_ids, kafka.ordered) == ("at-least-once", True, True)
    assert not features("pubsub.kafka", topic="t").stable_ids
    assert features("bindings.kafka", appPort=9000).guarantee == "at-least-once"
    assert features("bindings.cron").guarantee == "at-most-once"
    assert features("bindings.twitter").guarantee == "at-most-once"
    assert features("pubsub.pulsar", topic="t").guarantee == "at-least-once"
    assert features("pubsub.in-memory", topic="t").guarantee == "at-most-once"


def test_validate_says_it_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(
        """apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: shop}
spec:
  eventBus: default
  dapr:
    orders:
      topic: orders
      component:
        type: pubsub.jetstream
        metadata:
        - {name: natsURL, value: "nats://n:4222"}
        - name: concurrency
          value: parallel
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default}
spec: {jetstream: {}}
"""
    )
    app = typer.Typer()
    app.command()(validate)
    result = CliRunner().invoke(app, [str(path)])
    assert result.exit_code == 1
    assert "shop.yaml:14" in result.output.replace("\n", "")
    assert "concurrency must be single, not parallel" in " ".join(result.output.split())
