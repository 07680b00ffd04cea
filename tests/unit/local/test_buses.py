"""The buses of a run: one embedded server, each bus with streams of its own."""

from __future__ import annotations

from pathlib import Path

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import topics
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.health import Health
from ofevents.local.buses import Buses
from ofevents.ports import Message

TOPIC = topics.user("default", "metrics")


def embedded(name: str) -> ResolvedBus:
    options = {"embedded": True, "stream": "ofevents", "sync": "default"}
    return ResolvedBus(name=name, driver="jetstream", options=options)


async def test_two_buses_share_the_server_and_nothing_else(tmp_path: Path) -> None:
    clock = SystemClock()
    async with Buses(tmp_path, Health(clock), clock) as buses:
        one = await buses.address(embedded("default"))
        two = await buses.address(embedded("shop/other"))
        assert one.options["url"] == two.options["url"]
        first, second = await buses.connect(one), await buses.connect(two)
        assert await buses.connect(one) is first
        event = Event.create(id="1", source="/s", type="t")
        await first.publish(TOPIC, Message(event, "w"))
        assert [received.body async for received in first.browse([TOPIC])] == [event]
        assert [received.body async for received in second.browse([TOPIC])] == []


async def test_a_bus_keeps_its_streams_when_its_document_is_written(tmp_path: Path) -> None:
    clock = SystemClock()
    async with Buses(tmp_path, Health(clock), clock) as buses:
        without = await buses.address(embedded("default"))
        written = await buses.address(embedded("default/default"))
        assert without.options == written.options


async def test_a_bus_with_a_url_is_left_as_it_is(tmp_path: Path) -> None:
    clock = SystemClock()
    given = ResolvedBus(driver="jetstream", options={"url": "nats://127.0.0.1:1"})
    async with Buses(tmp_path, Health(clock), clock) as buses:
        assert await buses.address(given) is given
        assert buses.server is None
