"""What an event may be made of, and what becomes of a result in JSON."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import pytest

from ofevents.cel import (
    BOOL,
    DYN,
    EVENT,
    NONE,
    CelType,
    Duration,
    Environment,
    Limits,
    Optional,
    Timestamp,
    UInt,
    compile,
    to_json,
)
from ofevents.clock import ManualClock
from ofevents.errors import EvaluationError

ENV = Environment({"event": EVENT, "d": DYN})
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class LazyEvent(dict[str, Any]):
    """Decodes `data` when it is read for the first time, as the engine's own events do."""

    def __init__(self, body: str, **attributes: Any) -> None:
        super().__init__(attributes)
        self._body = body
        self.decoded = 0

    def __contains__(self, key: object) -> bool:
        return key == "data" or super().__contains__(key)

    def __missing__(self, key: str) -> Any:
        if key != "data":
            raise KeyError(key)
        self.decoded += 1
        return json.loads(self._body)


def evaluate(text: str, **bindings: Any) -> Any:
    return compile(text, ENV).evaluate(bindings)


def test_a_lazy_event_is_decoded_only_when_data_is_read() -> None:
    event = LazyEvent('{"a": 5}', type="x")
    assert evaluate('event.type == "x"', event=event) is True
    assert evaluate("has(event.data) && !has(event.subject)", event=event) is True
    assert event.decoded == 0
    assert evaluate("event.data.a == 5 && event['data'].a == 5", event=event) is True
    assert event.decoded == 2
    assert evaluate("event.?data.a.orValue(0)", event=event) == 5
    with pytest.raises(EvaluationError, match="subject"):
        evaluate("event.subject == ''", event=event)


@pytest.mark.parametrize("time", [NOON, "2026-01-31T12:00:00Z", "2026-01-31T13:00:00+01:00"])
def test_an_events_time_is_a_timestamp_however_it_is_bound(time: Any) -> None:
    event = {"time": time}
    assert evaluate('event.time == timestamp("2026-01-31T12:00:00Z")', event=event) is True
    assert evaluate('event["time"].getHours()', event=event) == 12
    assert evaluate("event.time", event=event) == Timestamp.of(NOON)
    # Once more by the closures, which take over when something fails.
    assert evaluate("event.time.getHours() == 12 || event.nope", event=event) is True
    assert evaluate("event.nope == 1 || event.time.getHours() == 12", event=event) is True


def test_a_time_that_is_none_is_an_error() -> None:
    for time in ("yesterday", 5, None):
        with pytest.raises(EvaluationError):
            evaluate("event.time.getHours() == 1", event={"time": time})


def test_now_is_the_clocks_and_stands_still_during_an_evaluation() -> None:
    clock = ManualClock(start=1_700_000_000.25)
    program = compile("[now(), now() + duration('1s')]", ENV, clock=clock)
    first, second = program.evaluate({})
    assert str(first) == "2023-11-14T22:13:20.250Z"
    assert second.ns - first.ns == 10**9
    assert compile("now() == now()", ENV).evaluate({}) is True


class Colour(StrEnum):
    RED = "red"


