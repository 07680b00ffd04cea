"""What an edit leaves on the bus: removed subscribers, a removed sink, also while nobody looked."""

from __future__ import annotations

import pytest

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import topics
from ofevents.bus.open import open_bus
from ofevents.clock import SystemClock
from ofevents.cluster import kinds
from ofevents.event import Event
from ofevents.ports import Delivery, Message
from tests.e2e.controller.rig import Cluster, cron, trigger
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(60), pytest.mark.asyncio(loop_scope="session")]

LOG = {"name": "log", "sink": {"uri": "http://log.shop.svc/"}}
BILL = {"name": "bill", "sink": {"uri": "http://bill.shop.svc/"}}


async def test_what_removed_subscribers_are_owed(cluster: Cluster, bus: NatsServer) -> None:
    inbox = topics.inbox("shop", "edited", "bill")
    implicit = topics.trigger_group("shop", "source/was-sink")
    resolved = ResolvedBus(driver="jetstream", options={"url": bus.url})
    async with open_bus(resolved, clock=SystemClock()) as one:

        async def groups() -> set[str]:
            return {each.group for each in (await one.inspect()).consumers}

        async def dead() -> int:
            report = await one.inspect()
            topic = topics.dead("shop", "edited")
            return sum(each.messages for each in report.topics if each.topic == topic)

        async with cluster.controller():
            await cluster.apply(trigger("edited", subscribers=[LOG, BILL]))
            await cluster.apply(cron("was-sink", sink={"uri": "http://log.shop.svc/"}))
            await cluster.have("edited", 1)
            await cluster.have("was-sink", 2)
            assert {topics.inbox_group(inbox), implicit} <= await groups()
        # While no controller looks.
        event = Event.create(id="1", source="/shop", type="order", data="{}")
        await one.publish(inbox, Message(Delivery("shop/edited/bill", (event,)), "test"))
        await cluster.apply(trigger("edited", subscribers=[LOG]), cron("was-sink"))
        async with cluster.controller():

            async def swept() -> bool:
                left = await groups()
                return topics.inbox_group(inbox) not in left and implicit not in left

            await until(swept, seconds=30, what="the bus is swept")
            assert await dead() == 1
            await cluster.becomes(kinds.TRIGGER, "edited", "Stalled", "None")
