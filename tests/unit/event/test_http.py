"""The HTTP binding: what is sent comes back, and what is wrong is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofevents.errors import BadEvent
from ofevents.event import Event, from_http, is_json, to_http, to_http_batch
from tests.unit.event.strategies import events

CE = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}


def wire(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]


@given(events(scalars=False))
def test_binary_keeps_attributes_and_bytes(event: Event) -> None:
    headers, body = to_http(event)
    assert from_http(wire(headers), body) == [event]
    assert from_http(headers, body) == [event]


@given(events())
def test_structured_keeps_attributes_and_bytes(event: Event) -> None:
    headers, body = to_http(event, "structured")
    assert from_http(wire(headers), body) == [event]


@pytest.mark.parametrize("data", [b' {"a": 1}', b"0\n", b"\r\n\t[ 1 ] "])
def test_whitespace_around_json_is_kept_where_the_body_is_the_data(data: bytes) -> None:
    event = Event.create(id="1", source="/s", type="t", data=data)
    for format, kept in (("binary", data), ("structured", data.strip())):
        headers, body = to_http(event, format)
        (came,) = from_http(headers, body) or []
        assert came.data == kept
    encoded, data_at = event.encode()
    assert Event.decode(encoded, data_at).data == data


@given(st.lists(events(), max_size=4))
def test_a_batch_keeps_its_events_in_order(several: list[Event]) -> None:
    headers, body = to_http_batch(several)
    assert from_http(headers, body) == several


@given(events())
def test_raw_sends_the_data_alone(event: Event) -> None:
    headers, body = to_http(event, "raw")
    assert body == (event.data or b"")
    assert headers.keys() <= {"content-type"}
    assert headers.get("content-type") == event.datacontenttype
    assert from_http(headers, body) is None


@given(events())
def test_headers_are_printable_ascii_without_spaces(event: Event) -> None:
    headers, _ = to_http(event)
    for name, value in headers.items():
        assert name == "content-type" or not set(value) - {chr(c) for c in range(0x21, 0x7F)}


def test_scalars_become_their_canonical_strings() -> None:
    event = Event.create(id="1", source="/s", type="t", n=-5, yes=True, no=False)
    headers, _ = to_http(event)
    assert (headers["ce-n"], headers["ce-yes"], headers["ce-no"]) == ("-5", "true", "false")


def test_the_specification_s_own_example_of_encoding() -> None:
    event = Event.create(id='Euro € 😀 "%"', source="/s", type="t")
    headers, _ = to_http(event)
    assert headers["ce-id"] == "Euro%20%E2%82%AC%20%F0%9F%98%80%20%22%25%22"


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ('"a \\"b\\" c"', 'a "b" c'),
        ("a%20b%2", "a b%2"),
        ("%e2%82%ac", "€"),
        ("  x ", "x"),
        ('"%41"', "A"),
    ],
)
def test_other_writers_forms_are_read(sent: str, read: str) -> None:
    found = from_http({**CE, "ce-subject": sent}, b"")
    assert found is not None and found[0].attributes["subject"] == read


def test_header_names_are_read_in_any_case() -> None:
    pairs = [(name.title().encode(), value.encode()) for name, value in CE.items()]
    found = from_http([*pairs, (b"Content-Type", b"text/plain")], b"x")
    assert found == [Event.create(id="1", source="/s", type="t", data="x",
                                  datacontenttype="text/plain")]  # fmt: skip


def test_data_without_a_type_is_sent_as_the_json_it_is() -> None:
    headers, body = to_http(Event.create(id="1", source="/s", type="t", data="{}"))
    assert headers["content-type"] == "application/json"
    assert is_json(headers["content-type"]) and body == b"{}"


@pytest.mark.parametrize(
    ("content_type", "data"), [(None, None), ("application/json", None), ("text/plain", b"")]
)
def test_an_empty_body_is_no_json_value(content_type: str | None, data: bytes | None) -> None:
    headers = CE if content_type is None else {**CE, "content-type": content_type}
    found = from_http(headers, b"")
    assert found is not None and found[0].data == data


@pytest.mark.parametrize("headers", [{}, {"content-type": "application/json"}, {"ce-x": "y"}])
def test_a_plain_request_claims_nothing(headers: dict[str, str]) -> None:
    assert from_http(headers, b'{"specversion":"1.0"}') is None


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ({**CE, "ce-type": ""}, b"", "attribute type must be a non-empty string"),
        ({"ce-id": "1"}, b"", "specversion must be 1.0, found 'none'"),
        ({**CE, "ce-my_key": "x"}, b"", "'my_key' must be lower-case"),
        ({**CE, "ce-data": "x"}, b"", "ce-data is no attribute"),
        ({**CE, "ce-subject": "%ff"}, b"", "ce-subject is not UTF-8 after percent-decoding"),
        ({**CE, "ce-time": "now"}, b"", "attribute time"),
        ({"content-type": "application/cloudevents+json"}, b"x", "the body is not JSON"),
        ({"content-type": "application/cloudevents+xml"}, b"x", "Content-Type is application/clo"),
        ({"content-type": "application/cloudevents-batch+json"}, b"{}", "expected a JSON array"),
        ({"content-type": "application/cloudevents-batch+json"}, b"[{}]", "event 0 of the batch"),
        ({"content-type": "application/cloudevents-batch+json"}, b"[", "the body is not JSON"),
    ],
)
def test_a_false_claim_is_refused_by_name(
    headers: dict[str, str], body: bytes, message: str
) -> None:
    with pytest.raises(BadEvent) as caught:
        from_http(headers, body)
    assert message in str(caught.value)


def test_headers_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(BadEvent, match=r"header ce-subject is not UTF-8.* at byte 1"):
        from_http([*wire(CE), (b"ce-subject", b"a\xff")], b"")


@pytest.mark.parametrize("name", [b"ce-id", b"CE-ID", b"content-type"])
def test_a_header_given_twice_is_refused(name: bytes) -> None:
    with pytest.raises(BadEvent, match="given twice"):
        from_http([*wire(CE), (b"content-type", b"a/b"), (name, b"2")], b"")


def test_a_batch_keeps_json_data_verbatim() -> None:
    one = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data": [1.0 ,2]}'
    found = from_http({"content-type": "application/cloudevents-batch+json"},
                      b" [ %b , %b ] " % (one, one))  # fmt: skip
    assert found is not None and [event.data for event in found] == [b"[1.0 ,2]"] * 2
