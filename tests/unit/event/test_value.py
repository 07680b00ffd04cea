"""Event: making one, reading it, and its wire form, byte for byte."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given

from ofevents.errors import BadEvent, EvaluationError
from ofevents.event import BrokenEvent, Event
from tests.unit.event.strategies import events

HEAD = b'{"specversion":"1.0","id":"1","source":"/s","type":"t"'


def make(data: bytes | str | None = None, **attributes: str) -> Event:
    return Event.create(id="1", source="/s", type="t", data=data, **attributes)


@given(events())
def test_the_wire_form_keeps_attributes_and_bytes(event: Event) -> None:
    body, at = event.encode()
    assert Event.decode(body, at) == event
    assert Event.from_json(body) == event


@given(events())
def test_the_wire_form_is_the_cloudevents_json_format(event: Event) -> None:
    body, at = event.encode()
    parsed = orjson.loads(body)
    data = {k: parsed.pop(k) for k in ("data", "data_base64") if k in parsed}
    assert parsed == event.attributes
    assert len(data) == (event.data is not None)
    assert at == 0 or body[at:-1] == event.data


@pytest.mark.parametrize(
    "data",
    [b"1.0", b"12345678901234567890123", b'{ "a" :\n[1 , 2]}', b'"\\u0041"', b"null", b"[]"],
)
@pytest.mark.parametrize("first", [False, True])
def test_json_data_is_kept_as_it_was_written_wherever_it_stands(data: bytes, first: bool) -> None:
    text = HEAD + b',"data": ' + data + b" }"
    if first:
        text = b'{"data" :' + data + b" ," + HEAD[1:] + b"}"
    assert Event.from_json(text).data == data


def test_of_two_data_members_the_last_one_counts() -> None:
    text = HEAD + b',"data":1,"d\\u0061ta":{"data":[2.0]}}'
    event = Event.from_json(text)
    assert event.data == b'{"data":[2.0]}'


def test_the_word_data_inside_an_attribute_is_not_the_data() -> None:
    event = Event.from_json(b'{"subject":"\\"data\\":5",' + HEAD[1:] + b',"data":6.0}')
    assert event.data == b"6.0"
    event = Event.from_json(b'{"subject":"data",' + HEAD[1:] + b',"data":6.0}')
    assert event.data == b"6.0"


@pytest.mark.parametrize("depth", [999, 1010, 1024])
def test_deep_json_survives(depth: int) -> None:
    event = make(b"[" * depth + b"]" * depth)
    body, at = event.encode()
    assert Event.decode(body, at) == event
    assert Event.from_json(body) == event


def test_json_that_is_too_deep_is_bytes_for_us() -> None:
    event = make(b"[" * 5000 + b"]" * 5000)
    assert Event.from_json(event.to_json()) == event
    with pytest.raises(EvaluationError, match="not the JSON"):
        _ = event.value


def test_text_that_is_not_utf8_is_kept_and_says_so_when_read() -> None:
    event = make(b"\xff\xfe", datacontenttype="text/plain")
    assert Event.from_json(event.to_json()) == event
    with pytest.raises(EvaluationError, match="not UTF-8 text"):
        _ = event.value


def test_ten_megabytes_cross_unchanged() -> None:
    event = make(b'{"a":"%b"}' % (b"x" * 10_000_000))
    body, at = event.encode()
    assert Event.decode(body, at).data == event.data
    assert Event.from_json(b'{"data":' + event.data + b"," + HEAD[1:] + b"}").data == event.data  # type: ignore[operator]


@pytest.mark.parametrize(
    ("attributes", "data", "value"),
    [
        ({}, b'{"a": 1}', {"a": 1}),
        ({"datacontenttype": "application/x+json"}, b"[true]", [True]),
        ({"datacontenttype": "text/plain; charset=utf-8"}, "ü".encode(), "ü"),
        ({"datacontenttype": "image/png"}, b"\x00\xff", b"\x00\xff"),
        ({}, None, None),
    ],
)
def test_the_value_follows_the_content_type(
    attributes: dict[str, str], data: bytes | None, value: object
) -> None:
    assert make(data, **attributes).value == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "expected a JSON object, got list"),
        (b"{}", "specversion must be 1.0"),
        (b'{"specversion":"1.0","id":"1","source":"/s"}', "attribute type is missing"),
        (HEAD + b',"data":1,"data_base64":"YQ=="}', "both data and data_base64"),
        (HEAD + b',"data_base64":"?"}', "no base64"),
        (HEAD + b',"data_base64":5}', "no base64"),
        (HEAD + b',"x":{}}', "attribute x must be a string"),
        (HEAD + b',"Ab":"c"}', "'Ab' must be lower-case"),
    ],
)
def test_what_is_no_cloudevent_is_refused_by_name(text: bytes, message: str) -> None:
    with pytest.raises(BadEvent, match=message):
        Event.from_json(text)


def test_null_attributes_are_not_there() -> None:
    event = Event.from_json(HEAD + b',"subject":null,"data_base64":null,"data":null}')
    assert "subject" not in event.attributes
    assert event.data == b"null"


def test_replace_changes_a_copy() -> None:
    event = make(b"1", subject="a")
    changed = event.replace(data=b"2", subject="b")
    assert (changed.data, changed.attributes["subject"], changed.value) == (b"2", "b", 2)
    assert (event.data, event.attributes["subject"]) == (b"1", "a")


def test_a_broken_event_carries_its_reason() -> None:
    event = BrokenEvent(BadEvent("no id"), make().attributes, b"raw")
    assert (event.data, str(event.error)) == (b"raw", "no id")
