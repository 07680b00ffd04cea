"""What cannot be delivered now waits in the subscriber's inbox, and is delivered from there."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ofevents.api.resolved import ResolvedBus
from ofevents.clock import ManualClock
from ofevents.errors import BusFull, Disconnected, Misconfigured, Rejected, Unavailable
from ofevents.health import Health
from ofevents.ports import Delivery, Message, Reply
from ofevents.trigger.inbox import STORED, Inbox
from tests.servers import until
from tests.unit.trigger.rig import (
    DEAD,
    A,
    B,
    Functions,
    Running,
    event,
    inputs,
    metric,
    running,
    subscriber,
    trigger,
)

INBOX = "inbox.shop.trg.one"
ONE = {"namespace": "shop", "name": "trg", "subscriber": "one"}


def quick(**options: object) -> ResolvedBus:
    """A bus that lets a message be held for a tenth of a second only."""
    return ResolvedBus(driver="memory", options={"ack_wait": 0.3, **options})


async def test_a_retry_that_is_due_late_waits_in_the_inbox(functions: Functions) -> None:
    functions["one"].script = [Unavailable("503", status=503)] * 2
    slow = subscriber(delivery={"backoff": 0.2, "max_backoff": 0.2, "retries": 5})
    inboxed = metric("ofevents_inboxed_total", **ONE, reason="Unavailable")
    async with running(trigger(slow, inputs=inputs(a=None), bus=quick())) as worker:
        await worker.publish(A, event("1"))
        await worker.idle()
    given = functions["one"].given
    # Each move raises the generation, each failed call the attempt.
    assert [(one.generation, one.attempt) for one in given] == [(0, 0), (1, 1), (2, 2)]
    assert given[2].due >= given[1].due + 0.2 > given[1].due > 0
    assert worker.outcomes("1") == ["retrying", "inboxed", "retrying", "inboxed", "delivered"]
    assert metric("ofevents_inboxed_total", **ONE, reason="Unavailable") == inboxed + 2


async def test_retries_count_over_moves_until_it_is_a_dead_letter(functions: Functions) -> None:
    async def down(delivery: Delivery) -> Reply | None:
        raise Unavailable("503", status=503)

    functions["one"].answer = down
    slow = subscriber(delivery={"backoff": 0.15, "max_backoff": 0.15, "retries": 2})
    async with running(trigger(slow, inputs=inputs(a=None), bus=quick())) as worker:
        await worker.publish(A, event("1"))
        await worker.idle()
        (letter,) = await worker.messages(DEAD)
        assert letter.headers["ofe-dead-reason"] == "RetriesExhausted"
        assert letter.headers["ofe-dead-attempts"] == "3"
        assert isinstance(letter.body, Delivery) and letter.body.events == (event("1"),)
    assert len(functions["one"].given) == 3


async def test_the_inbox_outlives_the_worker(functions: Functions) -> None:
    functions["one"].script = [Unavailable("gone", delay=0.3)]
    spec = trigger(inputs=inputs(a=None), bus=quick())
    async with running(spec) as worker:
        await worker.publish(A, event("1"))
        await until(lambda: "inboxed" in worker.outcomes("1"), seconds=5, what="inboxed")
        await worker.kill()
    async with running(spec) as worker:
        await worker.idle()
    assert functions["one"].ids == ["1", "1"]


async def test_a_move_repeated_after_a_crash_is_stored_once(functions: Functions) -> None:
    async with running(trigger(inputs=inputs(a=None), suspend=True)) as worker:
        inbox = Inbox(subscriber(), worker.bus, "shop/trg/one")
        delivery = Delivery("shop/trg/one", (event("1"),))
        for _ in range(2):
            await inbox.put(delivery, reason="Busy", stored=12.5)
        (entry,) = await worker.messages(INBOX)
        assert entry.headers[STORED] == "12.5"
        # The next move is another one.
        await inbox.put(replace(delivery, generation=1), reason="Busy", stored=12.5)
        assert len(await worker.messages(INBOX)) == 2


@pytest.mark.parametrize("error", [Disconnected("the server is gone"), BusFull("no room")])
@pytest.mark.parametrize("moved", [0, 1])
async def test_what_the_inbox_cannot_take_now_comes_again(
    functions: Functions, monkeypatch: pytest.MonkeyPatch, error: Exception, moved: int
) -> None:
    """Out of the inputs, and out of the inbox itself after a first move."""
    monkeypatch.setattr("ofevents.trigger.inputs.FIRST_RETRY", 0.01)
    monkeypatch.setattr("ofevents.trigger.entries.RETRY_AFTER", 0.01)
    functions["one"].script = [Unavailable("503", status=503)] * (3 + moved)
    slow = subscriber(delivery={"backoff": 0.12, "max_backoff": 0.12, "retries": 9})
    async with running(trigger(slow, inputs=inputs(a=None), bus=quick())) as worker:
        broker = worker.bus.broker  # type: ignore[attr-defined]
        real, puts = broker.publish, [0]

        def publish(topic: str, *more: object) -> None:
            if topic == INBOX:
                puts[0] += 1
                if moved < puts[0] <= moved + 2:
                    raise error
            real(topic, *more)

        monkeypatch.setattr(broker, "publish", publish)
        await worker.publish(A, event("1"))
        await worker.idle()
        assert worker.outcomes("1").count("inboxed") == 1 + moved
        assert worker.outcomes("1")[-1] == "delivered"
        assert await worker.messages(DEAD) == []
    assert functions["one"].ids == ["1"] * (4 + moved)


async def test_a_misconfigured_subscriber_stalls_and_loses_nothing(functions: Functions) -> None:
    wrong = [True]

    async def refuse(delivery: Delivery) -> Reply | None:
        if wrong[0]:
            raise Misconfigured("answered 401", status=401)
        return None

    functions["one"].answer = refuse
    spec = trigger(subscriber("one"), subscriber("two"), inputs=inputs(a=None))
    async with running(spec) as worker:
        await worker.publish(A, *(event(str(i)) for i in range(10)))
        await until(lambda: len(functions["two"].given) == 10, seconds=5, what="the neighbour")
        (snapshot,) = worker.health.snapshots()
        assert (snapshot.state, snapshot.reason) == ("stalled", "SubscriberMisconfigured")
        assert snapshot.message == "one: answered 401"
        wrong[0] = False
        await worker.idle()
        assert worker.health.snapshots()[0].state == "ready"
        assert await worker.messages(DEAD) == []
    accepted = {one[0] for one in worker.lines if one[2:4] == ("one", "delivered")}
    assert accepted == {str(i) for i in range(10)}


async def test_the_calls_to_a_misconfigured_subscriber_grow_rare(functions: Functions) -> None:
    async def refuse(delivery: Delivery) -> Reply | None:
        raise Misconfigured("answered 404", status=404)

    functions["one"].answer = refuse
    one = subscriber(delivery={"concurrency": 1})
    clock = ManualClock()
    async with running(trigger(one, inputs=inputs(a=None)), clock) as worker:
        await worker.publish(A, event("1"))
        calls = []
        for _ in range(40):
            await clock.advance(1)
            calls.append(len(functions["one"].given))
        # The first call, then pauses of 0.5, 1, 2, 3, 3, ... s and up to a tenth more.
        assert calls[0] <= 2 and 13 <= calls[-1] <= 15
        # It waits in hand: a backlog is not written anew in each round.
        assert {one.generation for one in functions["one"].given[1:]} == {1}
        assert await worker.messages(DEAD) == []
        await worker.kill()


async def test_a_misconfigured_subscriber_does_not_hold_up_the_end(functions: Functions) -> None:
    async def refuse(delivery: Delivery) -> Reply | None:
        raise Misconfigured("answered 404", status=404)

    functions["one"].answer = refuse
    async with running(trigger(inputs=inputs(a=None))) as worker:
        await worker.publish(A, event("1"), event("2"))
        await until(lambda: worker.health.snapshots()[0].in_flight == 2, seconds=5, what="both")
        await worker.end()
        held = {one.topic: one.messages for one in (await worker.bus.inspect()).topics}
        assert held[INBOX] == 2


async def test_a_full_share_goes_to_the_inbox_and_the_neighbour_is_not_slowed(
    functions: Functions,
) -> None:
    go = asyncio.Event()

    async def hang(delivery: Delivery) -> Reply | None:
        await go.wait()
        return None

    functions["one"].answer = hang
    spec = trigger(
        subscriber("one", delivery={"concurrency": 1}),
        subscriber("two"),
        inputs=inputs(a=None),
        in_flight=8,
    )
    busy = metric("ofevents_inboxed_total", **ONE, reason="Busy")
    async with running(spec) as worker:
        await worker.publish(A, *(event(str(i)) for i in range(50)))
        await until(lambda: len(functions["two"].given) == 50, seconds=5, what="the neighbour")

        async def read() -> bool:
            report = await worker.bus.inspect()
            (one,) = [c for c in report.consumers if c.group == spec.group]
            return (one.pending, one.in_flight) == (0, 4)

        # Four are held directly; the rest wait in the inbox, and the input is settled.
        await until(read, seconds=5, what="all but four are settled")
        assert metric("ofevents_inboxed_total", **ONE, reason="Busy") == busy + 46
        go.set()
        await worker.idle()
    assert sorted(functions["one"].ids, key=int) == [str(i) for i in range(50)]


async def test_deliver_after_counts_from_the_time_of_storage(functions: Functions) -> None:
    clock = ManualClock()
    spec = trigger(subscriber(delivery={"deliver_after": 60.0}), inputs=inputs(a=None))
    async with running(spec, clock) as worker:
        await worker.publish(A, event("1"))
        await clock.advance(59)
        assert functions["one"].ids == []
        await clock.advance(2)
        assert functions["one"].ids == ["1"]
        await worker.kill()


async def test_ordered_is_one_after_another_per_key_and_side_by_side_across(
    functions: Functions,
) -> None:
    """The first of key x fails twice and hangs once: x waits, y goes on."""
    go, log = asyncio.Event(), []

    async def answer(delivery: Delivery) -> Reply | None:
        id = delivery.events[0].id
        log.append(id)
        if id == "x0" and log.count("x0") < 3:
            raise Unavailable("503", status=503)
        if id == "x0":
            await go.wait()
        return None

    functions["one"].answer = answer
    one = subscriber(delivery={"ordered": True, "backoff": 0.05, "max_backoff": 0.05})
    async with running(trigger(one, inputs=inputs(a=None), bus=quick())) as worker:
        events = [event(f"{k}{i}", partitionkey=k) for i in range(5) for k in "xy"]
        await worker.publish(A, *events)
        await until(lambda: log.count("x0") == 3 and "y4" in log, seconds=5, what="y and x0")
        assert [id for id in log if id[0] == "y"] == [f"y{i}" for i in range(5)]
        assert {id for id in log if id[0] == "x"} == {"x0"}
        go.set()
        await worker.idle()
    assert [id for id in log if id[0] == "x"] == ["x0", "x0", "x0", "x1", "x2", "x3", "x4"]


async def test_ordered_waits_for_its_dead_letters(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be settled now is not passed by what came after it."""
    from ofevents.subscriber import DeadLetters

    real, down = DeadLetters.store, [3]

    async def store(self: DeadLetters, *given: object, **more: object) -> None:
        down[0] -= 1
        if down[0] >= 0:
            raise Unavailable("no place", delay=0.01)
        await real(self, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(DeadLetters, "store", store)
    monkeypatch.setattr("ofevents.trigger.entries.RETRY_AFTER", 0.01)

    async def answer(delivery: Delivery) -> Reply | None:
        if delivery.events[0].id == "0":
            raise Rejected("400", status=400)
        return None

    functions["one"].answer = answer
    spec = trigger(subscriber(delivery={"ordered": True}), inputs=inputs(a=None))
    async with running(spec) as worker:
        await worker.publish(A, event("0", partitionkey="k"), event("1", partitionkey="k"))
        await worker.idle()
        assert len(await worker.messages(DEAD)) == 1
    assert functions["one"].ids == ["0"] * 4 + ["1"]


async def test_an_ordered_inbox_has_one_owner_and_then_the_next(functions: Functions) -> None:
    spec = trigger(subscriber(delivery={"ordered": True}), inputs=inputs(a=None), bus=quick())

    async def owner(worker: Running) -> bytes:
        entry = await worker.bus.store.get(f"owner/{INBOX}")
        return entry.value if entry else b""

    async def owned() -> bool:
        return await owner(first) != b""

    async with running(spec) as first, running(spec) as second:
        await until(owned, seconds=5, what="an owner")
        before = await owner(first)
        await first.publish(A, *(event(str(i), partitionkey="k") for i in range(20)))
        await first.idle()
        assert functions["one"].ids == [str(i) for i in range(20)]
        (leader,) = [w for w in (first, second) if "delivered" in w.outcomes("0")]
        other = second if leader is first else first
        assert not any(line[3] == "delivered" for line in other.lines)
        await leader.end()
        await other.publish(A, event("20", partitionkey="k"))
        await other.idle()
        assert await owner(other) not in (before, b"")
    assert functions["one"].ids[-1] == "20"


async def test_a_batch_is_full_or_its_time_is_over(functions: Functions) -> None:
    one = subscriber(
        condition="a", payload="event.data.n", delivery={"batch_size": 3, "batch_wait": 0.1}
    )
    async with running(trigger(one, inputs=inputs(a=None))) as worker:
        events = [event(str(i), f'{{"n": {i}}}') for i in range(7)]
        await worker.publish(A, *events)
        await worker.idle()
    batches = [[one.id for one in delivery.events] for delivery in functions["one"].given]
    assert sorted(map(len, batches)) == [1, 3, 3]
    assert sorted(id for batch in batches for id in batch) == [str(i) for i in range(7)]
    # Each with its own payload in place of its data.
    for delivery in functions["one"].given:
        sent = (*delivery.events[:-1], delivery.event)
        assert [one.data for one in sent] == [one.id.encode() for one in sent]


async def test_a_refused_batch_buries_only_the_poison(functions: Functions) -> None:
    async def answer(delivery: Delivery) -> Reply | None:
        if any(one.id == "2" for one in delivery.events):
            raise Rejected("422", status=422)
        return None

    functions["one"].answer = answer
    one = subscriber(delivery={"batch_size": 4, "batch_wait": 0.05})
    async with running(trigger(one, inputs=inputs(a=None))) as worker:
        await worker.publish(A, *(event(str(i)) for i in range(4)))
        await worker.idle()
        (letter,) = await worker.messages(DEAD)
        assert isinstance(letter.body, Delivery)
        assert [one.id for one in letter.body.events] == ["2"]
    delivered = {one[0] for one in worker.lines if one[3] == "delivered"}
    assert delivered == {"0", "1", "3"}


async def test_a_batch_that_must_wait_goes_back_in_parts(functions: Functions) -> None:
    functions["one"].script = [Unavailable("503", status=503, delay=0.2)]
    one = subscriber(delivery={"batch_size": 2, "batch_wait": 0.05})
    async with running(trigger(one, inputs=inputs(a=None), bus=quick())) as worker:
        await worker.publish(A, event("1"), event("2"))
        await worker.idle()
    first, second = functions["one"].given
    assert {one.id for one in first.events} == {one.id for one in second.events} == {"1", "2"}
    assert (second.attempt, second.generation) == (1, 2)


async def test_a_batch_does_not_hold_up_the_end(functions: Functions) -> None:
    one = subscriber(delivery={"batch_size": 100, "batch_wait": 3600.0})
    async with running(trigger(one, inputs=inputs(a=None))) as worker:
        await worker.publish(A, event("1"))
        await until(lambda: worker.health.snapshots()[0].in_flight == 1, seconds=5, what="it")
        await worker.idle_inputs()
        await worker.end()
    async with running(trigger(subscriber(), inputs=inputs(a=None))) as worker:
        await worker.idle()
    assert functions["one"].ids == ["1"]


async def test_what_is_no_delivery_becomes_a_dead_letter(functions: Functions) -> None:
    async with running(trigger(inputs=inputs(a=None))) as worker:
        await worker.bus.publish(INBOX, Message(event("stray"), "stranger"))
        await worker.idle()
        (letter,) = await worker.messages(DEAD)
        assert letter.headers["ofe-dead-reason"] == "BadEvent"
    assert functions["one"].given == []


async def test_a_delivery_too_large_for_the_inbox_is_a_dead_letter(functions: Functions) -> None:
    bus = ResolvedBus(driver="memory", options={"max_size": 64_000})
    one = subscriber(condition="a && b", delivery={"deliver_after": 0.01})
    big = '{"x": "%s"}' % ("x" * 50_000)
    async with running(trigger(one, inputs=inputs(a=None, b=None), bus=bus)) as worker:
        await worker.publish(A, event("1", big))
        await worker.publish(B, event("2", big))
        await worker.idle()
        letters = await worker.messages(DEAD)
        ids = [e.id for one in letters if isinstance(one.body, Delivery) for e in one.body.events]
        assert ids == ["1", "2"]
        assert {one.headers["ofe-dead-reason"] for one in letters} == {"TooLarge"}


async def test_the_age_of_an_event_counts_its_time_in_the_inbox(functions: Functions) -> None:
    clock = ManualClock()
    before = metric("ofevents_event_age_seconds_sum", **ONE)
    spec = trigger(subscriber(delivery={"deliver_after": 100.0}), inputs=inputs(a=None))
    async with running(spec, clock, health=Health(clock)) as worker:
        await worker.publish(A, event("1"))
        for _ in range(11):
            await clock.advance(10)
        assert functions["one"].ids == ["1"]
        await worker.kill()
    assert metric("ofevents_event_age_seconds_sum", **ONE) - before >= 100
