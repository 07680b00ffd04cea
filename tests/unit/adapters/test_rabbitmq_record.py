"""What each RabbitMQ message becomes as events."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic

from ofevents.event import BrokenEvent, Event, check_attributes, to_http_batch
from ofevents_adapters.rabbitmq_record import MALFORMED, TYPE, Record, events_of

SOURCE = "/ofevents/default/shop/orders"
STRUCTURED = "application/cloudevents+json"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
CLOUD_EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "a-1",
    "source": "/till/7",
    "type": "sale",
    "customext": 5,
}


DELIVERY = ("routing_key", "exchange", "redelivered")


def read_all(body: bytes, **fields: Any) -> list[Event]:
    of_delivery = {"routing_key": "orders.paid"}
    of_delivery |= {name: fields.pop(name) for name in DELIVERY if name in fields}
    record = Record(body, Basic.Properties(**fields), **of_delivery)  # type: ignore[arg-type]
    events = events_of(record, SOURCE, "random", 1_769_860_800.123)
    for event in events:
        check_attributes(event.attributes)
    return events


def read(body: bytes = b"{}", **fields: Any) -> Event:
    [event] = read_all(body, **fields)
    return event


def prefixed(prefix: str = "cloudEvents:", **attributes: Any) -> dict[str, Any]:
    return {prefix + name: value for name, value in attributes.items()}


def test_a_message_that_says_nothing_of_itself() -> None:
    event = read(b'{"amount": 7}')
    assert dict(event.attributes) == {
        "specversion": "1.0",
        "id": "random",
        "source": SOURCE,
        "type": TYPE,
        "subject": "orders.paid",
        "time": "2026-01-31T12:00:00.123Z",
        "datacontenttype": "application/json",
    }
    assert event.data == b'{"amount": 7}'
    assert "subject" not in read(routing_key="").attributes


def test_what_the_publisher_says_becomes_attributes() -> None:
    event = read(
        message_id="m-1", timestamp=NOON, app_id="till", exchange="sales", redelivered=True
    )
    assert (event.id, event.attributes["time"]) == ("m-1", "2026-01-31T12:00:00Z")
    assert event.attributes["rabbitmqappid"] == "till"
    assert event.attributes["rabbitmqexchange"] == "sales"
    assert event.attributes["rabbitmqredelivered"] is True
    assert read(timestamp=NOON.replace(tzinfo=None)).attributes["time"] == "2026-01-31T12:00:00Z"
    assert read(message_id="").id == "random"


def test_scalar_headers_become_extensions() -> None:
    headers = {
        "X-Trace": "a\nb", "n": 5, "f": 1.5, "yes": True, "at": NOON, "raw": b"\xff", "none": None,
        "x-death": [{"count": 1}], "table": {"a": 1}, "-": "x", "amount": Decimal(1),
    }  # fmt: skip
    attributes = read(headers=headers).attributes
    assert {k: v for k, v in attributes.items() if k.startswith("rabbitmqheader")} == {
        "rabbitmqheaderxtrace": "a b",
        "rabbitmqheadern": "5",
        "rabbitmqheaderf": "1.5",
        "rabbitmqheaderyes": "true",
        "rabbitmqheaderat": "2026-01-31T12:00:00Z",
        "rabbitmqheaderraw": "�",
    }


@pytest.mark.parametrize(
    ("body", "content_type", "shown", "decoded"),
    [
        (b"21.5", None, "application/json", 21.5),
        (b"on", None, "text/plain; charset=utf-8", "on"),
        (b"\xff", None, "application/octet-stream", b"\xff"),
        (b"a,b", "text/csv", "text/csv", "a,b"),
        (b"1", "", "application/json", 1),
    ],
)
def test_bodies(body: bytes, content_type: str | None, shown: str, decoded: object) -> None:
    event = read(body, content_type=content_type)
    assert (event.datacontenttype, event.data, event.value) == (shown, body, decoded)


# -- CloudEvents --------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["cloudEvents:", "cloudEvents_"])
def test_a_binary_cloud_event_stays_what_it_is(prefix: str) -> None:
    headers = {**prefixed(prefix, **CLOUD_EVENT, time=NOON, blob=b"\0\1", vip=True), "other": "x"}
    event = read(b"a,b", headers=headers, content_type="text/csv", message_id="m-1")
    assert dict(event.attributes) == {
        **CLOUD_EVENT,
        "time": "2026-01-31T12:00:00Z",
        "blob": "AAE=",
        "vip": True,
        "datacontenttype": "text/csv",
    }
    assert event.data == b"a,b"
    assert read(b"", headers=headers).data is None


@pytest.mark.parametrize("content_type", [STRUCTURED, None])
def test_a_structured_cloud_event_stays_what_it_is(content_type: str | None) -> None:
    body = orjson.dumps(CLOUD_EVENT)[:-1] + b',"data": {"n": 1.0}}'
    event = read(body, content_type=content_type)
    assert dict(event.attributes) == CLOUD_EVENT
    assert event.data == b'{"n": 1.0}'


def test_a_batch_becomes_its_events() -> None:
    events = [Event.create(id=str(n), source="/a", type="t", data=b"%d" % n) for n in range(3)]
    headers, body = to_http_batch(events)
    assert read_all(body, content_type=headers["content-type"]) == events


def test_an_extension_alone_is_no_claim() -> None:
    assert read(b"1", headers=prefixed(partitionkey="a")).type == TYPE


@pytest.mark.parametrize(
    ("body", "fields", "reason"),
    [
        (b"\xff", {"content_type": STRUCTURED}, "the body is not JSON"),
        (b"{}", {"content_type": STRUCTURED}, "specversion must be 1.0"),
        (b"x", {"headers": prefixed(id="1")}, "specversion must be 1.0"),
        (b"x", {"headers": prefixed(specversion="1.0", id=[1])}, "not list"),
        (b"x", {"headers": prefixed(**CLOUD_EVENT, Bad="x")}, "attribute name 'Bad'"),
        (b"x", {"headers": prefixed(**CLOUD_EVENT, time=5)}, "attribute time"),
        (
            b"x",
            {"headers": prefixed(**CLOUD_EVENT) | prefixed("cloudEvents_", id="2")},
            "attribute id is given twice",
        ),
    ],
)
def test_a_broken_claim_is_malformed_and_keeps_its_bytes(
    body: bytes, fields: dict[str, Any], reason: str
) -> None:
    event = read(body, **fields, message_id="m-1")
    assert isinstance(event, BrokenEvent)
    assert (event.type, event.id, event.data) == (MALFORMED, "m-1", body)
    assert reason in str(event.error)


VALUES = (
    st.text(max_size=20)
    | st.integers()
    | st.booleans()
    | st.binary(max_size=9)
    | st.floats()
    | st.none()
    | st.datetimes(min_value=datetime(1971, 1, 1))
    | st.lists(st.integers(), max_size=2)
)


@given(
    body=st.binary(max_size=60) | st.builds(orjson.dumps, st.text(max_size=20)),
    content_type=st.none() | st.text(max_size=20) | st.just(STRUCTURED),
    message_id=st.none() | st.text(max_size=20),
    headers=st.dictionaries(
        st.sampled_from([f"cloudEvents:{name}" for name in ("specversion", "id", "type", "time")])
        | st.text(max_size=80),
        VALUES | st.just("1.0"),
        max_size=6,
    ),
)
def test_every_message_becomes_a_valid_event_with_its_bytes(
    body: bytes, content_type: str | None, message_id: str | None, headers: dict[str, Any]
) -> None:
    event = read(body, content_type=content_type, message_id=message_id, headers=headers)
    assert (event.data or b"") == body
