"""What only a node can find wrong: the status says it, and is right again by itself."""

from __future__ import annotations

import uuid

import pytest

from tests.cluster.manifests import EVENTS, bus
from tests.cluster.shop import Nats, Shop
from tests.servers.kube_ofevents import IMAGE, install, ofevents

pytestmark = [pytest.mark.cluster, pytest.mark.server("kubernetes"), pytest.mark.timeout(400)]
MISSING = "localhost/ofevents:missing"
NOT_PULLED = ("ErrImagePull", "ImagePullBackOff")


def clock(name: str, template: str = "{}") -> str:
    return f"""
apiVersion: {EVENTS}
kind: EventSource
metadata: {{name: {name}}}
spec:
  eventBus: default
  template: {template}
  cron:
    tick: {{schedule: "@every 1h"}}
---"""


async def test_what_keeps_a_pod_from_running_is_in_the_status(shop: Shop, nats: Nats) -> None:
    await shop.apply(
        bus(nats.url)
        + clock("account", "{serviceAccountName: nobody}")
        + clock("size", '{resources: {requests: {cpu: "1000"}}}')
        + clock("memory", "{resources: {limits: {memory: 24Mi}}}")
    )
    account = await shop.becomes("eventsource", "account", "Stalled", reason="FailedCreate")
    assert '"nobody" not found' in account["message"]
    size = await shop.becomes("eventsource", "size", "Stalled", reason="Unschedulable")
    assert "Insufficient cpu" in size["message"]
    memory = await shop.becomes("eventsource", "memory", "Stalled", reason="CrashLoopBackOff")
    assert "OOMKilled" in memory["message"], memory
    await shop.apply(clock("account") + clock("size") + clock("memory"))
    await shop.ready("eventsource/account", "eventsource/size", "eventsource/memory")


async def test_an_image_that_the_node_cannot_have_is_in_the_status(shop: Shop, nats: Nats) -> None:
    await shop.node.remove_image(IMAGE.name)
    try:
        await shop.apply(bus(nats.url) + clock("clock"))
        told = await shop.becomes("eventsource", "clock", "Stalled", reason=NOT_PULLED)
        assert IMAGE.name in told["message"], told
        ready = await shop.condition("eventsource", "clock")
        assert ready["status"] == "False" and ready["reason"] in NOT_PULLED
    finally:
        await shop.node.load_image(IMAGE.find())
    await shop.becomes("eventsource", "clock", reason="Running")
    await shop.becomes("eventsource", "clock", "Stalled", "False")


async def test_a_wrong_image_of_the_installation_is_told_and_the_old_one_works_on(
    shop: Shop, nats: Nats
) -> None:
    arguments = ("--replicas", "1", "--timeout")
    try:
        with pytest.raises(RuntimeError) as failed:
            await install(shop.node, "--image", MISSING, *arguments, "20s")
        assert any(each in str(failed.value) for each in NOT_PULLED), failed.value
        with pytest.raises(RuntimeError) as told:
            await ofevents(shop.node, "status")
        assert "0 of 1 replicas are available: ofevents-controller-" in str(told.value), told.value
        assert any(each in str(told.value) for each in NOT_PULLED), told.value
        name = f"clock-{uuid.uuid4().hex[:4]}"
        await shop.apply(bus(nats.url) + clock(name))
        await shop.ready(f"eventsource/{name}")
    finally:
        await install(shop.node, *arguments, "90s")
