"""Sources that publish without pause on a full bus, and Triggers that write to its topics."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ofevents.api.resolved import ResolvedBus, TopicTarget
from ofevents.bus import open_bus
from ofevents.clock import SystemClock
from ofevents.errors import BusFull
from ofevents.ports import Bus, Message
from ofevents.trigger.worker import consumers, topics
from tests.servers import until
from tests.servers.nats import NatsServer
from tests.unit.trigger.rig import A, Functions, event, inputs, running, subscriber, trigger

pytestmark = [pytest.mark.server("nats"), pytest.mark.timeout(180)]
ALL = 3000
PAD = '{"pad": "%s"}' % ("x" * 1000)


class Source:
    """Publishes events as fast as the bus takes them; `sent` of them so far."""

    def __init__(self, bus: Bus) -> None:
        self.sent = 0
        self._bus = bus

    async def publish(self) -> None:
        """The next 20; BusFull where they find no room."""
        batch = [Message(event(str(self.sent + n), PAD), "source") for n in range(20)]
        await self._bus.publish(A, *batch)
        self.sent += 20

    async def run(self) -> None:
        """All of them: whatever room there comes to be, it is taken at once."""
        while self.sent < ALL:
            try:
                await self.publish()
            except BusFull:
                await asyncio.sleep(0.02)  # as a source waits; nothing is waited for here


async def test_a_bus_that_sources_keep_full_goes_on(tmp_path: Path, functions: Functions) -> None:
    """Deliveries to topics take no room from the events, so events are settled and purged."""
    async with NatsServer(tmp_path) as server:
        options = {"url": server.url, "max_bytes": 1_000_000}
        bus = ResolvedBus(driver="jetstream", options=options)
        names = ("one", "two", "three")
        writers = (subscriber(n, target=TopicTarget(topic=f"topic.shop.{n}")) for n in names)
        spec = trigger(*writers, inputs=inputs(a=None), bus=bus)
        async with open_bus(bus, clock=SystemClock()) as opened:
            await opened.ensure(topics(spec), consumers(spec))
            source = Source(opened)
            with pytest.raises(BusFull):
                while True:
                    await source.publish()
            assert source.sent < ALL / 2, "the bus is full several times over"
            async with running(spec) as worker, asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(source.run())

                def written() -> bool:
                    done = {
                        (id, name) for id, _, name, what, _ in worker.lines if what == "delivered"
                    }
                    return len(done) == ALL * len(names)

                try:
                    await until(written, seconds=120, what="each event is written to each topic")
                finally:
                    writing.cancel()
