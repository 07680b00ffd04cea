"""The Subscriber suite on every subscriber of ours, against real counterparts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from ofevents.api.resolved import HttpTarget, ResolvedDelivery
from ofevents.clock import SystemClock
from ofevents.conformance.check_subscriber import CHECKS, SUBSCRIBER, Check, Rig
from ofevents.event import Event
from ofevents.ports import Delivery
from ofevents.subscriber import open_subscriber
from tests.conformance.rigs import dapr_sinks, sinks, subscribers
from tests.servers import until
from tests.servers.sink import SinkProcess, sink_process

RIGS = [
    subscribers.http_binary,
    subscribers.http_structured,
    subscribers.topic_memory,
    subscribers.topic_jetstream,
    *sinks.RIGS,
    *dapr_sinks.RIGS,
]


@pytest.fixture(scope="module", autouse=True)
def shared_servers() -> Iterator[None]:
    """What the rigs share is closed after the last test."""
    yield
    asyncio.run(sinks.close())


@pytest.mark.timeout(240)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("rig", RIGS, ids=lambda rig: rig.__name__)
async def test_subscriber(
    rig: Callable[[], AbstractAsyncContextManager[Rig]], check: Check
) -> None:
    async with rig() as made:
        await check(made)


@pytest.mark.timeout(120)
async def test_a_function_in_another_process() -> None:
    ids = [f"event {n}" for n in range(500)]
    async with (
        sink_process() as sink,
        open_subscriber(
            HttpTarget(uri=f"{sink.url}/function"),
            bus=None,
            subscriber_id=SUBSCRIBER,
            clock=SystemClock(),
            options=ResolvedDelivery(format="structured"),
        ) as subscriber,
        asyncio.TaskGroup() as group,
    ):
        for id in ids:
            event = Event.create(id=id, source="/check", type="check", data=b"{}")
            group.create_task(subscriber.deliver(Delivery(SUBSCRIBER, (event,))))
        group.create_task(_count(sink, ids))


async def _count(sink: SinkProcess, ids: list[str]) -> None:
    async def all_arrived() -> bool:
        return len(await sink.ids()) >= len(ids)

    await until(all_arrived, seconds=60, what=f"{len(ids)} events arrive")
    assert sorted(await sink.ids()) == sorted(ids), "each arrives once"
