"""From KafkaSpec to the client's properties, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.api.kafka import KafkaSpec
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.ports import SourceIdentity
from ofevents_adapters.kafka import KafkaSource
from ofevents_adapters.kafka_config import client_config

IDENTITY = SourceIdentity("default", "shop", "kafka", "orders")


def config(**fields: Any) -> dict[str, Any]:
    return client_config(KafkaSpec.model_validate({"brokers": "a:1,b:2", **fields}), IDENTITY)


def test_what_keeps_the_promises() -> None:
    made = config()
    assert made["bootstrap.servers"] == "a:1,b:2"
    assert made["group.id"] == "ofevents.default.shop.kafka.orders"
    assert made["enable.auto.commit"] is False
    assert made["enable.auto.offset.store"] is False
    assert made["auto.offset.reset"] == "earliest"
    assert made["partition.assignment.strategy"] == "cooperative-sticky"
    assert made["security.protocol"] == "plaintext"


def test_the_users_properties_are_passed_on() -> None:
    made = config(consumerGroup="mine", config={"client.rack": "r1", "session.timeout.ms": "7000"})
    assert made["group.id"] == "mine"
    assert made["client.rack"] == "r1"
    assert made["session.timeout.ms"] == "7000"


@pytest.mark.parametrize(
    ("name", "instead"), [("group.id", "consumerGroup"), ("enable.auto.commit", "stored")]
)
def test_a_property_that_is_ours_is_refused(name: str, instead: str) -> None:
    with pytest.raises(ConfigError, match=instead) as caught:
        config(config={name: "x"})
    assert caught.value.path == f"spec.kafka.orders.config.{name}"


@pytest.mark.parametrize(
    ("tls", "auth", "protocol"),
    [(None, True, "sasl_plaintext"), ({}, False, "ssl"), ({}, True, "sasl_ssl")],
)
def test_security(tls: dict[str, Any] | None, auth: bool, protocol: str) -> None:
    made = config(tls=tls, authRequired=auth, saslUsername="u", saslPassword="p")
    assert made["security.protocol"] == protocol
    assert ("sasl.password" in made) is auth


def test_tls_material() -> None:
    made = config(tls={"ca": "CA", "cert": "C", "key": "K", "insecureSkipVerify": True})
    assert made["ssl.ca.pem"] == "CA"
    assert made["ssl.certificate.pem"] == "C"
    assert made["ssl.key.pem"] == "K"
    assert made["enable.ssl.certificate.verification"] is False


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"authRequired": True}, "spec.kafka.orders.saslUsername"),
        ({"authRequired": True, "saslUsername": "u"}, "spec.kafka.orders.saslPassword"),
        ({"tls": {"cert": "C"}}, "spec.kafka.orders.tls"),
    ],
)
def test_what_is_missing_is_named(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**fields)
    assert caught.value.path == path


def test_large_records() -> None:
    made = config(maxMessageBytes="120Mi")
    assert made["fetch.message.max.bytes"] == 120 * 2**20
    assert made["receive.message.max.bytes"] > 120 * 2**20


async def test_a_property_that_the_client_does_not_know() -> None:
    spec = KafkaSpec(brokers=["127.0.0.1:9"], config={"fetch.min.byte": "1"})
    source = KafkaSource(spec, IDENTITY, clock=SystemClock())

    async def emit(*events: object) -> None:
        raise AssertionError("nothing to emit")

    with pytest.raises(ConfigError, match=r"fetch\.min\.byte") as caught:
        await source.run(emit, store=None, started=lambda address: None)
    assert caught.value.path == "spec.kafka.orders.config.fetch.min.byte"
