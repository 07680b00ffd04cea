"""An EventSource's implicit Trigger and a Trigger of the same name are two."""

from __future__ import annotations

from ofevents.api.resolved import HttpTarget, ResolvedSubscriber, ResolvedTrigger
from ofevents.clock import SystemClock
from ofevents.errors import Rejected
from ofevents.health import Health
from ofevents.ports import Delivery, Reply
from ofevents.trigger import remove
from tests.servers import until
from tests.unit.trigger.rig import (
    A,
    B,
    Functions,
    event,
    inputs,
    metric,
    running,
    subscriber,
    trigger,
)

JOINED = "a && b"


def explicit() -> ResolvedTrigger:
    return trigger(subscriber("sink", condition=JOINED), inputs=inputs(a=None, b=None))


def implicit() -> ResolvedTrigger:
    sink = ResolvedSubscriber(
        name="sink",
        condition=JOINED,
        target=HttpTarget(uri="http://sink"),
        inbox="inbox.shop.source=2Ftrg.sink",
    )
    return trigger(
        sink,
        inputs=inputs(a=None, b=None),
        implicit=True,
        group="trigger.shop.source=2Ftrg",
        dead_topic="dead.shop.source=2Ftrg",
    )


async def test_each_has_its_own_health_joins_identity_and_metrics(functions: Functions) -> None:
    count = "ofevents_delivered_total"
    names = [{"namespace": "shop", "name": n, "subscriber": "sink"} for n in ("trg", "source/trg")]
    before = [metric(count, **one) for one in names]
    health = Health(SystemClock())
    async with running(explicit(), health=health) as one, running(implicit(), health=health):
        await until(lambda: len(health.snapshots()) == 2, seconds=5, what="both")
        assert [each.resource for each in health.snapshots()] == ["shop/source/trg", "shop/trg"]
        await one.publish(A, event("1"))
        await one.idle()
        await one.publish(B, event("2"))
        await one.idle()
    # A join that they shared would be met once, not once for each.
    given = {delivery.subscriber for delivery in functions["sink"].given}
    assert given == {"shop/trg/sink", "shop/source/trg/sink"}
    assert [metric(count, **each) for each in names] == [value + 1 for value in before]


async def test_removing_one_leaves_the_others_joins(functions: Functions) -> None:
    async def refuse(delivery: Delivery) -> Reply | None:
        raise Rejected("422", status=422)

    functions["sink"].answer = refuse
    async with running(explicit()) as one, running(implicit()) as other:
        await one.publish(A, event("1"))
        await one.idle()
        await one.end()
        await remove(explicit(), one.bus)
        assert [key async for key, _ in one.bus.store.list("join/")] != []
        await one.publish(B, event("2"))
        await other.idle()
        (letter,) = await other.messages("dead.shop.source=2Ftrg")
        assert isinstance(letter.body, Delivery)
        assert letter.body.subscriber == "shop/source/trg/sink"
