"""What each entry of a stream, and each message of a channel, becomes as events."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofevents.event import BrokenEvent, Event, check_attributes, to_http, to_http_batch
from ofevents_adapters.redis_record import MALFORMED, TYPE, Entry, message

SOURCE = "/ofevents/default/shop/orders"
ID = "1769860800123-4"
CLOUD_EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "a-1",
    "source": "/till/7",
    "type": "sale",
    "time": "2026-01-31T12:00:00Z",
    "customext": 5,
}
STRUCTURED = {b"content-type": b"application/cloudevents+json; charset=utf-8"}


def read_all(fields: dict[bytes, bytes], id: str = ID) -> list[Event]:
    entry = Entry(id, fields)
    events = entry.events(SOURCE, "orders")
    for event in events:
        check_attributes(event.attributes)
    assert entry.events(SOURCE, "orders") == events, "the same whenever it comes"
    return events


def read(fields: dict[bytes, bytes], id: str = ID) -> Event:
    [event] = read_all(fields, id)
    return event


def fields_of(headers: dict[str, str], body: bytes) -> dict[bytes, bytes]:
    """An entry whose fields are these headers."""
    return {name.encode(): value.encode() for name, value in headers.items()} | {b"data": body}


def test_data_alone() -> None:
    event = read({b"data": b'{"amount": 7}'})
    assert dict(event.attributes) == {
        "specversion": "1.0",
        "id": f"orders/{ID}",
        "source": SOURCE,
        "type": TYPE,
        "subject": "orders",
        "time": "2026-01-31T12:00:00.123Z",
        "datacontenttype": "application/json",
    }
    assert (event.data, event.value) == (b'{"amount": 7}', {"amount": 7})


@pytest.mark.parametrize(
    ("data", "content_type", "decoded"),
    [
        (b"plain text", "text/plain; charset=utf-8", "plain text"),
        (b"\xff\xfe", "application/octet-stream", b"\xff\xfe"),
        (b"12", "application/json", 12),
    ],
)
def test_other_data(data: bytes, content_type: str, decoded: object) -> None:
    event = read({b"data": data})
    assert (event.datacontenttype, event.data, event.value) == (content_type, data, decoded)


def test_a_content_type_is_believed() -> None:
    event = read({b"data": b"<a/>", b"Content-Type": b"application/xml"})
    assert event.datacontenttype == "application/xml"


def test_several_fields_are_an_object() -> None:
    event = read({b"sku": b"A-1", b"amount": b"7", b"picture": b"\xff\x00", b"n\xff": b""})
    assert event.datacontenttype == "application/json"
    assert event.value == {"sku": "A-1", "amount": "7", "picture_base64": "/wA=", "n\\xff": ""}


def test_data_beside_other_fields_is_one_of_them() -> None:
    assert read({b"data": b"7", b"sku": b"A"}).value == {"data": "7", "sku": "A"}


def test_an_id_that_is_no_time() -> None:
    event = read({b"data": b"1"}, "18446744073709551615-18446744073709551615")
    assert "time" not in event.attributes
    assert read({b"data": b"1"}, "5-1").attributes["time"] == "1970-01-01T00:00:00.005Z"


# -- CloudEvents --------------------------------------------------------------


@pytest.mark.parametrize(
    "beside", [STRUCTURED, {}, {b"metadata": b'{"ttlInSeconds": "5"}'}],
    ids=["content-type", "alone", "Dapr's"],
)  # fmt: skip
def test_a_structured_cloud_event_stays_what_it_is(beside: dict[bytes, bytes]) -> None:
    event = read({b"data": orjson.dumps(CLOUD_EVENT)[:-1] + b',"data": {"n": 1.0}}'} | beside)
    assert dict(event.attributes) == CLOUD_EVENT
    assert event.data == b'{"n": 1.0}'


def test_a_binary_cloud_event_is_percent_decoded_and_stays_what_it_is() -> None:
    original = Event.create(
        id="1", source="/a", type="t", subject="Grüße 100%", datacontenttype="text/csv", data=b"a,b"
    )
    headers, body = to_http(original)
    assert "%" in headers["ce-subject"]
    assert read(fields_of(headers, body)) == original


def test_a_batch_becomes_its_events() -> None:
    events = [Event.create(id=str(n), source="/a", type="t", data=b"%d" % n) for n in range(3)]
    headers, body = to_http_batch(events)
    assert read_all(fields_of(headers, body)) == events
    assert read_all(fields_of(headers, b"[]")) == []


def test_daprs_metadata_of_raw_data_is_kept() -> None:
    event = read({b"data": b"1", b"metadata": b'{"a":\n"b\xff"}'})
    assert event.attributes["redisfieldmetadata"] == '{"a": "b\N{REPLACEMENT CHARACTER}"}'


def test_a_field_named_specversion_makes_no_cloud_event() -> None:
    event = read({b"data": b'{"specversion": "2", "id": 1}'})
    assert (event.type, event.value) == (TYPE, {"specversion": "2", "id": 1})


@pytest.mark.parametrize(
    ("data", "beside", "reason"),
    [
        (b"\xff", STRUCTURED, "the body is not JSON"),
        (b"", STRUCTURED, "the body is not JSON"),
        (b'{"specversion": "1.0"}', STRUCTURED, "attribute id is missing"),
        (b"x", {b"ce-specversion": b"1.0"}, "attribute id is missing"),
        (b"x", {b"CE-id": b"\xff"}, "ce-id is not UTF-8"),
        (b"[1]", {b"content-type": b"application/cloudevents-batch+json"}, "event 0 of the batch"),
    ],
)
def test_a_broken_claim_is_malformed_and_keeps_its_bytes(
    data: bytes, beside: dict[bytes, bytes], reason: str
) -> None:
    event = read({b"data": data} | beside)
    assert isinstance(event, BrokenEvent)
    assert (event.type, event.id, event.data) == (MALFORMED, f"orders/{ID}", data)
    assert event.datacontenttype == "application/octet-stream"
    assert reason in str(event.error)


# -- channels -----------------------------------------------------------------


def test_a_message_of_a_channel() -> None:
    [event] = message(b"hello", SOURCE, "news", "some-id", 1_769_860_800.0)
    check_attributes(event.attributes)
    assert (event.id, event.attributes["subject"], event.value) == ("some-id", "news", "hello")
    [same] = message(orjson.dumps({**CLOUD_EVENT, "data": 1}), SOURCE, "news", "x", 0.0)
    assert dict(same.attributes) == CLOUD_EVENT


@given(
    fields=st.dictionaries(
        st.sampled_from([b"data", b"content-type", b"ce-id", b"ce-specversion", b"metadata"])
        | st.binary(max_size=20),
        st.binary(max_size=40) | st.sampled_from([b"1.0", b"application/cloudevents+json"]),
        min_size=1,
        max_size=6,
    )
)
def test_every_entry_becomes_a_valid_event(fields: dict[bytes, bytes]) -> None:
    for event in read_all(fields):
        assert event.id == f"orders/{ID}"
