"""Screen: what is stamped, refused and filtered, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.errors import BadEvent, ConfigError
from ofevents.event import BrokenEvent, Event
from ofevents.source.screen import Screen, Screened
from tests.unit.source.rig import event, spec


def judge(one: Event, **fields: Any) -> Event | None:
    return Screen(spec(**fields)).judge(one)


def refused(one: Event, **fields: Any) -> Screened:
    with pytest.raises(Screened) as caught:
        judge(one, **fields)
    return caught.value


def test_without_a_word_an_event_passes_as_it_is() -> None:
    one = event(data={"a": 1})
    assert judge(one) is one


@pytest.mark.parametrize(("amount", "passes"), [(5, True), (-5, False)])
def test_a_filter_looks_at_the_data(amount: int, passes: bool) -> None:
    one = event(data={"amount": amount})
    assert judge(one, filter="event.data.amount > 0") is (one if passes else None)


def test_a_filter_looks_at_attributes_and_never_at_data_it_does_not_name() -> None:
    one = event(data=b"not json", subject="x")
    assert judge(one, filter="event.subject == 'x' && event.type == 't'") is one


@pytest.mark.parametrize(
    ("data", "told"), [({}, "amount"), (b"not json", "not the JSON"), ([], "amount")]
)
def test_a_filter_that_fails_follows_on_error(data: Any, told: str) -> None:
    one = event(data=data)
    error = refused(one, filter="event.data.amount > 0")
    assert (error.where, error.reason) == ("filter", "EvaluationError")
    assert told in str(error)
    assert judge(one, filter="event.data.amount > 0", on_error="skip") is None
    guarded = "has(event.data.amount) && event.data.amount > 0"
    if data == {}:
        assert judge(one, filter=guarded) is None


def test_attributes_are_stamped_and_nothing_else_is() -> None:
    one = event(data={"key": "k", "n": 7, "yes": True}, subject="old")
    made = judge(
        one,
        attributes={
            "type": "'shop.' + event.type",
            "subject": "event.data.key",
            "partitionkey": "event.data.n",
        },
    )
    assert made is not None
    assert made.attributes == {
        **one.attributes, "type": "shop.t", "subject": "k", "partitionkey": "7",
    }  # fmt: skip
    assert made.data == one.data
    again = judge(one, attributes={"subject": "event.data.yes"})
    assert again is not None and again.attributes["subject"] == "true"


def test_a_filter_sees_what_was_stamped() -> None:
    attributes = {"subject": "event.data.key"}
    one = event(data={"key": "k"})
    assert judge(one, attributes=attributes, filter="event.subject == 'k'") is not None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("event.data.missing", "missing"),
        ("event.data.list", "attribute subject must be text"),
        ("event.data.empty", "attribute subject must be a non-empty string"),
    ],
)
def test_an_attribute_that_cannot_be_made_follows_on_error(text: str, told: str) -> None:
    one = event(data={"list": [], "empty": ""})
    error = refused(one, attributes={"subject": text})
    assert error.where == "attributes" and told in str(error)
    assert judge(one, attributes={"subject": text}, on_error="skip") is None


SCHEMA = {
    "type": "object",
    "required": ["id"],
    "properties": {"lines": {"items": {"$ref": "#/$defs/line"}}},
    "$defs": {"line": {"type": "object", "properties": {"n": {"type": "integer"}}}},
}


def test_data_that_fits_the_schema_passes() -> None:
    one = event(data={"id": 1, "lines": [{"n": 1}]})
    assert judge(one, data_schema=SCHEMA) is one


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({}, "data: 'id' is a required property"),
        ({"id": 1, "lines": [{}, {"n": "x"}]}, "data.lines[1].n: 'x' is not of type 'integer'"),
        (b"not json", "not the JSON"),
        ("text", "data: 'text' is not of type 'object'"),
        (None, "data: None is not of type 'object'"),
        ({"lines": ["x" * 5000], "id": 1}, "data.lines[0]"),
    ],
)
@pytest.mark.parametrize("on_error", ["skip", "deadLetter"])
def test_data_that_violates_the_schema_is_refused_with_its_path(
    data: Any, told: str, on_error: str
) -> None:
    error = refused(event(data=data), data_schema=SCHEMA, on_error=on_error)
    assert error.where == "dataSchema"
    assert told in str(error)
    assert len(str(error)) < 700


def test_a_broken_event_is_refused_with_its_own_reason() -> None:
    broken = BrokenEvent(BadEvent("attribute id is missing"), event().attributes, b"raw")
    error = refused(broken, filter="false")
    assert (error.where, error.reason, str(error)) == (
        "adapter", "BadEvent", "attribute id is missing",
    )  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {"filter": "event.data."},
        {"filter": "evnt.data"},
        {"attributes": {"subject": "1 +"}},
        {"data_schema": {"type": "nonsense"}},
    ],
)
def test_what_does_not_compile_is_a_config_error(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Screen(spec(**fields))
