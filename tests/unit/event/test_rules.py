"""The rules of CloudEvents: what is refused, and in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofevents.errors import BadEvent
from ofevents.event import check_attributes, digest, format_time, is_json, parse_time

GOOD = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"specversion": "0.3"}, "specversion must be 1.0, found '0.3'"),
        ({"id": ""}, "attribute id must be a non-empty string"),
        ({"id": 5}, "attribute id must be a non-empty string"),
        ({"source": None}, "attribute source is missing"),
        ({"subject": ""}, "attribute subject must be a non-empty string"),
        ({"time": "yesterday"}, "attribute time: 'yesterday' is no RFC 3339"),
        ({"time": "2026-01-31"}, "no RFC 3339"),
        ({"time": "2026-01-31T12:00:00"}, "no RFC 3339"),
        ({"datacontenttype": "a/b\r\nx: y"}, "datacontenttype must be printable ASCII"),
        ({"data": "x"}, "'data' must be lower-case letters"),
        ({"my-key": "x"}, "'my-key' must be lower-case letters"),
        ({"x": 1.5}, "attribute x must be a string, an integer or a boolean, not float"),
        ({"x": 2**64}, "attribute x is an integer over 64 bits"),
        ({"x": "a\ud800"}, "attribute x holds half a surrogate pair at character 1"),
    ],
)
def test_what_breaks_a_rule_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(BadEvent) as caught:
        check_attributes({**GOOD, **change})
    assert message in str(caught.value)


def test_what_the_rules_allow_passes() -> None:
    check_attributes(
        {**GOOD, "subject": "ü \n", "time": "2026-01-31t12:00:00.5z", "x": "", "y": True, "z": -3}
    )


@given(st.lists(st.text()), st.lists(st.text()))
def test_a_digest_tells_parts_apart(one: list[str], other: list[str]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)


def test_json_is_told_by_the_media_type() -> None:
    assert is_json(None) and is_json("Application/JSON; charset=x") and is_json("a/b+json")
    assert not is_json("text/plain") and not is_json("application/jsonx")


def test_times_keep_their_offset() -> None:
    assert parse_time("2026-01-31T12:00:00+02:00").isoformat() == "2026-01-31T12:00:00+02:00"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1970-01-01T00:00:00Z"), (1.0005, "1970-01-01T00:00:01Z"),
     (1769860800.1, "2026-01-31T12:00:00.100Z")],
)  # fmt: skip
def test_times_are_written_in_utc(seconds: float, text: str) -> None:
    assert format_time(seconds) == text
    assert parse_time(text).timestamp() == pytest.approx(seconds, abs=0.001)
