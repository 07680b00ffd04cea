"""BusEmit: stored, filtered or dead-lettered before it returns; waiting while it must."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ofevents.clock import ManualClock
from ofevents.errors import BadEvent, BusFull, Disconnected, TooLarge
from ofevents.event import BrokenEvent
from ofevents.ports import Consumer
from ofevents.source.emit import PATIENCE
from ofevents.telemetry import FILTERED, PUBLISHED, RECEIVED
from tests.unit.source.rig import (
    FEATURES,
    REPLYING,
    TOPIC,
    dead,
    engine,
    event,
    memory,
    on,
    spec,
)

BIG = b'"%b"' % (b"x" * 50_000)


def count(metric: Any, *labels: str) -> float:
    value: float = metric.labels(*labels)._value.get()
    return value


async def test_events_of_one_call_are_stored_in_their_order() -> None:
    before = count(PUBLISHED, "default", "shop", "orders")
    received = count(RECEIVED, "default", "shop", "orders")
    async with engine(spec(memory())) as made:
        several = [event(str(number), {"n": number}) for number in range(20)]
        await made.emit(*several)
        assert await on(made.bus) == several
        assert made.worker.in_flight == 0
    assert count(PUBLISHED, "default", "shop", "orders") - before == 20
    assert count(RECEIVED, "default", "shop", "orders") - received == 20


async def test_one_publish_for_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    async with engine(spec(memory())) as made:
        publish = made.bus.publish

        async def counting(topic: str, *messages: Any) -> None:
            calls.append(len(messages))
            await publish(topic, *messages)

        monkeypatch.setattr(made.bus, "publish", counting)
        await made.emit(event("1"), event("2"))
        await made.emit()
    assert calls == [2]


async def test_an_event_that_comes_again_is_stored_once() -> None:
    async with engine(spec(memory())) as made:
        await made.emit(event("1"), event("2"))
        await made.emit(event("2"), event("3"))
        assert [one.id for one in await on(made.bus)] == ["1", "2", "3"]


async def test_what_the_filter_refuses_goes_no_further() -> None:
    before = count(FILTERED, "default", "shop", "source", "filter")
    async with engine(spec(memory(), filter="event.data.n > 1")) as made:
        await made.emit(event("1", {"n": 1}), event("2", {"n": 2}))
        assert [one.id for one in await on(made.bus)] == ["2"]
        assert await dead(made.bus) == []
    assert count(FILTERED, "default", "shop", "source", "filter") - before == 1


async def test_a_filter_on_a_missing_field_dead_letters_or_skips() -> None:
    fields: dict[str, Any] = {"filter": "event.data.n > 1"}
    async with engine(spec(memory(name="kept"), **fields)) as made:
        await made.emit(event("1", {}), event("2", {"n": 2}))
        ((letter, said),) = await dead(made.bus)
        assert letter == event("1", {})
        assert (said["where"], said["reason"], said["attempts"]) == (
            "filter", "EvaluationError", "0",
        )  # fmt: skip
        assert said["subscriber"] == "default/shop/orders"
        assert [one.id for one in await on(made.bus)] == ["2"]
    async with engine(spec(memory(name="skipped"), on_error="skip", **fields)) as made:
        await made.emit(event("1", {}), event("2", {"n": 2}))
        assert await dead(made.bus) == []
        assert [one.id for one in await on(made.bus)] == ["2"]


async def test_a_schema_violation_is_a_dead_letter_with_its_path() -> None:
    schema = {"properties": {"n": {"type": "integer"}}}
    async with engine(spec(memory(), data_schema=schema)) as made:
        await made.emit(event("1", {"n": "x"}))
        ((_, said),) = await dead(made.bus)
    assert (said["where"], said["reason"]) == ("dataSchema", "SchemaViolation")
    assert said["detail"] == "data.n: 'x' is not of type 'integer'"


async def test_a_broken_event_is_kept_with_its_raw_bytes() -> None:
    raw = b"\xff not an event"
    broken = BrokenEvent(BadEvent("no id"), event("t/0/7").attributes, raw)
    async with engine(spec(memory())) as made:
        await made.emit(broken, event("2"))
        ((letter, said),) = await dead(made.bus)
        assert [one.id for one in await on(made.bus)] == ["2"]
    assert (letter.data, letter.id, said["detail"]) == (raw, "t/0/7", "no id")


async def test_what_is_too_large_is_dead_lettered_without_its_data() -> None:
    async with engine(spec(memory(max_size=2000))) as made:
        await made.emit(event("1"), event("2", BIG), event("3"))
        assert [one.id for one in await on(made.bus)] == ["1", "3"]
        ((letter, said),) = await dead(made.bus)
    assert (letter.id, letter.source, letter.data) == ("2", "/s", None)
    assert said["reason"] == "TooLarge" and "2000" in said["detail"]


async def test_attributes_that_are_too_large_alone_do_not_stop_the_source() -> None:
    async with engine(spec(memory(max_size=4000))) as made:
        await made.emit(event("1", subject="x" * 50_000))
        ((letter, _),) = await dead(made.bus)
    assert letter.attributes == {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


async def test_a_caller_who_waits_is_told_that_it_is_too_large() -> None:
    async with engine(spec(memory(max_size=2000)), features=REPLYING) as made:
        with pytest.raises(TooLarge):
            await made.emit(event("1"), event("2", BIG))
        assert await on(made.bus) == []
        assert await dead(made.bus) == []


async def test_while_the_bus_is_away_it_waits_and_says_so() -> None:
    clock = ManualClock()
    async with engine(spec(memory()), clock=clock) as made:
        made.bus.broker.fail("the server is gone")
        waiting = asyncio.ensure_future(made.emit(event("1")))
        await clock.advance(600)
        shown = made.worker.snapshot()
        assert not waiting.done()
        assert (shown.state, shown.reason, shown.message) == (
            "stalled", "Disconnected", "the server is gone",
        )  # fmt: skip
        assert shown.waiting == ("EventBus default",) and shown.in_flight == 1
        assert made.worker.live(60)
        made.bus.broker.heal()
        await clock.advance(15)
        await waiting
        assert made.worker.snapshot().state == "ready"
        assert await on(made.bus) == [event("1")]


async def test_while_the_bus_is_full_it_waits_and_nothing_is_lost() -> None:
    clock = ManualClock()
    async with engine(spec(memory(max_bytes=1000)), clock=clock) as made:
        await made.bus.ensure([TOPIC], [Consumer("readers", (TOPIC,), "earliest")])
        await made.emit(event("1", "x" * 700))
        waiting = asyncio.ensure_future(made.emit(event("2", "y" * 700)))
        await clock.advance(60)
        shown = made.worker.snapshot()
        assert (shown.state, shown.reason) == ("stalled", "BusFull")
        group = made.bus.broker.group("readers")
        ((record, _),) = made.bus.broker.take(group, 1)
        made.bus.broker.settle(group, record)
        await clock.advance(15)
        await waiting
        assert made.worker.snapshot().state == "ready"


@pytest.mark.parametrize("full", [True, False])
async def test_a_caller_who_waits_is_sent_away_after_a_while(full: bool) -> None:
    clock = ManualClock()
    async with engine(spec(memory(max_bytes=10)), features=REPLYING, clock=clock) as made:
        if not full:
            made.bus.broker.fail("gone")
        waiting = asyncio.ensure_future(made.emit(event("1")))
        await clock.advance(0.5)
        assert not waiting.done()
        await clock.advance(PATIENCE)
        with pytest.raises(BusFull if full else Disconnected):
            await waiting
        assert made.worker.snapshot().state == "ready"
        assert made.worker.in_flight == 0


async def test_a_dead_letter_waits_for_the_bus_as_well() -> None:
    clock = ManualClock()
    async with engine(spec(memory(), filter="event.data.n > 1"), clock=clock) as made:
        made.bus.broker.fail("gone")
        waiting = asyncio.ensure_future(made.emit(event("1", {})))
        await clock.advance(60)
        assert not waiting.done()
        assert made.worker.snapshot().waiting == ("dead letters of default/shop",)
        made.bus.broker.heal()
        await clock.advance(15)
        await waiting
        assert len(await dead(made.bus)) == 1


async def test_a_cancelled_emit_leaves_nothing_behind() -> None:
    async with engine(spec(memory()), features=FEATURES) as made:
        made.bus.broker.fail("gone")
        waiting = asyncio.ensure_future(made.emit(event("1")))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
        made.bus.broker.heal()
        made.standing.show()
        shown = made.worker.snapshot()
        assert (shown.state, shown.in_flight, shown.waiting) == ("ready", 0, ())
