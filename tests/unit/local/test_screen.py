"""What a person and a program see: lines that only append, and a bound on their rate."""

from __future__ import annotations

import asyncio
import io
import json

from ofevents.clock import ManualClock
from ofevents.health import Health
from ofevents.local.board import Board
from ofevents.local.screen import WAYS_PER_SECOND, JsonScreen, Row, TextScreen, Way, WayStep
from ofevents.local.tally import Tally
from ofevents.local.way import Ways
from ofevents.telemetry import DEAD_LETTERED, DELIVERED

ROWS = [
    Row("default", "EventBus", "nats://127.0.0.1:4222", "ready"),
    Row("shop/orders", "EventSource", "", "stalled", "port 8080 is in use [errno]", True),
]


def test_the_table_keeps_every_word_in_a_pipe() -> None:
    out = io.StringIO()
    TextScreen(ManualClock(), out).table(ROWS)
    text = out.getvalue()
    assert "\x1b" not in text, "no colours in a pipe"
    assert "stalled: port 8080 is in use [errno]" in text
    assert "nats://127.0.0.1:4222" in text


async def test_a_flood_of_ways_is_counted_not_shown() -> None:
    out, clock = io.StringIO(), ManualClock()
    screen = TextScreen(clock, out)
    for number in range(WAYS_PER_SECOND + 1234):
        screen.way(Way(f"e{number}", "shop/orders", (WayStep("received"),)))
    await clock.advance(1)
    screen.way(Way("last", "shop/orders", (WayStep("received"),)))
    lines = out.getvalue().splitlines()
    assert len(lines) == WAYS_PER_SECOND + 2
    assert "1,234 more" in lines[-2]
    assert "last" in lines[-1]


def test_json_lines_can_be_told_apart() -> None:
    out = io.StringIO()
    screen = JsonScreen(out)
    screen.table(ROWS)
    screen.way(Way("e", "t", (WayStep("delivered", "200"),)))
    screen.output("charge", "hello")
    screen.say("a")
    screen.warn("b")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["type"] for line in lines] == ["state", "way", "output", "note", "warning"]
    assert lines[0]["rows"][1]["message"].startswith("port 8080")
    assert lines[1]["steps"] == [{"step": "delivered", "detail": "200"}]


def _ways(clock: ManualClock) -> tuple[Ways, io.StringIO]:
    out = io.StringIO()
    return Ways(JsonScreen(out), clock), out


def _shown(out: io.StringIO) -> list[tuple[str, str, list[str]]]:
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    return [
        (way["id"], way["topic"], [f"{s['step']} {s['detail']}".strip() for s in way["steps"]])
        for way in found
    ]


async def test_a_way_is_one_line_from_received_to_delivered() -> None:
    clock = ManualClock()
    ways, out = _ways(clock)
    ways.trace("e-1", "default/checkout", "charge", "delivered", "200 in 3 ms")
    ways.flush()
    assert _shown(out) == [], "it waits for its topic"
    ways.stored("e-1", "event.default.shop.orders", read=True)
    ways.flush()
    assert _shown(out) == [
        (
            "e-1",
            "shop/orders",
            ["received", "published", "matched checkout/charge", "delivered 200 in 3 ms"],
        )
    ]


async def test_an_unknown_topic_is_not_waited_for_for_ever() -> None:
    clock = ManualClock()
    ways, out = _ways(clock)
    ways.trace("e-1", "shop/t", "", "filtered", "input")
    await clock.advance(1)
    ways.flush()
    assert _shown(out) == [("e-1", "", ["received", "published", "filtered by shop/t's input"])]


async def test_an_event_that_nobody_reads_says_so() -> None:
    ways, out = _ways(ManualClock())
    ways.stored("e-1", "event.default.shop.orders", read=False)
    assert _shown(out)[0][2][-1] == "kept no Trigger reads this topic"


async def test_a_worker_that_is_tried_again_stays_stalled_on_the_board() -> None:
    clock = ManualClock()
    health = Health(clock)
    board = Board(health, JsonScreen(io.StringIO()), clock, list)
    health.worker("EventSource", "default/shop/orders").stalled("Misconfigured", "in use")
    assert board.rows()[0].state == "stalled"
    worker = health.worker("EventSource", "default/shop/orders")
    assert board.rows()[0].state == "stalled"
    worker.ready("http://x")
    assert (board.rows()[0].state, board.rows()[0].resource) == ("ready", "shop/orders")


async def test_the_first_table_waits_for_the_workers_and_not_for_ever() -> None:
    clock, health, out = ManualClock(), Health(ManualClock()), io.StringIO()
    board = Board(health, JsonScreen(out), clock, list)
    health.worker("EventBus", "default").ready("nats://x")
    showing = asyncio.create_task(board.show())
    for _ in range(10):
        await clock.advance(0.2)
    assert not out.getvalue(), "the workers have not even begun"
    health.worker("Trigger", "default/checkout").ready("")
    await clock.advance(0.2)
    (line,) = out.getvalue().splitlines()
    assert [row["kind"] for row in json.loads(line)["rows"]] == ["EventBus", "Trigger"]
    showing.cancel()


def test_what_a_source_without_a_bus_does_is_told_in_sentences() -> None:
    tally = Tally(lambda: {("default", "tally-a", "orders")})
    for name in ("tally-a", "tally-b"):
        DELIVERED.labels("default", name, "orders").inc(2)
        DEAD_LETTERED.labels("default", name, "orders", "EvaluationError").inc()
    assert tally.news() == [
        "EventSource tally-a/orders: 2 events delivered to its sink",
        "EventSource tally-a/orders: 1 event dead-lettered to its deadLetterSink: EvaluationError",
    ]
    assert tally.news() == []


async def test_a_worker_whose_sidecar_ended_says_why_it_did() -> None:
    clock = ManualClock()
    health = Health(clock)
    ended = {("EventSource", "default/shop/d"): "daprd ended with code 1: no brokers"}
    board = Board(health, JsonScreen(io.StringIO()), clock, list, lambda *key: ended.get(key, ""))
    worker = health.worker("EventSource", "default/shop/d")
    assert board.rows()[0].state == "stalled", "it starts, and cannot"
    worker.stalled("Disconnected", "it does not answer")
    assert board.rows()[0].message == "it does not answer: daprd ended with code 1: no brokers"
    worker.ready("topic orders")
    assert board.rows()[0].message == ""
