"""What a source has in hand when it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from ofevents.api.resolved import HttpTarget
from ofevents.bus.memory import MemoryBus
from ofevents.clock import SystemClock
from ofevents.errors import TemporaryError
from ofevents.ports import Emit, Message, Store
from ofevents.source import hand, standing
from tests.servers.sink import Answer, Sink
from tests.unit.source.rig import QUICK, Scripted, event, memory, on, spec, working

Started = Callable[[str], None]
Adapter = Callable[[Scripted], Scripted]


@dataclass
class Slow:
    """A bus that stores when it is told to, and an adapter that acknowledges each record."""

    publishing: asyncio.Event = field(default_factory=asyncio.Event)
    stored: asyncio.Event = field(default_factory=asyncio.Event)
    acknowledged: list[str] = field(default_factory=list)

    async def play(self, emit: Emit, store: Store | None, started: Started) -> None:
        started("here")
        for id in ("1", "2"):
            await emit(event(id))
            await asyncio.sleep(0.02)  # the outside answers
            self.acknowledged.append(id)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, adapter: Adapter) -> Slow:
    made, publish = Slow(), MemoryBus.publish

    async def slowly(bus: MemoryBus, topic: str, *messages: Message) -> None:
        made.publishing.set()
        await made.stored.wait()
        await publish(bus, topic, *messages)

    monkeypatch.setattr(MemoryBus, "publish", slowly)
    adapter(Scripted(made.play))
    return made


async def test_it_is_settled_and_acknowledged_and_nothing_follows(slow: Slow) -> None:
    async with MemoryBus(memory(name="h1"), clock=SystemClock()) as bus:
        async with working(spec(memory(name="h1"))) as running:
            await slow.publishing.wait()
            running.stop.set()
            done, _ = await asyncio.wait([running.task], timeout=0.1)
            assert not done and running.snapshot.in_flight == 1
            slow.stored.set()
            await asyncio.wait_for(running.task, 5)
        assert slow.acknowledged == ["1"]
        assert await on(bus) == [event("1")]


async def test_what_hangs_is_cut(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hand, "LONGEST", 0.1)
    async with working(spec(memory(name="h2"))) as running:
        await slow.publishing.wait()
        running.stop.set()
        await asyncio.wait_for(running.task, 5)
    assert not slow.acknowledged


@pytest.mark.parametrize("status", [503, 400])
async def test_what_cannot_be_settled_now_is_given_back(
    status: int, monkeypatch: pytest.MonkeyPatch, adapter: Adapter
) -> None:
    """What is refused for good waits, too, where no dead letter can be stored."""
    monkeypatch.setattr(hand, "LONGEST", 1000.0)
    monkeypatch.setattr(standing, "FIRST", 1000.0)
    refused: list[str] = []

    async def play(emit: Emit, store: Store | None, started: Started) -> None:
        started("here")
        try:
            await emit(event("1"))
        except TemporaryError as error:
            refused.append(str(error))
            raise

    adapter(Scripted(play))
    async with Sink(answer=Answer(status)) as sink:
        direct = spec(target=HttpTarget(uri=sink.url), delivery=QUICK)
        async with working(direct) as running:
            await running.becomes("stalled")
            running.stop.set()
            await asyncio.wait_for(running.task, 5)
    assert len(refused) == 1 and str(status) in refused[0]
