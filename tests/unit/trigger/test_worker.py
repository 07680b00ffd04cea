"""The Trigger's worker as a whole: from the bus to the subscriber, settled or not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ofevents.api.resolved import TopicTarget
from ofevents.bus import open_bus
from ofevents.clock import ManualClock, SystemClock
from ofevents.errors import ConfigError, Rejected, Unavailable
from ofevents.event import Event
from ofevents.health import Health
from ofevents.ports import Delivery, Message, Received, Reply
from ofevents.trigger import run
from tests.servers import until
from tests.unit.trigger.rig import (
    DEAD,
    A,
    B,
    Functions,
    event,
    inputs,
    metric,
    running,
    subscriber,
    trigger,
)

NAME = {"namespace": "shop", "name": "trg"}
ONE = {**NAME, "subscriber": "one"}


async def hang(*_: object, **__: object) -> Reply | None:
    await asyncio.Event().wait()
    return None


async def test_events_go_to_a_function_and_to_a_topic(functions: Functions) -> None:
    topic = "topic.shop.out"
    spec = trigger(
        subscriber("one", condition="a", payload="event.data.n"),
        subscriber("two", condition="b", target=TopicTarget(topic=topic)),
        inputs=inputs(a="event.data.n > 1", b=None),
    )
    delivered = metric("ofevents_delivered_total", **ONE)
    received = metric("ofevents_trigger_received_total", **NAME)
    filtered = metric("ofevents_filtered_total", **NAME, step="input", reason="false")
    async with running(spec) as worker:
        await worker.publish(A, event("1", '{"n": 1}'), event("2", '{"n": 2}'))
        await worker.publish(B, event("3"))
        await worker.idle()
        assert [one.event.data for one in functions["one"].given] == [b"2"]
        assert [one.body for one in await worker.messages(topic)] == [event("3")]
        assert worker.outcomes("1") == ["filtered"]
        assert worker.outcomes("2") == ["delivered"]
    assert metric("ofevents_delivered_total", **ONE) == delivered + 1
    assert metric("ofevents_trigger_received_total", **NAME) == received + 3
    name = "ofevents_filtered_total"
    assert metric(name, **NAME, step="input", reason="false") == filtered + 1


async def test_bug_10_equal_conditions_each_get_the_event(functions: Functions) -> None:
    spec = trigger(
        subscriber("one", condition="a"), subscriber("two", condition="a"), inputs=inputs(a=None)
    )
    async with running(spec) as worker:
        await worker.publish(A, event("1"))
        await worker.idle()
    assert functions["one"].ids == functions["two"].ids == ["1"]


async def test_bug_4_nothing_is_acknowledged_before_it_is_delivered(functions: Functions) -> None:
    spec = trigger(inputs=inputs(a=None))
    functions["one"].answer = hang
    async with running(spec) as worker:
        await worker.publish(A, event("1"))
        await until(lambda: functions["one"].ids == ["1"], seconds=5, what="the call")
        await worker.kill()
        (consumer,) = [c for c in (await worker.bus.inspect()).consumers if c.group == spec.group]
        assert (consumer.pending, consumer.in_flight) == (1, 0)
    functions["one"].answer = None
    async with running(spec) as worker:
        await worker.idle()
    assert functions["one"].ids == ["1", "1"]


async def test_bug_5_a_failing_subscriber_ends_nothing(functions: Functions) -> None:
    """One poison event is a dead letter; the worker, its neighbours and the rest go on."""

    async def refuse(delivery: Delivery) -> Reply | None:
        if delivery.events[0].id == "poison":
            raise Rejected("400", status=400)
        return None

    functions["one"].answer = refuse
    spec = trigger(subscriber("one"), subscriber("two"), inputs=inputs(a=None))
    async with running(spec) as worker:
        await worker.publish(A, event("poison"), event("1"))
        await worker.idle()
        (letter,) = await worker.messages(DEAD)
        assert isinstance(letter.body, Delivery)
        assert letter.body.events == (event("poison"),)
        assert letter.headers["ofe-dead-reason"] == "Rejected"
        assert letter.headers["ofe-dead-subscriber"] == "shop/trg/one"
        assert not worker.task.done()
    assert functions["two"].ids == ["poison", "1"]
    assert functions["one"].ids[-1] == "1"


async def test_an_expression_that_fails_is_a_dead_letter_or_skipped(functions: Functions) -> None:
    spec = trigger(
        subscriber("one", condition="a && event.data.missing > 1"),
        subscriber("two", condition="a && event.data.missing > 1", on_error="skip"),
        subscriber("three"),
        inputs=inputs(a=None),
    )
    async with running(spec) as worker:
        await worker.publish(A, event("1"))
        await worker.idle()
        (letter,) = await worker.messages(DEAD)
        assert letter.headers["ofe-dead-reason"] == "EvaluationError"
        assert letter.headers["ofe-dead-where"] == "condition"
        assert letter.headers["ofe-dead-subscriber"] == "shop/trg/one"
    assert functions["three"].ids == ["1"]


async def test_what_is_no_event_is_a_dead_letter_with_its_bytes(functions: Functions) -> None:
    spec = trigger(inputs=inputs(a=None))
    async with running(spec) as worker:
        broker = worker.bus.broker  # type: ignore[attr-defined]
        broker.publish(A, {}, b"\xff no event", "stranger", 0.0, 0.0)
        await worker.publish(A, event("1"))
        await worker.idle()
        (letter,) = await worker.messages(DEAD)
        assert isinstance(letter.body, Delivery)
        assert letter.body.event.data == b"\xff no event"
        assert letter.headers["ofe-dead-reason"] == "BadEvent"
    assert functions["one"].ids == ["1"]


async def test_where_no_dead_letter_can_be_stored_the_event_stays(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ofevents.subscriber import DeadLetters

    real, down = DeadLetters.store, [True]

    async def store(self: DeadLetters, *given: object, **more: object) -> None:
        if down[0]:
            raise Unavailable("no place")
        await real(self, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(DeadLetters, "store", store)
    monkeypatch.setattr("ofevents.trigger.inputs.FIRST_RETRY", 0.01)

    async def refuse(delivery: Delivery) -> Reply | None:
        raise Rejected("400", status=400)

    functions["one"].answer = refuse
    async with running(trigger(inputs=inputs(a=None))) as worker:
        await worker.publish(A, event("1"))
        await until(
            lambda: worker.outcomes("1").count("unsettled") >= 2, seconds=5, what="redelivery"
        )
        assert await worker.messages(DEAD) == []
        down[0] = False
        await worker.idle()
        assert len(await worker.messages(DEAD)) == 1


async def test_what_nothing_took_is_tried_again_for_that_subscriber_only(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In hand, for the first seconds: a bus that makes room forgets what it was given back."""
    from ofevents.trigger.handover import Handover
    from ofevents.trigger.suspects import Suspects

    real, down, attempts = Handover.settle, [3], []

    async def settle(self: Handover, *given: Any) -> None:
        if self.name == "two" and down[0]:
            down[0] -= 1
            raise Unavailable("no place")
        await real(self, *given)

    handling = Suspects.handling

    def counted(self: Suspects, received: Received) -> Any:
        attempts.append(received.attempt)
        return handling(self, received)

    monkeypatch.setattr(Handover, "settle", settle)
    monkeypatch.setattr(Suspects, "handling", counted)
    monkeypatch.setattr("ofevents.trigger.inputs.FIRST_RETRY", 0.01)
    spec = trigger(subscriber("one"), subscriber("two"), inputs=inputs(a=None))
    async with running(spec) as worker:
        await worker.publish(A, event("1"))
        await worker.idle()
        assert worker.outcomes("1").count("unsettled") == 3
    assert functions["one"].ids == functions["two"].ids == ["1"]
    assert attempts == [1, 1, 1, 1]


