"""What the `kafka` sink writes, and which settings it refuses; no broker is needed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ofevents.api.sink import KafkaSink as Spec
from ofevents.clock import SystemClock
from ofevents.errors import BadEvent, ConfigError
from ofevents.event import Event
from ofevents_adapters.kafka_config import producer_config
from ofevents_adapters.kafka_sink import KafkaSink, record_of

EVENT = Event.create(
    id="7 ü", source="/shop", type="paid", data=b'{"a": 1.0}', count=3, vip=True, partitionkey="k"
)
ATTRIBUTES = {
    "ce_specversion": b"1.0",
    "ce_id": "7 ü".encode(),
    "ce_source": b"/shop",
    "ce_type": b"paid",
    "ce_count": b"3",
    "ce_vip": b"true",
    "ce_partitionkey": b"k",
}


def test_binary_has_attributes_as_headers_and_the_data_as_it_is() -> None:
    key, value, headers = record_of(EVENT, "binary", "k")
    assert (key, value) == (b"k", b'{"a": 1.0}')
    assert dict(headers) == {"content-type": b"application/json", **ATTRIBUTES}


def test_structured_is_one_json_text() -> None:
    key, value, headers = record_of(EVENT, "structured", None)
    assert key is None
    assert Event.from_json(value or b"") == EVENT
    assert dict(headers) == {"content-type": b"application/cloudevents+json; charset=UTF-8"}


def test_raw_is_the_data_and_its_media_type() -> None:
    event = EVENT.replace(datacontenttype="text/csv")
    assert record_of(event, "raw", "k") == (b"k", EVENT.data, [("content-type", b"text/csv")])


def test_no_data_is_a_tombstone() -> None:
    assert record_of(EVENT.replace(data=None), "binary", "k")[1] is None
    assert record_of(EVENT.replace(data=None), "raw", "k") == (b"k", None, [])


def test_half_a_surrogate_pair_is_a_bad_event() -> None:
    for format in ("binary", "structured"):
        with pytest.raises(BadEvent, match="cannot be written"):
            record_of(Event({**EVENT.attributes, "note": "\ud800"}, None), format, None)  # type: ignore[arg-type]
    with pytest.raises(BadEvent):
        record_of(EVENT, "raw", "\ud800")


def spec(**fields: Any) -> Spec:
    return Spec.model_validate({"brokers": "one:9092, two:9092", "topic": "paid", **fields})


def test_what_keeps_the_promises_is_set() -> None:
    config = producer_config(spec(config={"linger.ms": "20"}), 10.0)
    assert config["bootstrap.servers"] == "one:9092,two:9092"
    assert (config["acks"], config["enable.idempotence"]) == ("all", True)
    assert config["message.timeout.ms"] == 9000
    assert config["linger.ms"] == "20"
    assert config["security.protocol"] == "plaintext"


def test_login_and_tls() -> None:
    login = {"saslUsername": "me", "saslPassword": "secret", "saslMechanism": "SCRAM-SHA-256"}
    config = producer_config(spec(**login, tls={}), 10.0)
    assert config["security.protocol"] == "sasl_ssl"
    assert (config["sasl.username"], config["sasl.mechanism"]) == ("me", "SCRAM-SHA-256")
    assert "secret" not in repr(spec(**login))


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"config": {"acks": "1"}}, "sink.kafka.config.acks"),
        ({"config": {"enable.idempotence": "false"}}, "sink.kafka.config.enable.idempotence"),
        ({"config": {"message.timeout.ms": "1"}}, "sink.kafka.config.message.timeout.ms"),
        ({"config": {"transactional.id": "x"}}, "sink.kafka.config.transactional.id"),
        ({"saslUsername": "me"}, "sink.kafka.saslPassword"),
        ({"saslPassword": "x"}, "sink.kafka.saslUsername"),
        ({"tls": {"cert": "x"}}, "sink.kafka.tls"),
    ],
)
def test_a_contradiction_is_found_when_it_is_built(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as found:
        KafkaSink(spec(**fields), format="binary", timeout=10.0, clock=SystemClock())
    assert found.value.path == path


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"no.such.thing": "1"}, "sink.kafka.config.no.such.thing"),
        ({"socket.timeout.ms": "1"}, "sink.kafka.config.socket.timeout.ms"),
        ({"max.in.flight": "100"}, "sink.kafka"),
    ],
)
async def test_what_librdkafka_refuses_is_found_before_any_event(
    config: dict[str, str], path: str
) -> None:
    made = KafkaSink(spec(config=config), format="binary", timeout=10.0, clock=SystemClock())
    with pytest.raises(ConfigError) as found:
        async with made:
            pass
    assert found.value.path == path


@pytest.mark.parametrize("fields", [{"brokers": ""}, {"topic": None}, {"key": 5}, {"acks": "1"}])
def test_the_schema_refuses(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**fields)
