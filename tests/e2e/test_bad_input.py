"""Records that nobody should have written: none is lost, none holds up those behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.flow import TOPIC, Flow, flow
from tests.e2e.processes import Ofevents, call, idle
from tests.servers import until

pytestmark = pytest.mark.timeout(400)

STAMP = 1_769_860_800_000
CLAIM = [("content-type", b"application/cloudevents+json")]
GOOD: dict[str, Any] = {"value": b'{"amount": 150}'}
LARGE: dict[str, Any] = {"value": b'{"amount": 150, "pad": "%s"}' % (b"x" * 3_000_000)}
BAD: dict[str, dict[str, Any]] = {
    "text": {"value": b"hello"},
    "another type": {"value": b'{"amount": "much"}'},
    "a missing field": {"value": b"{}"},
    "a tombstone": {"value": None, "key": b"k"},
    "broken JSON": {"value": b'{"amount": 150'},
    "bytes": {"value": b"\xff\xfe\x00"},
    "a CloudEvent without id": {"value": b'{"specversion": "1.0"}', "headers": CLAIM},
    "a CloudEvent that is no JSON": {"value": b"\xff", "headers": CLAIM},
    "a binary one without source": {"value": b"{}", "headers": [("ce_specversion", b"1.0")]},
}
STRANGE: dict[str, Any] = {
    "value": b'{"amount": 151}',
    "headers": [("x-name", b"\xff\xfe"), ("x-null", None)],
}


async def test_bad_records_become_dead_letters(tmp_path: Path) -> None:
    records = [
        {**record, "partition": 0, "timestamp": STAMP + number}
        for number, record in enumerate([GOOD, *BAD.values(), STRANGE, LARGE, GOOD])
    ]
    good = [0, len(BAD) + 1, len(records) - 1]
    async with (
        flow(tmp_path, filter="event.data.amount > 100") as made,
        Ofevents(tmp_path, "trigger", "-f", made.specs["reviews"], worker=True) as trigger,
        Ofevents(tmp_path, "source", "-f", made.specs["github/records"], worker=True) as source,
    ):
        await trigger.ready()
        await source.ready()
        await made.kafka.produce(TOPIC, records)

        async def last_there() -> bool:
            return len(await made.sink.ids()) >= len(good)

        await until(last_there, seconds=90, what="the records behind the bad ones")
        await idle(made.bus.url)
        expected = [f"{TOPIC}/0/{number}@{STAMP + number}" for number in good]
        # Calls of a subscriber that is not ordered overtake each other.
        assert sorted(await made.sink.ids()) == sorted(expected)
        # The Trigger's: one for each subscriber that an expression failed for. The
        # source's: what only claims to be a CloudEvent, and what is too large.
        claims = sum(name.startswith(("a CloudEvent", "a binary one")) for name in BAD)
        assert await dead_letters(made) == {
            "reviews": 2 * (len(BAD) - claims),
            "source=2Fgithub": claims + 1,
        }


async def dead_letters(made: Flow) -> dict[str, int]:
    """Owner -> how many dead letters it has."""
    code, printed = await call("topics", "--bus", made.bus.url, "-o", "json")
    assert code == 0, printed
    rows = [row for row in json.loads(printed)["topics"] if row["kind"] == "dead letters"]
    return {row["name"].removeprefix("dead.default."): row["messages"] for row in rows}
