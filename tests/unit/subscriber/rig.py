"""What the tests of the way out share: events, and a subscriber that does as scripted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ofevents.api.resolved import ResolvedBus
from ofevents.bus.memory import MemoryBus
from ofevents.clock import ManualClock, SystemClock
from ofevents.event import Event
from ofevents.ports import Bus, Delivery, Payload, Received, Reply
from ofevents.telemetry import REGISTRY

OWNER = "shop/charge/card"
LABELS = {"namespace": "shop", "name": "charge", "subscriber": "card"}


def event(id: str = "1", data: bytes | None = b'{"amount": 3}', **more: str) -> Event:
    return Event.create(id=id, source="/orders", type="order", data=data, **more)  # type: ignore[arg-type]


def delivery(*events: Event, payload: Payload | None = None, **more: object) -> Delivery:
    return Delivery(OWNER, events or (event(),), payload, **more)  # type: ignore[arg-type]


@dataclass
class Scripted:
    """Raises or returns what it is told, in order, then accepts; keeps what it was given."""

    script: list[Exception | Reply] = field(default_factory=list)
    given: list[Delivery] = field(default_factory=list)

    async def deliver(self, delivery: Delivery) -> Reply:
        self.given.append(delivery)
        step = self.script.pop(0) if self.script else Reply(200)
        if isinstance(step, Exception):
            raise step
        return step


def memory_bus(name: str, **options: object) -> MemoryBus:
    """A bus of its own per test, where `name` is the test's."""
    return MemoryBus(
        ResolvedBus(driver="memory", options={"name": name, **options}), clock=SystemClock()
    )


async def browse(bus: Bus, topic: str) -> list[Received]:
    return [received async for received in bus.browse([topic])]


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {**LABELS, **labels}) or 0.0


async def settled(clock: ManualClock) -> None:
    """Let every task run to its next wait, without moving time."""
    await clock.advance(0)


def messages(items: Iterable[Received]) -> list[Event | Delivery]:
    return [item.body for item in items]
