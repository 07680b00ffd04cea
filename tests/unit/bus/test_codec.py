"""The wire form keeps every attribute and every byte, and reads strangers' events."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofevents.bus import codec
from ofevents.errors import BadEvent
from ofevents.event import Event
from ofevents.ports import Delivery, Message, Payload

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12).filter(
    lambda name: (
        name not in {"data", "id", "source", "type", "specversion", "subject", "time", "dataschema"}
        and name not in {"datacontenttype", "self", "cls"}
    )
)
DATA = st.one_of(
    st.none(),
    st.binary(max_size=60),
    st.sampled_from([b'{"a" : 1.50 , "b":[ ]}', b"[]", b"null", b'"x"', b"\xff\x00", b" 1 "]),
)


@st.composite
def events(draw: st.DrawFn) -> Event:
    content_type = draw(
        st.sampled_from([None, "application/json", "text/plain", "application/octet-stream"])
    )
    extensions = draw(st.dictionaries(NAMES, st.one_of(TEXT, st.integers(0, 9), st.booleans())))
    return Event.create(
        id=draw(TEXT),
        source=draw(TEXT),
        type=draw(TEXT),
        data=draw(DATA),
        datacontenttype=content_type,
        **extensions,
    )


BINARY = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t"}
DELIVERIES = st.builds(
    Delivery,
    subscriber=TEXT,
    events=st.lists(events(), min_size=1, max_size=4).map(tuple),
    payload=st.one_of(st.none(), st.builds(Payload, st.binary(max_size=30), TEXT)),
    key=st.one_of(st.none(), TEXT),
    attempt=st.integers(0, 9),
    due=st.floats(0, 2e9),
    generation=st.integers(0, 9),
    operation=st.one_of(st.just(""), TEXT),
    outages=st.integers(0, 9),
)


@given(events())
def test_an_event_comes_back_exactly(event: Event) -> None:
    headers, body = codec.encode(Message(event, "w", headers={"Traceparent": "00-1"}))
    assert headers["traceparent"] == "00-1"
    assert codec.decode(headers, body) == event


@given(DELIVERIES)
def test_a_delivery_comes_back_exactly(delivery: Delivery) -> None:
    headers, body = codec.encode(Message(delivery, "w"))
    back = codec.decode(headers, body)
    assert back == delivery
    assert [one.data for one in back.events] == [one.data for one in delivery.events]  # type: ignore[union-attr]


def test_a_delivery_of_the_largest_event_fits_the_room_kept_for_it() -> None:
    event = Event.create(id="1", source="s", type="t", data=b"x" * 100_000)
    _, alone = codec.encode(Message(event, "w"))
    _, body = codec.encode(Message(Delivery("n/t/s" * 200, (event,), key="k" * 500), "w"))
    assert len(body) - len(alone) < codec.DELIVERY_ROOM


def test_bad_utf_8_is_replaced_in_headers_and_refused_in_attributes() -> None:
    bad = b"\xe9t\xe9".decode("utf-8", "surrogateescape")
    good = Event.create(id="1", source="s", type="t")
    headers, _ = codec.encode(Message(good, "w", headers={"Reason": bad}))
    assert headers["reason"] == "?t?"
    with pytest.raises(BadEvent, match="UTF-8"):
        codec.encode(Message(Event.create(id="1", source="s", type="t", subject=bad), "w"))
    with pytest.raises(BadEvent, match="UTF-8"):
        codec.encode(Message(Delivery("n/t/s", (good,), key=bad), "w"))


def test_strangers_structured_and_binary_events_are_read() -> None:
    structured = codec.decode(
        {}, b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":1}'
    )
    assert structured == Event.create(id="1", source="s", type="t", data=b"1")
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "%E2%82%AC",
        "ce-type": '"a \\"t\\""',
        "content-type": "text/plain",
        "\udcff": "not ours",
    }
    for data in (b"hello", b""):
        assert codec.decode(headers, data) == Event.create(
            id="1", source="€", type='a "t"', datacontenttype="text/plain", data=data
        )


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"\xff not json"),
        ({}, b"[1]"),
        ({codec.DATA_AT: "nine"}, b"{}"),
        ({codec.DATA_AT: "3"}, b""),
        ({codec.TABLE_AT: "5"}, b'{"a":[[1,2,3]]}'),
        ({codec.CONTENT_TYPE: "application/cloudevents-batch+json"}, b"[]"),
        ({"ce-specversion": "1.0", "ce-id": "1"}, b""),
        ({**BINARY, "ce-subject": "%FF"}, b""),
        ({**BINARY, "ce-subject": "\udcff"}, b""),
        ({**BINARY, "ce-data": "1"}, b""),
        ({**BINARY, codec.CONTENT_TYPE: "application/cloudevents-batch+json"}, b"[]"),
    ],
)
def test_what_is_no_message_is_a_bad_event(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(BadEvent):
        codec.decode(headers, body)


def test_deduplication_tells_moves_sources_and_topics_apart() -> None:
    one = Event.create(id="1", source="a", type="t")
    other = Event.create(id="1", source="b", type="t")
    moved = Delivery("n/t/s", (one,))
    redriven = replace(moved, operation="redrive-1")
    messages = [
        ("event.n.a.b", Message(one, "w")),
        ("event.n.a.c", Message(one, "w")),
        ("event.n.a.b", Message(one, "v")),
        ("event.n.a.b", Message(other, "w")),
        ("event.n.a.b", Message(one, "w", generation=1)),
        ("event.n.a.b", Message(moved, "w")),
        ("event.n.a.b", Message(Delivery("n/t/s", (one,), generation=1), "w")),
        ("event.n.a.b", Message(redriven, "w")),
        # The same redrive's delivery, postponed: stored again, not swallowed.
        ("event.n.a.b", Message(replace(redriven, generation=1), "w")),
        ("event.n.a.b", Message(Delivery("n/t/s", (one, other)), "w")),
        ("event.n.a.b", Message(Delivery("n/t/s", (other, one)), "w")),
    ]
    ids = {codec.message_id(topic, message) for topic, message in messages}
    assert len(ids) == len(messages)
    assert codec.message_id(*messages[0]) == codec.message_id("event.n.a.b", Message(one, "w"))
