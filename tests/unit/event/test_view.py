"""What expressions see of an event: attributes, and data and time decoded late."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ofevents.cel import DYN, EVENT, Environment, compile, to_json
from ofevents.errors import EvaluationError
from ofevents.event import Event, EventView


def make(data: bytes | None = None, **attributes: str) -> Event:
    return Event.create(id="1", source="/s", type="t", data=data, **attributes)


def test_attributes_data_and_time_are_there() -> None:
    view = make(b'{"a":1}', time="2026-01-31T12:00:00Z", subject="x").view()
    assert (view["id"], view["subject"], view["data"]) == ("1", "x", {"a": 1})
    assert view["time"] == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert view.get("data") == {"a": 1}
    assert {"data", "time", "subject"} <= {k for k in ("data", "time", "subject") if k in view}


def test_what_is_missing_is_missing() -> None:
    view = make().view()
    assert "data" not in view and "time" not in view and "subject" not in view
    assert view.get("data") is None
    with pytest.raises(KeyError):
        view["data"]


def test_null_data_is_there() -> None:
    view = make(b"null").view()
    assert "data" in view and view["data"] is None


def test_data_that_does_not_parse_fails_when_it_is_read() -> None:
    view = make(b"{").view()
    assert "data" in view
    with pytest.raises(EvaluationError, match="not the JSON"):
        view["data"]


def test_read_as_one_value_it_is_whole() -> None:
    def fresh() -> EventView:
        return make(b'{"a":1}', time="2026-01-31T12:00:00Z").view()

    names = {"specversion", "id", "source", "type", "data", "time"}
    assert set(fresh()) == names
    assert set(fresh().keys()) == names
    assert len(fresh()) == len(names)
    assert dict(fresh())["data"] == {"a": 1}
    assert {**fresh()}["time"].year == 2026
    assert {"a": 1} in fresh().values()
    assert ("data", {"a": 1}) in fresh().items()
    assert fresh() == fresh()
    assert fresh() != make(b'{"a":2}', time="2026-01-31T12:00:00Z").view()


def test_a_payload_of_the_whole_event_has_its_data_and_time() -> None:
    program = compile("event", Environment(variables={"event": EVENT}), result=DYN)
    view = make(b'{"a":1}', time="2026-01-31T12:00:00Z").view()
    whole = to_json(program.evaluate({"event": view}))
    assert whole["data"] == {"a": 1}
    assert whole["time"] == "2026-01-31T12:00:00Z"
