"""What each MQTT message becomes as events."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofevents.event import BrokenEvent, Event, check_attributes, to_http_batch
from ofevents_adapters.mqtt_packets import Publish
from ofevents_adapters.mqtt_record import MALFORMED, TYPE, events_of

SOURCE = "/ofevents/default/shop/orders"
STRUCTURED = "application/cloudevents+json; charset=utf-8"
CLOUD_EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "a-1",
    "source": "/till/7",
    "type": "sale",
    "time": "2026-01-31T12:00:00Z",
    "customext": 5,
}
BINARY = (("specversion", "1.0"), ("id", "a-1"), ("source", "/till/7"), ("type", "sale"))


def read_all(payload: bytes, content_type: str | None = None, **fields: Any) -> list[Event]:
    message = Publish("orders/paid", payload, 1, 7, content_type=content_type, **fields)
    events = events_of(message, SOURCE, "the-id", 1_769_860_800.123)
    for event in events:
        check_attributes(event.attributes)
    return events


def read(payload: bytes = b"{}", content_type: str | None = None, **fields: Any) -> Event:
    [event] = read_all(payload, content_type, **fields)
    return event


def test_a_json_message() -> None:
    event = read(b'{"amount": 7}')
    assert dict(event.attributes) == {
        "specversion": "1.0",
        "id": "the-id",
        "source": SOURCE,
        "type": TYPE,
        "subject": "orders/paid",
        "time": "2026-01-31T12:00:00.123Z",
        "datacontenttype": "application/json",
    }
    assert event.data == b'{"amount": 7}'


@pytest.mark.parametrize(
    ("payload", "content_type", "shown", "decoded"),
    [
        (b"21.5", None, "application/json", 21.5),
        (b"on", None, "text/plain; charset=utf-8", "on"),
        (b"", None, "text/plain; charset=utf-8", ""),
        (b"\xff\xfe", None, "application/octet-stream", b"\xff\xfe"),
        (b"on", "text/csv", "text/csv", "on"),
        (b"on", "bad\ntype", "text/plain; charset=utf-8", "on"),
    ],
)
def test_other_payloads(
    payload: bytes, content_type: str | None, shown: str, decoded: object
) -> None:
    event = read(payload, content_type)
    assert (event.datacontenttype, event.data, event.value) == (shown, payload, decoded)


def test_user_properties_become_extensions() -> None:
    given = (("X-Trace", "1"), ("xtrace", "2"), ("id", "3"), ("bad", "a\nb"), ("-", ""))
    event = read(properties=given, retain=True)
    assert {k: v for k, v in event.attributes.items() if k.startswith("mqtt")} == {
        "mqttretained": True,
        "mqttpropertyxtrace": "2",
        "mqttpropertyid": "3",
        "mqttpropertybad": "a b",
    }
    assert event.id == "the-id"


# -- CloudEvents --------------------------------------------------------------


@pytest.mark.parametrize("content_type", [STRUCTURED, None], ids=["MQTT 5", "MQTT 3.1.1"])
def test_a_structured_cloud_event_stays_what_it_is(content_type: str | None) -> None:
    event = read(orjson.dumps(CLOUD_EVENT)[:-1] + b',"data": {"n": 1.0}}', content_type)
    assert dict(event.attributes) == CLOUD_EVENT
    assert event.data == b'{"n": 1.0}'


def test_a_binary_cloud_event_stays_what_it_is() -> None:
    more = (("subject", "Grüße 100%"), ("X-Trace", "not of the event"))
    event = read(b"a,b", "text/csv", properties=(*BINARY, *more))
    assert dict(event.attributes) == {
        **dict(BINARY),
        "subject": "Grüße 100%",
        "datacontenttype": "text/csv",
    }
    assert event.data == b"a,b"
    assert read(b"", properties=BINARY).data is None
    assert read(b"", "text/plain", properties=BINARY).data == b""


def test_a_batch_becomes_its_events() -> None:
    events = [Event.create(id=str(n), source="/a", type="t", data=b"%d" % n) for n in range(3)]
    headers, body = to_http_batch(events)
    assert read_all(body, headers["content-type"]) == events


@pytest.mark.parametrize(
    ("payload", "content_type", "properties", "reason"),
    [
        (b"\xff", STRUCTURED, (), "the body is not JSON"),
        (b'{"specversion": "1.0"}', STRUCTURED, (), "attribute id is missing"),
        (b"x", "application/cloudevents+avro", (), "that we read"),
        (b"x", None, BINARY[:2], "attribute source is missing"),
        (b"x", None, (("specversion", "0.3"), *BINARY[1:]), "specversion must be 1.0"),
        (b"x", None, (*BINARY, ("type", "b")), "type is given twice"),
        (b"x", None, (*BINARY, ("data", "b")), "attribute name 'data'"),
        (b"x", "a\nb", BINARY, "printable ASCII"),
    ],
)
def test_a_broken_claim_is_malformed_and_keeps_its_bytes(
    payload: bytes, content_type: str | None, properties: Any, reason: str
) -> None:
    event = read(payload, content_type, properties=properties)
    assert isinstance(event, BrokenEvent)
    assert (event.type, event.id, event.data) == (MALFORMED, "the-id", payload)
    assert event.attributes["subject"] == "orders/paid"
    assert reason in str(event.error)


@given(
    payload=st.binary(max_size=60) | st.builds(orjson.dumps, st.text(max_size=20)),
    content_type=st.none() | st.text(max_size=20) | st.just(STRUCTURED),
    properties=st.lists(
        st.tuples(
            st.sampled_from(["specversion", "id", "type", "source", "time"]) | st.text(max_size=80),
            st.text(st.characters(codec="utf-8"), max_size=20) | st.just("1.0"),
        ),
        max_size=6,
    ),
)
def test_every_message_becomes_valid_events_with_its_bytes(
    payload: bytes, content_type: str | None, properties: list[tuple[str, str]]
) -> None:
    event = read(payload, content_type, properties=tuple(properties))
    assert (event.data or b"") == payload
