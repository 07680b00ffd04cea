"""What Dapr hands over as Events."""

from __future__ import annotations

import orjson
import pytest

from ofevents.event import BrokenEvent, Event
from ofevents_adapters.dapr_record import MALFORMED, TYPE, Message, events_of

KAFKA = {"__topic": "orders", "__partition": "3", "__offset": "17", "__timestamp": "1700000000123"}
CE = b'{"specversion":"1.0","id":"a","source":"/s","type":"t","data":{"n":9007199254740993}}'


def one(data: bytes, metadata: dict[str, str] | None = None, subject: str = "orders") -> Event:
    (event,) = events_of(Message(data, metadata or {}, subject), "/ofevents/x", 1_700_000_000.0)
    return event


def test_bytes_with_a_position_have_the_id_of_their_place() -> None:
    event = one(b'{"n": 1}', {**KAFKA, "__key": "k1", "x-shop": "blue"})
    assert event.id == "orders/3/17@1700000000123"
    assert (event.type, event.source) == (TYPE, "/ofevents/x")
    assert event.attributes["subject"] == "orders"
    assert (event.partitionkey, event.attributes["daprxshop"]) == ("k1", "blue")
    assert event.attributes["time"] == "2023-11-14T22:13:20.123Z"
    assert event.data == b'{"n": 1}'
    assert event.attributes["datacontenttype"] == "application/json"


def test_bytes_without_a_position_have_a_new_id_each_time() -> None:
    assert one(b"x").id != one(b"x").id
    assert one(b"x", {**KAFKA, "__timestamp": "-1"}).id == "orders/3/17"


def test_a_cloudevent_stays_what_it_is_byte_for_byte() -> None:
    event = one(CE, KAFKA)
    assert (event.id, event.source, event.type) == ("a", "/s", "t")
    assert event.data == b'{"n":9007199254740993}'
    keyed = one(CE, {**KAFKA, "__key": "k1"})
    assert (keyed.id, keyed.partitionkey, keyed.data) == ("a", "k1", event.data)


def test_a_binary_cloudevent_of_kafka() -> None:
    headers = {"ce_specversion": "1.0", "ce_id": "b", "ce_source": "/s", "ce_type": "t"}
    event = one(b"\x00\xff", {**KAFKA, **headers, "content-type": "image/png"})
    assert (event.id, event.data) == ("b", b"\x00\xff")
    assert event.attributes["datacontenttype"] == "image/png"


@pytest.mark.parametrize(
    "metadata",
    [
        {"content-type": "application/cloudevents+json"},
        {"content-type": "application/cloudevents+avro"},
        {"ce_specversion": "1.0", "ce_id": "b"},
    ],
)
def test_what_claims_to_be_a_cloudevent_and_is_none_is_broken(metadata: dict[str, str]) -> None:
    event = one(b"\xff no", {**KAFKA, **metadata})
    assert isinstance(event, BrokenEvent)
    assert (event.type, event.id) == (MALFORMED, "orders/3/17@1700000000123")
    assert event.data == b"\xff no"


def test_a_batch_becomes_all_its_events() -> None:
    body = b"[%b,%b]" % (CE, CE.replace(b'"id":"a"', b'"id":"b"'))
    metadata = {"content-type": "application/cloudevents-batch+json"}
    found = events_of(Message(body, metadata, "orders"), "/x", 0.0)
    assert [each.id for each in found] == ["a", "b"]


def test_metadata_of_the_hop_is_left_out() -> None:
    hop = {"user-agent": "grpc-go", "traceparent": "00-0", "dapr-app-id": "x", "grpc-a": "b"}
    event = one(b"", {**hop, "timezone": "Local\n"}, "every")
    assert event.attributes["subject"] == "every"
    assert {name for name in event.attributes if name.startswith("dapr")} == {"daprtimezone"}
    assert event.attributes["daprtimezone"] == "Local "
    assert orjson.loads(event.to_json())["type"] == TYPE
