"""The installation of the tests about one subscriber's trouble: topic `orders`, one Trigger.

The test publishes on the bus itself, so that nothing but the Trigger's workers and
the function is in the way, and counts in the function's own log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import open_bus, topics
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.ports import Bus, Message
from tests.e2e.processes import specs

ORDERS = topics.user("default", "orders")
AUDITED = topics.user("default", "audited")
"""What the subscriber `audit: {topic: audited}` writes."""
DEAD = topics.dead("default", "checkout")
GROUP = topics.trigger_group("default", "checkout")
INBOX = topics.inbox("default", "checkout", "charge")
_BATCH = 2000

_RESOURCES = """
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {{name: default}}
spec: {bus}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {{name: checkout}}
spec:
  eventBus: default
  startFrom: earliest
  inputs: {{orders: {{topic: orders}}}}
  subscribers:
"""


async def checkout(folder: Path, bus: str, *subscribers: str) -> Path:
    """The resolved spec of Trigger `checkout`; the bus and each subscriber a line of YAML."""
    resources = folder / "resources.yaml"
    lines = "".join(f"  - {one}\n" for one in subscribers)
    resources.write_text(_RESOURCES.format(bus=bus) + lines)
    made = await specs(resources, folder / "specs")
    return made["checkout"]


def jetstream(url: str) -> str:
    """The bus as `checkout` takes it."""
    return f'{{jetstream: {{url: "{url}"}}}}'


@asynccontextmanager
async def bus_at(url: str) -> AsyncIterator[Bus]:
    """Our own driver, connected."""
    resolved = ResolvedBus(driver="jetstream", options={"url": url})
    async with open_bus(resolved, clock=SystemClock()) as bus:
        yield bus


def _order(id: str) -> Message:
    """About 300 bytes, attributes and data together."""
    data = {"order": id, "amount": 150, "country": "NL", "note": "x" * 140}
    event = Event.create(
        id=id,
        source="/shop",
        type="shop.order.placed",
        datacontenttype="application/json",
        data=orjson.dumps(data),
    )
    return Message(event, "default/shop")


async def fill(bus: Bus, ids: Sequence[str]) -> None:
    """Publish an order for each id, as fast as the bus stores them."""
    for at in range(0, len(ids), _BATCH):
        await bus.publish(ORDERS, *map(_order, ids[at : at + _BATCH]))


async def pace(bus: Bus, ids: Sequence[str], per_second: float) -> float:
    """Publish an order for each id at a steady pace, a few at a time; what it came to."""
    loop = asyncio.get_running_loop()
    began, sent = loop.time(), 0
    while sent < len(ids):
        due = min(len(ids), int((loop.time() - began) * per_second) + 1)
        if due > sent:
            await bus.publish(ORDERS, *map(_order, ids[sent:due]))
            sent = due
        await asyncio.sleep(0.01)
    return len(ids) / (loop.time() - began)


async def stored(bus: Bus, topic: str) -> int:
    """How many messages the bus holds of that topic."""
    report = await bus.inspect()
    return sum(one.messages for one in report.topics if one.topic == topic)


async def unread(bus: Bus) -> int:
    """How many orders the Trigger has not been handed yet."""
    report = await bus.inspect()
    return sum(one.pending for one in report.consumers if one.group == GROUP)
