"""An event that ends its workers is handled alone, and then not any more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import ManualClock, SystemClock
from ofevents.errors import Unavailable
from ofevents.ports import Delivery, Reply
from ofevents.trigger.suspects import DEATHS, TRUSTED, Suspects
from tests.servers import until
from tests.unit.trigger.rig import DEAD, A, Functions, event, inputs, running, subscriber, trigger


@dataclass
class Handed:
    """A message in hand, as far as the guard looks."""

    attempt: int
    topic: str = A
    position: str = "7"


def store() -> MemoryStore:
    return MemoryStore(Broker(max_bytes=1 << 20, window=120), SystemClock())


async def dies(suspects: Suspects, message: Any) -> Any:
    """Begin handling it and never come to the end, as a process that is killed."""
    return await suspects.handling(message).__aenter__()


async def test_only_deaths_while_alone_condemn_a_message() -> None:
    kept = store()
    for _ in range(DEATHS):
        assert await dies(Suspects(kept, "g"), Handed(TRUSTED + 1)) is None
    # Another message of the same workers is innocent.
    async with Suspects(kept, "g").handling(Handed(9, position="8")) as crashed:  # type: ignore[arg-type]
        assert crashed is None
    async with Suspects(kept, "g").handling(Handed(9)) as crashed:  # type: ignore[arg-type]
        assert crashed is not None
        assert crashed.reason == "CrashLoop"
        assert f"{DEATHS} workers died" in str(crashed)
    # The verdict is carried out: nothing is left of it.
    assert [key async for key, _ in kept.list("suspect/")] == []


async def test_redeliveries_without_a_death_never_condemn() -> None:
    suspects = Suspects(store(), "g")
    for attempt in range(1, 50):
        async with suspects.handling(Handed(attempt)) as crashed:  # type: ignore[arg-type]
            assert crashed is None
    for attempt in range(50, 60):
        with pytest.raises(ValueError, match="a defect"):
            async with suspects.handling(Handed(attempt)):  # type: ignore[arg-type]
                raise ValueError("a defect")


async def test_trusted_messages_pass_together_and_a_suspect_alone() -> None:
    suspects, log, go = Suspects(store(), "g"), [], asyncio.Event()

    async def handle(name: str, attempt: int) -> None:
        async with suspects.handling(Handed(attempt)):  # type: ignore[arg-type]
            log.append(f"+{name}")
            await go.wait()
            await asyncio.sleep(0)
            log.append(f"-{name}")

    async with asyncio.TaskGroup() as group:
        for name, attempt in (("a", 1), ("b", 1), ("suspect", 9)):
            group.create_task(handle(name, attempt))
        await until(lambda: len(log) == 2, seconds=5, what="two in hand")
        await asyncio.sleep(0)
        group.create_task(handle("c", 1))
        await ManualClock().advance(0)  # every task runs to its next wait
        assert log == ["+a", "+b"]  # c waits behind the suspect
        go.set()
    at = log.index("+suspect")
    assert log[at + 1] == "-suspect"
    assert set(log[:at]) == {"+a", "+b", "-a", "-b"}


async def test_a_suspect_that_takes_long_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ofevents.trigger.alone.LONGEST_ALONE", 0.05)
    suspects = Suspects(store(), "g")
    async with asyncio.timeout(5), suspects.handling(Handed(9)):  # type: ignore[arg-type]
        async with suspects.handling(Handed(1)):  # type: ignore[arg-type]
            pass
        # It is counted still.
        assert [key async for key, _ in suspects._store.list("suspect/")]


async def test_an_event_that_kills_is_dead_lettered_unread_and_the_rest_goes_on(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies in the middle of the killer, again and again."""
    spec = trigger(inputs=inputs(a=None))

    async def killer(delivery: Delivery) -> Reply | None:
        if delivery.events[0].id == "killer":
            await asyncio.Event().wait()
        return None

    functions["one"].answer = killer

    async def forget(self: MemoryStore, key: str, **more: Any) -> None:
        """A killed process strikes nothing out; cancelling a task does."""
        if not killing:
            await real(self, key, **more)

    real, killing = MemoryStore.delete, [True]
    monkeypatch.setattr(MemoryStore, "delete", forget)
    for _ in range(TRUSTED + DEATHS):
        seen = functions["one"].ids.count("killer")
        async with running(spec) as worker:
            if seen == 0:
                await worker.publish(A, event("killer"), event("1"))
            await until(
                lambda seen=seen: functions["one"].ids.count("killer") > seen,  # type: ignore[misc]
                seconds=5,
                what="the killer is in hand",
            )
            await worker.kill()
    killing.clear()
    async with running(spec) as worker:
        await worker.idle()
        (letter,) = await worker.messages(DEAD)
        assert letter.headers["ofe-dead-reason"] == "CrashLoop"
        assert isinstance(letter.body, Delivery)
        assert b'"id":"killer"' in (letter.body.event.data or b"")
    assert functions["one"].ids.count("killer") == TRUSTED + DEATHS
    assert "1" in functions["one"].ids


async def test_a_long_outage_condemns_nobody(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ofevents.trigger.handover import Handover

    real, down = Handover.settle, [TRUSTED + DEATHS + 5]

    async def settle(self: Handover, *given: Any) -> None:
        down[0] -= 1
        if down[0] > 0:
            raise Unavailable("the bus is full")
        await real(self, *given)

    monkeypatch.setattr(Handover, "settle", settle)
    monkeypatch.setattr("ofevents.trigger.inputs.LONGEST_RETRY", 0.01)
    async with running(trigger(subscriber(), inputs=inputs(a=None))) as worker:
        await worker.publish(A, event("1"))
        await worker.idle()
        assert await worker.messages(DEAD) == []
    assert functions["one"].ids == ["1"]
