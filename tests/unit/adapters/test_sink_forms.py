"""What the sinks of message brokers write for an event, and which specs they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ofevents import registry
from ofevents.api.sink import SINKS
from ofevents.clock import SystemClock
from ofevents.errors import BadEvent, ConfigError
from ofevents.event import Event
from ofevents.ports import Format, Sink
from ofevents_adapters import mqtt_sink, rabbitmq_sink, redis_sink

EVENT = Event.create(
    id="7 ü", source="/shop", type="paid", data=b'{"a": 1.0}', count=3, vip=True, partitionkey="k"
)
ATTRIBUTES = {"specversion": "1.0", "id": "7 ü", "source": "/shop", "type": "paid"}


# -- MQTT -----------------------------------------------------------------------


def test_mqtt_5_has_attributes_as_user_properties() -> None:
    body, properties = mqtt_sink.message_of(EVENT, "binary", five=True)
    assert body == EVENT.data
    assert properties is not None and properties.ContentType == "application/json"
    expected = {**ATTRIBUTES, "count": "3", "vip": "true", "partitionkey": "k"}
    assert dict(properties.UserProperty) == expected


def test_mqtt_structured_and_raw() -> None:
    body, properties = mqtt_sink.message_of(EVENT, "structured", five=True)
    assert Event.from_json(body) == EVENT
    assert properties is not None
    assert properties.ContentType == "application/cloudevents+json"
    body, properties = mqtt_sink.message_of(EVENT, "raw", five=True)
    assert body == EVENT.data
    assert properties is not None and not hasattr(properties, "UserProperty")
    assert mqtt_sink.message_of(EVENT, "raw", five=False) == (EVENT.data, None)


@pytest.mark.parametrize("text", ["two\nlines", "nul\0", "\ufffe", "x" * 65_536])
def test_mqtt_sends_no_text_for_which_a_broker_would_end_the_connection(text: str) -> None:
    with pytest.raises(BadEvent, match="its note has"):
        mqtt_sink.message_of(EVENT.replace(note=text), "binary", five=True)


# -- RabbitMQ -------------------------------------------------------------------


def test_rabbitmq_has_attributes_as_typed_headers_and_is_persistent() -> None:
    message = rabbitmq_sink.message_of(EVENT.replace(huge=2**63), "binary")
    assert message.body == EVENT.data
    assert (message.content_type, message.delivery_mode) == ("application/json", 2)
    expected = {**ATTRIBUTES, "count": 3, "vip": True, "partitionkey": "k", "huge": str(2**63)}
    assert message.headers == {f"cloudEvents:{name}": value for name, value in expected.items()}


def test_rabbitmq_structured_and_raw() -> None:
    message = rabbitmq_sink.message_of(EVENT, "structured")
    assert Event.from_json(message.body) == EVENT
    assert (message.content_type, message.headers) == ("application/cloudevents+json", {})
    message = rabbitmq_sink.message_of(EVENT, "raw")
    assert (message.body, message.headers) == (EVENT.data, {})


def test_rabbitmq_sends_no_frame_that_would_end_the_connection() -> None:
    with pytest.raises(BadEvent, match="fit into a frame"):
        rabbitmq_sink.message_of(EVENT.replace(note="x" * 100_000), "binary")
    with pytest.raises(BadEvent, match="datacontenttype has more than 255 bytes"):
        rabbitmq_sink.message_of(EVENT.replace(datacontenttype="x" * 256), "binary")


# -- Redis ----------------------------------------------------------------------


def test_redis_fields() -> None:
    fields = redis_sink.fields_of(EVENT, "binary")
    assert fields["data"] == EVENT.data
    assert fields["content-type"] == "application/json"
    assert (fields["ce-id"], fields["ce-count"]) == ("7%20%C3%BC", "3")
    assert set(redis_sink.fields_of(EVENT, "structured")) == {"content-type", "data"}
    assert redis_sink.fields_of(EVENT, "raw") == {"data": EVENT.data}


# -- specs ----------------------------------------------------------------------

GOOD: dict[str, dict[str, Any]] = {
    "nats": {"url": "nats://me:hidden@n:4222", "subject": "paid.cards"},
    "mqtt": {"url": "tcp://me:hidden@m:1883", "topic": "shop/paid"},
    "rabbitmq": {"url": "amqp://me:hidden@r:5672/", "routingKey": "paid"},
    "redis": {"redisHost": "r:6379", "redisPassword": "hidden", "stream": "paid"},
}


def build(name: str, format: Format = "binary", **fields: Any) -> Sink:
    spec = SINKS[name].model_validate({**GOOD[name], **fields})
    sink: Sink = registry.load("ofevents.sinks", name)(
        spec, format=format, timeout=5.0, clock=SystemClock()
    )
    return sink


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("nats", "NATS subject paid.cards at n:4222"),
        ("mqtt", "MQTT topic shop/paid at m:1883"),
        ("rabbitmq", "RabbitMQ queue paid at r:5672"),
        ("redis", "Redis stream paid at r:6379"),
    ],
)
async def test_an_address_has_no_secret(name: str, address: str) -> None:
    assert build(name).address == address
    assert "hidden" not in repr(SINKS[name].model_validate(GOOD[name])).replace(
        GOOD["nats"]["url"], ""
    )


@pytest.mark.parametrize(
    ("name", "fields", "path"),
    [
        ("nats", {"subject": "paid.>"}, "sink.nats.subject"),
        ("nats", {"subject": "paid..cards"}, "sink.nats.subject"),
        ("nats", {"url": "http://n"}, "sink.nats.url"),
        ("nats", {"credentials": {"username": "me"}}, "sink.nats.credentials"),
        ("nats", {"tls": {"ca": "no PEM"}}, "sink.nats.tls"),
        ("mqtt", {"topic": "shop/#"}, "sink.mqtt.topic"),
        ("mqtt", {"topic": ""}, "sink.mqtt.topic"),
        ("mqtt", {"url": "ws://m"}, "sink.mqtt.url"),
        ("mqtt", {"url": "tcp://m:1883/path"}, "sink.mqtt.url"),
        ("mqtt", {"url": "tcp://me:hidden@m:99999"}, "sink.mqtt.url"),
        ("mqtt", {"tls": {"cert": "x"}}, "sink.mqtt.tls"),
        ("rabbitmq", {"url": "http://me:hidden@r"}, "sink.rabbitmq.url"),
        ("rabbitmq", {"url": "amqp://"}, "sink.rabbitmq.url"),
        ("rabbitmq", {"tls": {}}, "sink.rabbitmq.tls"),
        ("rabbitmq", {"routingKey": "x" * 256}, "sink.rabbitmq.routingKey"),
        ("redis", {"redisHost": "redis://me:hidden@r"}, "sink.redis.redisHost"),
        ("redis", {"redisHost": "r:0"}, "sink.redis.redisHost"),
        ("redis", {"redisHost": "a:1,b:2"}, "sink.redis.redisHost"),
        ("redis", {"tls": {"key": "x"}}, "sink.redis.tls"),
    ],
)
async def test_a_wrong_field_is_found_when_it_is_built(
    name: str, fields: dict[str, Any], path: str
) -> None:
    with pytest.raises(ConfigError) as found:
        build(name, **fields)
    assert found.value.path == path
    assert "hidden" not in str(found.value)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("nats", {"subject": None}),
        ("mqtt", {"qos": 3}),
        ("mqtt", {"protocol": "4"}),
        ("rabbitmq", {"exchange": 5}),
        ("redis", {"maxLength": 0}),
        ("redis", {"max": 1}),
    ],
)
def test_the_schema_refuses(name: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SINKS[name].model_validate({**GOOD[name], **fields})
