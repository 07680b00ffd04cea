"""What each Kafka record becomes as an event."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from ofevents.event import BrokenEvent, Event, check_attributes
from ofevents_adapters.kafka_record import MALFORMED, TYPE, event_of, partition_key

SOURCE = "/ofevents/default/shop/orders"
STAMP = 1_769_860_800_123
CLOUD_EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "a-1",
    "source": "/till/7",
    "type": "sale",
    "time": "2026-01-31T12:00:00Z",
    "customext": 5,
}


def record(
    value: bytes | None = b"{}",
    *,
    key: bytes | None = None,
    headers: Any = None,
    timestamp: tuple[int, int] = (1, STAMP),
) -> Message:
    return Message(
        topic="orders",
        partition=3,
        offset=42,
        key=key,
        value=value,
        headers=headers,
        timestamp=timestamp,
    )


def read(*arguments: Any, **named: Any) -> Event:
    event = event_of(record(*arguments, **named), SOURCE)
    check_attributes(event.attributes)
    return event


def test_a_json_record() -> None:
    event = read(b'{"amount": 7}', key=b"c-1")
    assert dict(event.attributes) == {
        "specversion": "1.0",
        "id": f"orders/3/42@{STAMP}",
        "source": SOURCE,
        "type": TYPE,
        "time": "2026-01-31T12:00:00.123Z",
        "partitionkey": "c-1",
        "datacontenttype": "application/json",
    }
    assert event.data == b'{"amount": 7}'
    assert event.value == {"amount": 7}


@pytest.mark.parametrize(
    ("value", "content_type", "decoded"),
    [
        (b"plain text", "text/plain; charset=utf-8", "plain text"),
        (b"", "text/plain; charset=utf-8", ""),
        (b"\xff\xfe", "application/octet-stream", b"\xff\xfe"),
        (b"12", "application/json", 12),
    ],
)
def test_other_bodies(value: bytes, content_type: str, decoded: object) -> None:
    event = read(value)
    assert (event.datacontenttype, event.data, event.value) == (content_type, value, decoded)


def test_a_content_type_header_is_believed() -> None:
    event = read(b"<a/>", headers=[("Content-Type", b"application/xml")])
    assert event.datacontenttype == "application/xml"


def test_a_tombstone_is_an_event_without_data() -> None:
    event = read(None, key=b"c-1")
    assert event.data is None
    assert event.partitionkey == "c-1"
    assert event.datacontenttype is None


def test_a_record_without_a_timestamp() -> None:
    event = read(timestamp=(0, -1))
    assert event.id == "orders/3/42"
    assert "time" not in event.attributes


def test_a_timestamp_that_is_no_date() -> None:
    assert "time" not in read(timestamp=(1, 2**62)).attributes


def test_headers_become_extensions() -> None:
    headers = [("X-Trace", b"1"), ("x_trace", b"2"), ("bad", b"\xff\n"), ("null", None), ("-", b"")]
    event = read(headers=headers)
    extensions = {k: v for k, v in event.attributes.items() if k.startswith("kafkaheader")}
    assert extensions == {
        "kafkaheaderxtrace": "2",
        "kafkaheaderbad": "\\xff ",
        "kafkaheadernull": "",
    }


def test_keys_that_are_no_text_are_base64() -> None:
    assert partition_key(b"\x00\x01") == "AAE="
    assert partition_key(b"\xff") == "/w=="
    assert partition_key("ключ".encode()) == "ключ"
    assert partition_key(b"") is None


# -- CloudEvents --------------------------------------------------------------

STRUCTURED = [("content-type", b"application/cloudevents+json; charset=utf-8")]


@pytest.mark.parametrize("headers", [STRUCTURED, None], ids=["header", "body alone"])
def test_a_structured_cloud_event_stays_what_it_is(headers: Any) -> None:
    body = orjson.dumps(CLOUD_EVENT)[:-1] + b',"data": {"n": 1.0}}'
    event = read(body, headers=headers)
    assert dict(event.attributes) == CLOUD_EVENT
    assert event.data == b'{"n": 1.0}'


def test_a_binary_cloud_event_stays_what_it_is() -> None:
    headers = [(f"ce_{name}", str(value).encode()) for name, value in CLOUD_EVENT.items()]
    headers += [("content-type", b"text/csv"), ("other", b"x")]
    event = read(b"a,b", headers=headers)
    assert dict(event.attributes) == {
        **CLOUD_EVENT,
        "customext": "5",
        "datacontenttype": "text/csv",
    }
    assert event.data == b"a,b"


def test_the_key_orders_a_cloud_event_that_has_no_partitionkey() -> None:
    body = orjson.dumps(CLOUD_EVENT)
    assert read(body, key=b"k").partitionkey == "k"
    named = orjson.dumps({**CLOUD_EVENT, "partitionkey": "own"})
    assert read(named, key=b"k").partitionkey == "own"


def test_a_field_named_specversion_makes_no_cloud_event() -> None:
    event = read(b'{"specversion": "2", "id": 1}')
    assert event.type == TYPE
    assert event.value == {"specversion": "2", "id": 1}


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (b"\xff", STRUCTURED, "the body is not JSON"),
        (None, STRUCTURED, "the body is not JSON"),
        (b'{"specversion": "1.0"}', STRUCTURED, "attribute id is missing"),
        (b"x", [("ce_specversion", b"1.0")], "attribute id is missing"),
        (b"x", [("ce_specversion", b"1.0"), ("ce_id", b"\xff")], "header ce_id is not UTF-8"),
    ],
)
def test_a_broken_claim_is_malformed_and_keeps_its_bytes(
    value: bytes | None, headers: Any, reason: str
) -> None:
    event = read(value, headers=headers, key=b"k")
    assert isinstance(event, BrokenEvent)
    assert event.type == MALFORMED
    assert event.id == f"orders/3/42@{STAMP}"
    assert event.datacontenttype == "application/octet-stream"
    assert event.data == (value or b"")
    assert event.partitionkey == "k"
    assert reason in str(event.error)


@given(
    value=st.none() | st.binary(max_size=60) | st.builds(orjson.dumps, st.text(max_size=20)),
    key=st.none() | st.binary(max_size=20),
    headers=st.lists(
        st.tuples(
            st.sampled_from(["content-type", "ce_id", "ce_specversion", "ce_type"])
            | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=80),
            st.none()
            | st.binary(max_size=20)
            | st.sampled_from([b"1.0", b"application/cloudevents+json"]),
        ),
        max_size=6,
    ),
)
def test_every_record_becomes_a_valid_event_with_its_bytes(
    value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    event = read(value, key=key, headers=headers or None)
    assert event.data == (b"" if value is None and isinstance(event, BrokenEvent) else value)
    assert event.id == f"orders/3/42@{STAMP}" or event.attributes.get("type") not in (
        TYPE,
        MALFORMED,
    )
