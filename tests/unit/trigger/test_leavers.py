"""What a removed subscriber was owed: found on the bus, and made dead letters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ofevents.api.resolved import ResolvedBus, ResolvedTrigger
from ofevents.bus import open_bus
from ofevents.bus.topics import inbox, inbox_group
from ofevents.clock import SystemClock
from ofevents.errors import Disconnected
from ofevents.ports import Bus, BusReport, ConsumerReport, Delivery, Message, TopicReport
from ofevents.trigger import Leaver, leavers, left_over, remove, retire
from tests.servers.nats import NatsServer
from tests.unit.trigger.rig import DEAD, A, Functions, event, inputs, running, subscriber, trigger

CLOCK = SystemClock()
INBOX = inbox("shop", "trg", "two")


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leavers, "LOOK_EVERY", 0.02)


def spec(*names: str, **more: Any) -> ResolvedTrigger:
    """Everything goes through the inboxes, and is due in an hour in those that wait."""
    made = [
        subscriber(name, delivery={"deliver_after": 3600.0 if name == "waits" else 0.0, **more})
        for name in names
    ]
    return trigger(*made, inputs=inputs(a=None))


def report(*groups: str, **messages: int) -> BusReport:
    topics = [TopicReport(inbox("shop", "trg", name), n, n) for name, n in messages.items()]
    consumers = [ConsumerReport(one, (one,), 0, 0) for one in groups]
    return BusReport(tuple(topics), tuple(consumers))


def names(report: BusReport, *triggers: ResolvedTrigger) -> list[str]:
    return [one.name for one in left_over(report, triggers)]


def test_an_inbox_of_a_known_trigger_that_none_of_its_subscribers_has() -> None:
    there = [inbox("shop", "trg", name) for name in ("one", "two", "a.b/c")]
    assert names(report(*there), spec("one")) == ["a.b/c", "two"]
    assert names(report(*there), spec("one", "two")) == ["a.b/c"]


def test_what_belongs_to_another_trigger_stays() -> None:
    others = [inbox("shop", "other", "two"), inbox("prod", "trg", "two"), "trigger.shop.trg"]
    strange = ["inbox.shop.trg", "inbox.shop.trg.two.more", "event.shop.trg.two", "two"]
    assert names(report(*others, *strange), spec("one")) == []
    namesake = inbox("shop", "source/trg", "two")
    implicit = spec("one").model_copy(update={"implicit": True})
    assert names(report(namesake), spec("one")) == []
    assert names(report(namesake), implicit) == ["two"]


def test_messages_count_without_a_group_and_a_group_without_messages() -> None:
    assert names(report(two=3, one=3, three=0), spec("one")) == ["two"]
    assert names(report(INBOX), spec("one")) == ["two"]


async def look(bus: Bus, *triggers: ResolvedTrigger) -> list[Leaver]:
    return left_over(await bus.inspect(), triggers)


async def letters(bus: Bus) -> list[tuple[str, str]]:
    """Id and subscriber of each dead letter."""
    found = []
    async for one in bus.browse([DEAD]):
        assert isinstance(one.body, Delivery)
        assert "two was removed from the Trigger" in one.headers["ofe-dead-detail"]
        found.append((one.body.events[-1].id, one.body.subscriber))
    return found


async def test_what_it_was_owed_becomes_dead_letters(functions: Functions) -> None:
    before = trigger(
        subscriber("one"),
        subscriber("two", delivery={"deliver_after": 0.5, "ordered": True}),
        inputs=inputs(a=None),
    )
    after = spec("one")
    async with running(before) as worker:
        await worker.publish(A, *(event(str(n)) for n in range(5)))
        await worker.idle_inputs()
        await worker.end()
        (leaver,) = await look(worker.bus, after)
        assert (leaver.name, leaver.inbox) == ("two", INBOX)
        await retire(leaver, worker.bus, CLOCK)
        assert sorted(await letters(worker.bus)) == [(str(n), "shop/trg/two") for n in range(5)]
        assert await look(worker.bus, after) == []
        assert [key async for key, _ in worker.bus.store.list(f"owner/{INBOX}")] == []
    assert functions["two"].given == []


async def test_a_bus_in_trouble_is_waited_for(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(spec("one")) as worker:
        bus = worker.bus
        body = Delivery("shop/trg/two", (event(),))
        await bus.publish(INBOX, Message(body, "shop/trg/two"))
        trouble = [Disconnected("away", delay=0.01) for _ in range(3)]
        for name in ("publish", "remove", "ensure"):
            monkeypatch.setattr(bus, name, _failing(getattr(bus, name), list(trouble)))
        await retire(Leaver(spec("one"), "two", INBOX), bus, CLOCK)
        assert await letters(bus) == [("1", "shop/trg/two")]
        assert await look(bus, spec("one")) == []


def _failing(real: Any, errors: list[Exception]) -> Any:
    async def call(*arguments: Any, **named: Any) -> None:
        if errors:
            raise errors.pop()
        await real(*arguments, **named)

    return call


@pytest.mark.server("nats")
async def test_what_an_older_worker_still_puts_there_is_found_again(tmp_path: Path) -> None:
    """It may outlive the look at an empty inbox: then nothing of it may be purged."""

    def owed(id: str) -> Message:
        return Message(Delivery("shop/trg/two", (event(id),)), "shop/trg/two")

    after = spec("one")
    async with (
        NatsServer(tmp_path) as server,
        open_bus(ResolvedBus(driver="jetstream", options={"url": server.url}), clock=CLOCK) as bus,
    ):
        await bus.ensure([DEAD], [])
        await bus.publish(INBOX, owed("1"))
        (leaver,) = await look(bus, after)
        remove_group = bus.remove

        async def late(**what: Any) -> None:
            assert what == {"groups": [inbox_group(INBOX)]}
            await bus.publish(INBOX, owed("2"))
            await remove_group(**what)

        bus.remove = late  # type: ignore[method-assign]
        await retire(leaver, bus, CLOCK)
        bus.remove = remove_group  # type: ignore[method-assign]
        assert await look(bus, after) == [leaver]
        await retire(leaver, bus, CLOCK)
        assert await letters(bus) == [("1", "shop/trg/two"), ("2", "shop/trg/two")]
        assert await look(bus, after) == []


async def test_they_go_with_a_deleted_trigger(functions: Functions) -> None:
    async with running(spec("one", "waits")) as worker:
        await worker.publish(A, event())
        await worker.idle_inputs()
        await worker.end()
        assert [one.name for one in await look(worker.bus, spec("one"))] == ["waits"]
        await remove(spec("one"), worker.bus)
        assert await look(worker.bus, spec("one")) == []
