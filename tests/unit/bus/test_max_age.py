"""maxAge is for events alone: what somebody is owed, and dead letters, stay until settled."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofevents.api.resolved import ResolvedBus
from ofevents.bus.jetstream import JetStreamBus
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.ports import Consumer, Delivery, Message
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = pytest.mark.server("nats")

TOPIC, INBOX, DEAD = "event.shop.src.a", "inbox.shop.trg.one", "dead.shop.trg"


async def test_what_is_owed_does_not_age_out(tmp_path: Path) -> None:
    event = Event.create(id="1", source="/s", type="t", data=b"{}")
    owed = Message(Delivery("shop/trg/one", (event,)), "w")
    options = {"max_age": 1.0, "duplicate_window": 1.0}
    async with NatsServer(tmp_path) as server:
        bus = ResolvedBus(driver="jetstream", options={"url": server.url, **options})
        async with JetStreamBus(bus, clock=SystemClock()) as opened:
            await opened.ensure([TOPIC, INBOX, DEAD], [Consumer(INBOX, (INBOX,), "earliest")])
            await opened.publish(INBOX, owed)
            await opened.publish(DEAD, owed)
            await opened.publish(TOPIC, Message(event, "w"))  # the youngest of the three

            async def left() -> set[str]:
                return {one.topic for one in (await opened.inspect()).topics if one.messages}

            async def gone() -> bool:
                return TOPIC not in await left()

            await until(gone, seconds=15, what="maxAge takes the event")
            assert await left() == {INBOX, DEAD}
