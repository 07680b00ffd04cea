"""What each NATS message becomes as events."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.msg import Msg

from ofevents.event import BrokenEvent, Event, check_attributes, to_http, to_http_batch
from ofevents_adapters.nats_record import MALFORMED, TYPE, Taken, events_of

SOURCE = "/ofevents/default/shop/orders"
ID = "ORDERS/42@1769860800123"
CLOUD_EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "a-1",
    "source": "/till/7",
    "type": "sale",
    "time": "2026-01-31T12:00:00Z",
    "customext": 5,
}
STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=utf-8"}


def read_all(data: bytes, headers: dict[str, str] | None = None) -> list[Event]:
    message = Msg(_client=None, subject="orders.paid", data=data, headers=headers)  # type: ignore[arg-type]
    events = events_of(message, SOURCE, ID, 1_769_860_800.123)
    for event in events:
        check_attributes(event.attributes)
    return events


def read(data: bytes = b"{}", headers: dict[str, str] | None = None) -> Event:
    [event] = read_all(data, headers)
    return event


def test_a_json_message() -> None:
    event = read(b'{"amount": 7}')
    assert dict(event.attributes) == {
        "specversion": "1.0",
        "id": ID,
        "source": SOURCE,
        "type": TYPE,
        "subject": "orders.paid",
        "time": "2026-01-31T12:00:00.123Z",
        "datacontenttype": "application/json",
    }
    assert event.data == b'{"amount": 7}'
    assert event.value == {"amount": 7}


@pytest.mark.parametrize(
    ("data", "content_type", "decoded"),
    [
        (b"plain text", "text/plain; charset=utf-8", "plain text"),
        (b"", "text/plain; charset=utf-8", ""),
        (b"\xff\xfe", "application/octet-stream", b"\xff\xfe"),
        (b"12", "application/json", 12),
    ],
)
def test_other_bodies(data: bytes, content_type: str, decoded: object) -> None:
    event = read(data)
    assert (event.datacontenttype, event.data, event.value) == (content_type, data, decoded)


def test_a_content_type_header_is_believed() -> None:
    assert read(b"<a/>", {"content-type": "application/xml"}).datacontenttype == "application/xml"


def test_headers_become_extensions() -> None:
    event = read(headers={"X-Trace": "1", "x_trace": "2", "bad": "a\nb", "-": "", "Ünsch": "3"})
    extensions = {k: v for k, v in event.attributes.items() if k.startswith("natsheader")}
    assert extensions == {
        "natsheaderxtrace": "2",
        "natsheaderbad": "a b",
        "natsheadernsch": "3",
    }


@pytest.mark.parametrize("front", ["$JS.ACK", "$JS.ACK.hub.ACCHASH"])
def test_a_jetstream_message_is_known_by_its_place_in_the_stream(front: str) -> None:
    def came(deliveries: int, rest: str) -> Taken:
        reply = f"{front}.ORDERS.mine.{deliveries}.42.{57 + deliveries}.1769860800123456789.3{rest}"
        return Taken(Msg(_client=None, subject="a", reply=reply, data=b"1"))  # type: ignore[arg-type]

    end = "" if front == "$JS.ACK" else ".random"
    first, again = came(1, end), came(2, end)
    assert (first.attempt, again.attempt) == (1, 2)
    [event] = first.events(SOURCE)
    assert (event.id, event.attributes["time"]) == (ID, "2026-01-31T12:00:00.123Z")
    assert again.events(SOURCE) == [event]


# -- CloudEvents --------------------------------------------------------------


@pytest.mark.parametrize("headers", [STRUCTURED, None], ids=["header", "body alone"])
def test_a_structured_cloud_event_stays_what_it_is(headers: Any) -> None:
    event = read(orjson.dumps(CLOUD_EVENT)[:-1] + b',"data": {"n": 1.0}}', headers)
    assert dict(event.attributes) == CLOUD_EVENT
    assert event.data == b'{"n": 1.0}'


def test_a_binary_cloud_event_is_percent_decoded_and_stays_what_it_is() -> None:
    original = Event.create(
        id="1", source="/a", type="t", subject="Grüße 100%", datacontenttype="text/csv", data=b"a,b"
    )
    headers, body = to_http(original)
    assert "%" in headers["ce-subject"]
    assert read(body, {**headers, "other": "x"}) == original


def test_a_batch_becomes_its_events() -> None:
    events = [Event.create(id=str(n), source="/a", type="t", data=b"%d" % n) for n in range(3)]
    headers, body = to_http_batch(events)
    assert read_all(body, headers) == events
    assert read_all(b"[]", headers) == []


def test_a_field_named_specversion_makes_no_cloud_event() -> None:
    event = read(b'{"specversion": "2", "id": 1}')
    assert event.type == TYPE
    assert event.value == {"specversion": "2", "id": 1}


@pytest.mark.parametrize(
    ("data", "headers", "reason"),
    [
        (b"\xff", STRUCTURED, "the body is not JSON"),
        (b"", STRUCTURED, "the body is not JSON"),
        (b'{"specversion": "1.0"}', STRUCTURED, "attribute id is missing"),
        (b"x", {"ce-specversion": "1.0"}, "attribute id is missing"),
        (b"x", {"Ce-Id": "%ff"}, "header ce-id is not UTF-8 after percent-decoding"),
        (b"[1]", {"content-type": "application/cloudevents-batch+json"}, "event 0 of the batch"),
    ],
)
def test_a_broken_claim_is_malformed_and_keeps_its_bytes(
    data: bytes, headers: dict[str, str], reason: str
) -> None:
    event = read(data, headers)
    assert isinstance(event, BrokenEvent)
    assert (event.type, event.id, event.data) == (MALFORMED, ID, data)
    assert event.attributes["subject"] == "orders.paid"
    assert event.datacontenttype == "application/octet-stream"
    assert reason in str(event.error)


@given(
    data=st.binary(max_size=60) | st.builds(orjson.dumps, st.text(max_size=20)),
    headers=st.dictionaries(
        st.sampled_from(["content-type", "Content-Type", "ce-id", "ce-specversion", "ce-type"])
        | st.text(st.characters(codec="ascii"), max_size=80),
        st.text(st.characters(codec="utf-8"), max_size=20)
        | st.sampled_from(["1.0", "application/cloudevents+json"]),
        max_size=6,
    ),
)
def test_every_message_becomes_a_valid_event_with_its_bytes(
    data: bytes, headers: dict[str, str]
) -> None:
    event = read(data, headers or None)
    assert event.data == data
    assert event.id == ID