class Row(Mapping[str, Any]):
    def __init__(self, **values: Any) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@pytest.mark.parametrize(
    ("text", "value", "wanted"),
    [
        ("d.a == 1 && has(d.a) && !has(d.b) && size(d) == 1", Row(a=1), True),
        ("d.a == 1", MappingProxyType({"a": 1}), True),
        ("d == {'a': [1]}", OrderedDict(a=(1,)), True),
        ("d.map(k, k) == ['a']", Row(a=1), True),
        ("d.exists(k, v, v == 1)", Row(a=1), True),
        ("'a' in d && !('b' in d)", Row(a=1), True),
        ("d.?a.orValue(0) + d.?b.orValue(1)", Row(a=1), 2),
        ("d[0] == 1 && size(d) == 2 && d.exists(x, x == 2) && 2 in d", (1, 2), True),
        ("d + d", (1, 2), [1, 2, 1, 2]),
        ("d == [1, 2]", (1, 2), True),
        ("d == 'red' && d.startsWith('r') && size(d) == 3", Colour.RED, True),
        ("d > timestamp('2026-01-01T00:00:00Z')", NOON, True),
        ("d.getFullYear()", NOON.replace(tzinfo=None), 2026),
        ("d == duration('90s') && d > duration('1s')", timedelta(seconds=90), True),
        ("d == b'ab' && size(d) == 2", bytearray(b"ab"), True),
        ("d + 1 == 2", True, None),
        ("d > 5", 2**70, True),
        ("d == 1180591620717411303424.0", 2**70, True),
        ("d + 1", 2**70, None),
    ],
)
def test_other_mappings_sequences_and_values(text: str, value: Any, wanted: Any) -> None:
    if wanted is None:
        with pytest.raises(EvaluationError):
            evaluate(text, d=value)
    else:
        assert evaluate(text, d=value) == wanted


def test_nul_and_other_odd_characters_are_whole() -> None:
    assert evaluate('d == "a"', d="a\0evil") is False
    assert evaluate("size(d)", d="a\0b") == 3
    assert evaluate(r'd == "a\u0000b"', d="a\0b") is True


def test_a_program_is_shared_by_threads() -> None:
    program = compile("d.l.map(x, x + d.n).exists(x, x == d.n + 2)", ENV, result=BOOL)
    results: list[Any] = []

    def work(number: int) -> None:
        bindings = {"d": {"l": [1, 2, 3], "n": number}}
        results.extend(program.evaluate(bindings) for _ in range(200))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 800


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"a": [1, 2.5, None, True, "é"]}, {"a": [1, 2.5, None, True, "é"]}),
        (UInt(2**64 - 1), 2**64 - 1),
        (2**63 - 1, 2**63 - 1),
        (0.1, 0.1),
        (Timestamp.of(NOON), "2026-01-31T12:00:00Z"),
        (NOON, "2026-01-31T12:00:00Z"),
        (Duration(90 * 10**9), "90s"),
        (Duration(-1_500_000_000), "-1.500s"),
        (b"hello", "aGVsbG8="),
        ({True: "b", UInt(3): "c"}, {"true": "b", "3": "c"}),
        ({2: "a", False: "b"}, {"2": "a", "false": "b"}),
        ((1, 2), [1, 2]),
        (Row(a=Row(b=1)), {"a": {"b": 1}}),
        (Optional(5), 5),
        (NONE, None),
    ],
)
def test_json(value: Any, wanted: Any) -> None:
    got = to_json(value)
    assert got == wanted
    assert type(got) is type(wanted)
    json.dumps(got, allow_nan=False)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), CelType("int"), "\ud800", {"\ud800": 1}, object(), {1: 0, "1": 1}],
)
def test_what_json_cannot_hold(value: Any) -> None:
    with pytest.raises(EvaluationError):
        to_json({"deep": [value]})


def test_json_says_where_and_stops_at_the_limits() -> None:
    with pytest.raises(EvaluationError, match=r"\$\.a\[\]\.b: JSON has no nan"):
        to_json({"a": [{"b": float("nan")}]})
    with pytest.raises(EvaluationError, match="100 bytes"):
        to_json({"a": "x" * 200}, Limits(size=100))


def test_a_payload_is_made_with_maps() -> None:
    payload = compile(
        '{"order": event.data.id, "lines": event.data.items.map(i, {"sku": i.sku, '
        '"total": double(i.qty) * i.price}), "at": event.time, ?"note": event.data.?note}',
        ENV,
    )
    event = {"time": NOON, "data": {"id": 7, "items": [{"sku": "a", "qty": 2, "price": 1.5}]}}
    assert to_json(payload.evaluate({"event": event})) == {
        "order": 7,
        "lines": [{"sku": "a", "total": 3.0}],
        "at": "2026-01-31T12:00:00Z",
    }