async def test_a_stop_settles_what_is_in_hand(functions: Functions) -> None:
    go = asyncio.Event()

    async def slow(delivery: Delivery) -> Reply | None:
        await go.wait()
        return None

    functions["one"].answer = slow
    async with running(trigger(inputs=inputs(a=None))) as worker:
        await worker.publish(A, event("1"))
        await until(lambda: bool(functions["one"].given), seconds=5, what="the call")
        worker.stop.set()
        await worker.publish(A, event("2"))
        go.set()
        await asyncio.wait_for(worker.task, 5)
        (snapshot,) = worker.health.snapshots()
        assert (snapshot.state, snapshot.in_flight) == ("stopped", 0)
    assert functions["one"].ids == ["1"]
    async with running(trigger(inputs=inputs(a=None))) as worker:
        await worker.idle()
    assert functions["one"].ids == ["1", "2"]


async def test_in_flight_bounds_what_is_in_hand(functions: Functions) -> None:
    functions["one"].answer = hang
    one = subscriber(delivery={"concurrency": 100})
    async with running(trigger(one, inputs=inputs(a=None), in_flight=4)) as worker:
        await worker.publish(A, *(event(str(i)) for i in range(20)))
        await until(lambda: len(functions["one"].given) == 4, seconds=5, what="four calls")
        # With one subscriber nobody else waits: the bus does, and no inbox is needed.
        assert await worker.messages("inbox.shop.trg.one") == []
        report = await worker.bus.inspect()
        (consumer,) = [c for c in report.consumers if c.group == "trigger.shop.trg"]
        assert (consumer.in_flight, consumer.pending) == (4, 16)
        assert worker.health.snapshots()[0].in_flight == 4
        await worker.kill()


async def test_health_is_progress_or_a_wait_by_name(functions: Functions) -> None:
    """Idle, or waiting for a subscriber: live; then a probe would not restart it."""
    clock = ManualClock()
    go = asyncio.Event()

    async def slow(delivery: Delivery) -> Reply | None:
        await go.wait()
        return None

    functions["one"].answer = slow
    one = subscriber(delivery={"timeout": 600.0})
    async with running(trigger(one, inputs=inputs(a=None)), clock) as worker:
        for _ in range(100):
            await clock.advance(1)
        assert worker.health.live(5)
        await worker.publish(A, event("1"), event("2"))
        for _ in range(100):
            await clock.advance(1)
        (snapshot,) = worker.health.snapshots()
        assert snapshot.waiting == ("subscriber one",)
        assert snapshot.in_flight == 2
        assert worker.health.live(5)
        assert metric("ofevents_in_flight", **NAME) == 2
        go.set()
        await clock.advance(0)
        (snapshot,) = worker.health.snapshots()
        assert (snapshot.waiting, snapshot.in_flight) == ((), 0)
        await worker.kill()


