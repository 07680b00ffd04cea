"""The specs that adapters are given: defaults, credentials, the way through a resolved spec."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ofevents.api.documents import Secret
from ofevents.api.eventsource import SPECS, EntryFields, EventSourceSpec
from ofevents.api.kafka import KafkaSpec
from ofevents.api.meta import reveal
from ofevents.api.sink import Sink
from ofevents.api.webhook import WebhookSpec
from ofevents.errors import ConfigError

FROM_SECRET = {"valueFrom": {"secretKeyRef": {"name": "tokens", "key": "shop"}}}

MINIMAL: dict[str, dict[str, Any]] = {
    "kafka": {"brokers": "kafka:9092"},
    "cron": {"schedule": "@hourly"},
    "mqtt": {"url": "tcp://mosquitto:1883", "topic": "a/#"},
    "redis": {"redisHost": "redis:6379"},
    "nats": {"url": "nats://nats:4222", "subject": "a.>", "jetstream": {"stream": "S"}},
    "rabbitmq": {"url": "amqp://rabbitmq"},
    "webhook": {},
    "kubernetes": {"apiVersion": "v1", "kind": "Pod"},
    "file": {"path": "/var/log/*.log"},
    "dapr": {"component": {"type": "bindings.cron"}},
    "custom": {"source": "queue", "spec": {"url": "queue://queue"}},
}


@pytest.mark.parametrize("kind", SPECS)
def test_a_spec_survives_the_way_through_a_resolved_spec(kind: str) -> None:
    spec = SPECS[kind].model_validate(MINIMAL[kind])
    dumped = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert SPECS[kind].model_validate(dumped) == spec


@pytest.mark.parametrize("kind", SPECS)
def test_every_kind_is_a_field_of_the_eventsource_with_the_common_fields(kind: str) -> None:
    common = {
        "filter": "true",
        "onError": "skip",
        "attributes": {"partitionkey": "event.data.id"},
        "dataSchema": {"type": "object"},
        "scaleOption": {"maxReplicaCount": 2},
    }
    spec = EventSourceSpec.model_validate({kind: {"a": {**MINIMAL[kind], **common}}})
    [(found, name, entry)] = spec.entries()
    assert (found, name) == (kind, "a")
    assert isinstance(entry, EntryFields) and isinstance(entry, SPECS[kind])
    assert entry.on_error == "skip"
    overlap = set(EntryFields.model_fields) & set(SPECS[kind].model_fields)
    assert not overlap, "a kind's own field hides a field of every entry"


def test_brokers_are_text_or_a_list() -> None:
    assert KafkaSpec.model_validate({"brokers": "a:1, b:2,"}).brokers == ["a:1", "b:2"]
    assert KafkaSpec.model_validate({"brokers": ["a:1", "b:2"]}).brokers == ["a:1", "b:2"]
    for wrong in ("", " , ", [], 5, [5]):
        with pytest.raises(ValidationError, match="expected"):
            KafkaSpec.model_validate({"brokers": wrong})


def test_a_credential_is_text_or_a_reference_and_never_shown() -> None:
    text = KafkaSpec.model_validate({"brokers": "a:1", "saslPassword": "geheim"})
    reference = KafkaSpec.model_validate({"brokers": "a:1", "saslPassword": FROM_SECRET})
    assert reveal(text.sasl_password) == "geheim"
    assert reveal(None) is None
    assert "geheim" not in repr(text)
    with pytest.raises(ConfigError, match="key shop of Secret tokens"):
        reveal(reference.sasl_password)


def test_a_refused_document_does_not_show_its_values() -> None:
    with pytest.raises(ValidationError) as caught:
        KafkaSpec.model_validate({"brokers": "a:1", "saslPasword": "geheim"})
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("auth", "why"),
    [
        ({"bearer": "a", "basic": {"username": "u", "password": "p"}}, "same header"),
        ({}, "one of bearer, basic, hmac"),
    ],
)
def test_webhook_auth_is_one_that_can_be_met(auth: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        WebhookSpec.model_validate({"auth": auth})


def test_a_webhook_listens_on_this_machine_only_unless_told_otherwise() -> None:
    spec = WebhookSpec()
    assert (spec.host, spec.port, spec.max_body_bytes) == ("127.0.0.1", 8080, 2**20)


def test_nothing_is_converted_silently() -> None:
    for field, wrong in (
        ("port", "8080"),
        ("replyStatus", 202.0),
        ("path", 5),
        ("methods", "POST"),
    ):
        with pytest.raises(ValidationError):
            WebhookSpec.model_validate({field: wrong})


@pytest.mark.parametrize(
    ("sink", "why"),
    [
        ({}, "expected one of uri, ref, kafka"),
        ({"headers": {"a": "b"}}, "expected one of uri, ref, kafka"),
        ({"uri": "http://x", "redis": {"redisHost": "a", "stream": "s"}}, "one destination"),
        ({"uri": "ftp://x"}, "pattern"),
        ({"uri": "http://x", "auth": {}}, "exactly one of bearer"),
    ],
)
def test_a_sink_has_one_destination(sink: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Sink.model_validate(sink)


def test_a_secret_has_text_or_base64() -> None:
    given = {"metadata": {"name": "s"}, "data": {"a": "aGk="}, "stringData": {"b": "ho"}}
    secret = Secret.model_validate(given)
    assert (secret.value("a"), secret.value("b"), secret.value("c")) == ("hi", "ho", None)
    assert "aGk" not in repr(secret) and "ho" not in repr(secret).replace("string_data", "")
    with pytest.raises(ValidationError, match="key a is not base64; write plain text"):
        Secret.model_validate({**given, "data": {"a": "not base64!"}})
