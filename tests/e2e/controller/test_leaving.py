"""What is deleted leaves nothing on the bus but what it shall keep, and no bus can hold it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ofevents.api.cron import CronSpec
from ofevents.api.resolved import ResolvedBus
from ofevents.bus import topics
from ofevents.bus.open import open_bus
from ofevents.clock import SystemClock
from ofevents.cluster import kinds
from ofevents.controller import buses, leaving
from ofevents.event import Event
from ofevents.ports import SourceIdentity
from ofevents_adapters.cron import CronSource
from tests.e2e.controller.rig import Cluster, cron, resource, trigger
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="session")]


async def groups(bus: NatsServer) -> set[str]:
    """The consumer groups on the bus."""
    resolved = ResolvedBus(driver="jetstream", options={"url": bus.url})
    async with open_bus(resolved, clock=SystemClock()) as one:
        return {each.group for each in (await one.inspect()).consumers}


async def gone(cluster: Cluster, kind: kinds.Kind, name: str) -> None:
    async def absent() -> bool:
        return await cluster.get(kind, name) is None

    await until(absent, seconds=60, what=f"{kind.kind} {name} is gone")


async def told(cluster: Cluster, name: str, reason: str) -> list[Any]:
    return [
        each
        for each in await cluster.all(kinds.EVENT)
        if each["regarding"]["name"] == name and each["reason"] == reason
    ]


async def comes(cluster: Cluster, name: str, reason: str) -> Any:
    """Wait for the one Event of it, which is written after its object is gone."""

    async def there() -> bool:
        return bool(await told(cluster, name, reason))

    await until(there, seconds=60, what=f"an Event of {name} says {reason}")
    (event,) = await told(cluster, name, reason)
    return event


async def test_a_deleted_trigger_leaves_nothing_on_the_bus(
    cluster: Cluster, bus: NatsServer
) -> None:
    async with cluster.controller():
        await cluster.apply(trigger("goes"), trigger("stays", deletionPolicy="Retain"))
        await cluster.apply(cron("implicit", sink={"uri": "http://log.shop.svc/"}))
        (worker,) = await cluster.have("goes", 1)
        await cluster.have("stays", 1)
        await cluster.have("implicit", 2)
        for kind, name in (
            (kinds.TRIGGER, "goes"), (kinds.TRIGGER, "stays"), (kinds.EVENT_SOURCE, "implicit")
        ):  # fmt: skip
            await cluster.becomes(kind, name, "Ready", "Starting")  # the bus answers
        owned = {name: topics.trigger_group("shop", name) for name in ("goes", "stays")}
        implicit = topics.trigger_group("shop", "source/implicit")
        assert {*owned.values(), implicit} <= await groups(bus)

        pod = await cluster.pod(worker, {"podIP": "127.0.0.1"})
        await cluster.delete(kinds.TRIGGER, "goes")

        async def ending() -> bool:
            return await cluster.deployments("goes") == []

        await until(ending, seconds=60, what="its worker is asked to end")
        assert owned["goes"] in await groups(bus)  # Not under a worker that runs.
        path = kinds.POD.path("shop", pod) + "?gracePeriodSeconds=0"
        await cluster.api.call("DELETE", path)
        await gone(cluster, kinds.TRIGGER, "goes")

        await cluster.delete(kinds.TRIGGER, "stays")
        await gone(cluster, kinds.TRIGGER, "stays")
        await cluster.delete(kinds.EVENT_SOURCE, "implicit")
        await gone(cluster, kinds.EVENT_SOURCE, "implicit")
        left = await groups(bus)
        assert owned["goes"] not in left and implicit not in left
        assert owned["stays"] in left


async def test_a_deleted_source_leaves_no_position(cluster: Cluster, bus: NatsServer) -> None:
    resolved = ResolvedBus(driver="jetstream", options={"url": bus.url})
    prefixes = [f"{kind}/shop/{{}}/" for kind in ("cron", "file", "kubernetes")]
    # Entries of theirs: the position of any other is swept away in two seconds.
    watched = {"apiVersion": "v1", "kind": "Pod"}
    entries = {"file": {"tick": {"path": "/in"}}, "kubernetes": {"tick": watched}}
    async with open_bus(resolved, clock=SystemClock()) as one, cluster.controller():
        await cluster.apply(cron("forgets", **entries), cron("forgets-not", **entries))
        for name in ("forgets", "forgets-not"):
            await cluster.have(name, 3)
            for prefix in prefixes[1:]:
                await one.store.put(f"{prefix.format(name)}tick/position", b"{}")
            # As its worker does.
            identity = SourceIdentity("shop", name, "cron", "tick")
            spec = CronSpec(schedule="@daily")
            source = CronSource(spec, identity, clock=SystemClock())
            begun = asyncio.Event()
            running = asyncio.create_task(
                source.run(_nothing, store=one.store, started=lambda _, begun=begun: begun.set())  # type: ignore[misc]
            )
            await asyncio.wait_for(begun.wait(), 60)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        async def kept(name: str) -> list[str]:
            return [key for each in prefixes async for key, _ in one.store.list(each.format(name))]

        assert len(await kept("forgets")) == len(await kept("forgets-not")) == 3
        await cluster.delete(kinds.EVENT_SOURCE, "forgets")
        await gone(cluster, kinds.EVENT_SOURCE, "forgets")
        assert await kept("forgets") == []
        assert len(await kept("forgets-not")) == 3


async def _nothing(*_: Event) -> None:
    """Emits to nobody."""


async def test_a_trigger_whose_bus_is_gone_can_be_deleted(
    cluster: Cluster, bus: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "GIVE_UP", 3.0)
    monkeypatch.setattr(buses, "PATIENCE", 0.5)
    away = resource("EventBus", "away", {"jetstream": {"url": "nats://127.0.0.1:1"}})
    async with cluster.controller():
        await cluster.apply(away, trigger("orphan", eventBus="away"))
        await cluster.have("orphan", 1)
        await cluster.becomes(kinds.TRIGGER, "orphan", "Stalled", "Disconnected")
        await cluster.delete(kinds.TRIGGER, "orphan")
        await gone(cluster, kinds.TRIGGER, "orphan")
        event = await comes(cluster, "orphan", "LeftOnBus")
        assert "did not answer" in event["note"]

        # Where it was is known although its EventBus is gone.
        await cluster.apply(trigger("alone", eventBus="away"))
        await cluster.becomes(kinds.TRIGGER, "alone", "Stalled", "Disconnected")
    await cluster.delete(kinds.EVENT_BUS, "away")
    await cluster.delete(kinds.TRIGGER, "alone")
    async with cluster.controller():
        await gone(cluster, kinds.TRIGGER, "alone")
        event = await comes(cluster, "alone", "LeftOnBus")
        assert "EventBus shop/away" in event["note"] and "did not answer" in event["note"]
