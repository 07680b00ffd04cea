"""What a line, and a whole file, becomes as an event."""

from __future__ import annotations

import os
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofevents.event import BrokenEvent, Event, check_attributes
from ofevents_adapters.file_positions import Identity, Position
from ofevents_adapters.file_reader import Found, Line
from ofevents_adapters.file_record import LARGEST, MALFORMED, TYPE, Format, file_event, line_event

SOURCE = "/ofevents/default/shop/orders"
FILE = Identity(0xFD01, 0x2A)
CLOUD_EVENT: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t"}


def read(data: bytes, form: Format = "text", path: str = "/var/log/shop.log") -> Event:
    position = Position(path, since=1769860800123)
    event = line_event(Line(7, data), FILE, position, SOURCE, form)
    check_attributes(event.attributes)
    return event


def test_a_line() -> None:
    event = read("grüß dich".encode())
    assert dict(event.attributes) == {
        "specversion": "1.0",
        "id": "fd01-2a@1769860800123/7",
        "source": SOURCE,
        "type": TYPE,
        "subject": "/var/log/shop.log",
        "partitionkey": "/var/log/shop.log",
        "datacontenttype": "text/plain; charset=utf-8",
    }
    assert event.value == "grüß dich"


@pytest.mark.parametrize(
    ("form", "data", "value"),
    [
        ("json", b'{"amount": 7}', {"amount": 7}),
        ("json", b"7", 7),
        ("text", b'{"amount": 7}', '{"amount": 7}'),
        ("binary", b"\xff\x00", b"\xff\x00"),
    ],
)
def test_formats(form: Format, data: bytes, value: object) -> None:
    event = read(data, form)
    assert (event.type, event.data, event.value) == (TYPE, data, value)


def test_a_cloud_event_in_json_stays_what_it_is() -> None:
    assert dict(read(orjson.dumps({**CLOUD_EVENT, "data": 1}), "json").attributes) == CLOUD_EVENT
    assert read(orjson.dumps(CLOUD_EVENT), "text").type == TYPE


@pytest.mark.parametrize(
    ("form", "data", "why"),
    [
        ("text", b"a\xff", "is not UTF-8: invalid start byte at byte 1"),
        ("json", b"{", "is not JSON"),
        ("json", b"\xff", "is not JSON"),
    ],
)
def test_what_is_not_what_the_format_says(form: Format, data: bytes, why: str) -> None:
    event = read(data, form)
    assert isinstance(event, BrokenEvent)
    assert (event.type, event.data) == (MALFORMED, data)
    assert why in str(event.error) and "/var/log/shop.log" in str(event.error)


def test_a_name_that_is_no_text() -> None:
    event = read(b"1", path=os.fsdecode(b"/var/\xff\n\xc3\xbc.log"))
    assert event.attributes["subject"] == "/var/\\xff\\nü.log"


def test_a_line_that_was_cut() -> None:
    line = Line(7, b"x" * 10, cut=True)
    event = line_event(line, FILE, Position("/a", since=1), SOURCE, "text")
    assert isinstance(event, BrokenEvent) and event.data == b"x" * 10
    assert "byte 7 of /a has more than 1048576 bytes; the first 10" in str(event.error)


def test_a_whole_file() -> None:
    found = Found(FILE, "/in/a.json", 3, 1_769_860_800_123_456_789)
    event = file_event(b"[1]", found, SOURCE, "json")
    check_attributes(event.attributes)
    assert event.id == "fd01-2a@1769860800123456789"
    assert event.attributes["time"] == "2026-01-31T12:00:00.123Z"
    assert event.value == [1]
    large = file_event(b"x", Found(FILE, "/a", LARGEST + 1, 0), SOURCE, "json")
    assert isinstance(large, BrokenEvent)


@given(data=st.binary(max_size=60), form=st.sampled_from(["json", "text", "binary"]))
def test_every_line_becomes_a_valid_event_with_its_bytes(data: bytes, form: Format) -> None:
    assert read(data, form).data == data