async def test_a_worker_that_is_stuck_is_not_live(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking is no progress while a message is in hand and nothing is waited for by name."""
    clock = ManualClock()
    monkeypatch.setattr("ofevents.trigger.inbox.Inbox.put", hang)
    later = subscriber(delivery={"deliver_after": 1.0})
    async with running(trigger(later, inputs=inputs(a=None)), clock) as worker:
        await worker.publish(A, event("1"))
        for _ in range(61):
            assert worker.health.live(60)
            await clock.advance(1)
        (snapshot,) = worker.health.snapshots()
        assert (snapshot.waiting, snapshot.in_flight) == ((), 1)
        assert not worker.health.live(60)
        await worker.kill()


async def test_the_lag_of_each_group_is_a_metric(functions: Functions) -> None:
    clock = ManualClock()
    functions["one"].answer = hang
    one = subscriber(delivery={"timeout": 3600.0})
    async with running(trigger(one, inputs=inputs(a=None), in_flight=3), clock) as worker:
        await worker.publish(A, *(event(str(i)) for i in range(10)))
        for _ in range(40):
            await clock.advance(1)
        assert metric("ofevents_lag", **NAME, group="trigger.shop.trg") == 7
        assert metric("ofevents_lag", **NAME, group="inbox.shop.trg.one") == 0
        await worker.kill()


@pytest.mark.parametrize(("start", "ids"), [("earliest", ["1", "2"]), ("now", ["2"])])
async def test_start_from_counts_at_the_first_start(
    functions: Functions, start: str, ids: list[str]
) -> None:
    spec = trigger(inputs=inputs(a=None), start=start)
    async with open_bus(spec.bus, clock=SystemClock()) as bus:
        await bus.ensure([A], [])
        await bus.publish(A, Message(event("1"), "w"))
    async with running(spec) as worker:
        await worker.publish(A, event("2"))
        await worker.idle()
    assert functions["one"].ids == ids
    async with running(spec) as worker:
        await worker.idle()
    assert functions["one"].ids == ids


async def test_suspended_it_reads_nothing_and_keeps_its_position(functions: Functions) -> None:
    spec = trigger(inputs=inputs(a=None), suspend=True, start="now")
    async with running(spec) as worker:
        assert worker.health.snapshots()[0].state == "suspended"
        await worker.publish(A, event("1"))
    assert functions["one"].ids == []
    async with running(spec.model_copy(update={"suspend": False})) as worker:
        await worker.idle()
    assert functions["one"].ids == ["1"]


async def test_a_lost_bus_is_stalled_and_comes_back(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ofevents.trigger.monitor.INTERVAL", 0.01)
    async with running(trigger(inputs=inputs(a=None))) as worker:
        broker = worker.bus.broker  # type: ignore[attr-defined]
        broker.fail("the server is gone")
        await until(lambda: _state(worker.health) == "stalled", seconds=5, what="stalled")
        assert worker.health.snapshots()[0].message == "the server is gone"
        assert worker.health.live(0.5)
        broker.heal()
        await until(lambda: _state(worker.health) == "ready", seconds=5, what="ready")
        await worker.publish(A, event("1"))
        await worker.idle()
    assert functions["one"].ids == ["1"]


async def test_a_bus_that_cannot_be_reached_at_start_is_waited_for(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ofevents.trigger.worker.FIRST_BACKOFF", 0.01)
    spec = trigger(inputs=inputs(a=None))
    async with running(spec) as worker:
        await worker.end()
        broker = worker.bus.broker  # type: ignore[attr-defined]
        broker.fail("not up yet")
        async with running(spec) as second:
            assert _state(second.health) == "stalled"
            broker.heal()
            await until(lambda: _state(second.health) == "ready", seconds=5, what="ready")


async def test_a_wrong_trigger_says_so_at_once() -> None:
    spec = trigger(subscriber(condition="nosuch"), inputs=inputs(a=None))
    clock = SystemClock()
    health = Health(clock)
    with pytest.raises(ConfigError, match="nosuch"):
        await run(spec, health=health, clock=clock, stop=asyncio.Event())
    (snapshot,) = health.snapshots()
    assert (snapshot.state, snapshot.reason) == ("stalled", "InvalidExpression")


async def test_the_attributes_of_an_event_reach_the_subscriber_unchanged(
    functions: Functions,
) -> None:
    sent = Event.create(id="x", source="s", type="t", data=b"1.0", tracked="yes", subject="é")
    async with running(trigger(inputs=inputs(a=None))) as worker:
        await worker.publish(A, sent)
        await worker.idle()
    assert functions["one"].given[0].event == sent


def _state(health: Health) -> str:
    return health.snapshots()[0].state
