"""run: what it builds, how it waits, reconnects, suspends and stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from ofevents.api.cron import CronSpec
from ofevents.api.resolved import HttpTarget, ResolvedBus
from ofevents.bus.memory import MemoryBus
from ofevents.clock import ManualClock, SystemClock
from ofevents.errors import ConfigError, Disconnected
from ofevents.event import from_http
from ofevents.health import Health
from ofevents.ports import Emit, Store
from ofevents.source import run
from ofevents.source.worker import FIRST_PAUSE, HEALED, LONGEST_PAUSE
from ofevents_adapters.webhook import WebhookSource
from tests.servers import free_port, until
from tests.servers.sink import Answer, Sink
from tests.unit.adapters.webhooks import call
from tests.unit.source.rig import (
    DEAD,
    REPLYING,
    TOPIC,
    Scripted,
    event,
    memory,
    on,
    spec,
    working,
)

Started = Callable[[str], None]


async def idle(emit: Emit, store: Store | None, started: Started) -> None:
    started("here")
    await asyncio.Event().wait()


def other(name: str) -> MemoryBus:
    return MemoryBus(memory(name=name), clock=SystemClock())


async def test_an_adapter_gets_its_model_its_identity_and_a_store(
    adapter: Callable[[Scripted], Scripted],
) -> None:
    stores: list[Store | None] = []

    async def play(emit: Emit, store: Store | None, started: Started) -> None:
        stores.append(store)
        started("somewhere")
        await emit(event("1"))
        await asyncio.Event().wait()

    scripted = adapter(Scripted(play))
    async with working(spec(memory(name="w1"))) as running, other("w1") as bus:
        await running.becomes("ready")
        assert running.snapshot.address == "somewhere"
        assert await on(bus) == [event("1")]
    ((own, identity),) = scripted.built
    assert isinstance(own, CronSpec) and own.schedule == "@every 1s"
    assert identity.writer == "default/cron/shop/orders"
    assert stores[0] is not None
    assert running.snapshot.state == "stopped"


async def test_a_bus_that_is_away_at_the_start_is_waited_for(
    adapter: Callable[[Scripted], Scripted],
) -> None:
    scripted = adapter(Scripted(idle))
    async with other("w2") as bus:
        bus.broker.fail("nothing listens at nats://x:4222")
        async with working(spec(memory(name="w2"))) as running:
            shown = await running.becomes("stalled", "Disconnected")
            assert shown.message == "nothing listens at nats://x:4222"
            assert shown.waiting and scripted.runs == 0
            bus.broker.heal()
            await running.becomes("ready")
    assert scripted.runs == 1


async def test_a_bus_that_cannot_be_reached_is_named_and_stopping_does_not_wait_for_it(
    adapter: Callable[[Scripted], Scripted],
) -> None:
    scripted = adapter(Scripted(idle))
    url = f"nats://127.0.0.1:{free_port()}"
    jetstream = ResolvedBus(driver="jetstream", options={"url": url})
    async with working(spec(jetstream)) as running:
        shown = await running.becomes("stalled", "Disconnected")
        assert url in shown.message or url.removeprefix("nats://") in shown.message
        assert shown.waiting == ("EventBus default",)
        assert running.health.live(0.001)
    assert running.snapshot.state == "stopped" and scripted.runs == 0


async def test_a_bus_that_goes_away_is_shown_and_the_adapter_goes_on(
    adapter: Callable[[Scripted], Scripted],
) -> None:
    scripted = adapter(Scripted(idle))
    clock = ManualClock()
    async with working(spec(memory(name="w3")), clock) as running, other("w3") as bus:
        await running.becomes("ready")
        bus.broker.fail("gone")
        await clock.advance(2)
        assert running.snapshot.reason == "Disconnected"
        bus.broker.heal()
        await clock.advance(2)
        assert running.snapshot.state == "ready"
    assert scripted.runs == 1


async def test_an_adapter_that_loses_its_server_is_run_again_with_growing_pauses(
    adapter: Callable[[Scripted], Scripted],
) -> None:
    clock, times = ManualClock(), []

    async def play(emit: Emit, store: Store | None, started: Started) -> None:
        times.append(clock.monotonic())
        if len(times) <= 8:
            raise Disconnected("no broker answers at kafka:9092")
        await idle(emit, store, started)

    adapter(Scripted(play))
    async with working(spec(memory(name="w4")), clock) as running:
        await clock.advance(0.1)
        shown = running.snapshot
        assert (shown.state, shown.reason) == ("stalled", "Disconnected")
        assert shown.message == "no broker answers at kafka:9092"
        assert shown.waiting == ("source of orders",)
        await clock.advance(200)
        assert running.snapshot.state == "ready"
    pauses = [after - before for before, after in pairwise(times)]
    assert all(0.25 <= one <= 30 for one in pauses)
    assert pauses[-1] > 10 > pauses[0] * 10


@pytest.mark.parametrize(
    ("lives", "longest"),
    [(HEALED, FIRST_PAUSE), (HEALED - 0.1, LONGEST_PAUSE)],
    ids=["a broker that restarts every now and then", "one that never gets on its feet"],
)
async def test_a_loss_after_a_while_of_work_is_a_new_one(
    adapter: Callable[[Scripted], Scripted], lives: float, longest: float
) -> None:
    clock, pauses, lost = ManualClock(), [], 0.0

    async def play(emit: Emit, store: Store | None, started: Started) -> None:
        nonlocal lost
        if lost:
            pauses.append(clock.monotonic() - lost)
        started("here")
        await clock.sleep(lives)
        lost = clock.monotonic()
        raise Disconnected("the broker restarts")

    adapter(Scripted(play))
    async with working(spec(memory(name="w4b")), clock):
        await clock.advance(0.1)
        while len(pauses) < 9:
            await clock.advance(LONGEST_PAUSE + lives)
    assert longest / 2 <= max(pauses) <= longest


async def test_an_adapter_that_returns_is_run_again(
    adapter: Callable[[Scripted], Scripted],
) -> None:
    async def play(emit: Emit, store: Store | None, started: Started) -> None:
        return

    scripted = adapter(Scripted(play))
    clock = ManualClock()
    async with working(spec(memory(name="w5")), clock) as running:
        await clock.advance(5)
        assert scripted.runs > 1
        assert "ended by itself" in running.snapshot.message


async def test_an_idle_source_is_live_and_a_stuck_one_is_not(
    adapter: Callable[[Scripted], Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, freed = asyncio.Event(), asyncio.Event()

    async def play(emit: Emit, store: Store | None, started: Started) -> None:
        started("here")
        await stuck.wait()
        await emit(event("1"))

    async def hang(*_: object) -> None:
        await freed.wait()

    monkeypatch.setattr(MemoryBus, "publish", hang)
    adapter(Scripted(play))
    clock = ManualClock()
    async with working(spec(memory(name="w6")), clock) as running:
        await clock.advance(1000)
        assert running.health.live(60)
        stuck.set()
        await clock.advance(100)
        assert not running.health.live(60)
        freed.set()


async def test_a_cancelled_worker_cancels_its_adapter_and_waits_for_it(
    adapter: Callable[[Scripted], Scripted],
) -> None:
    steps: list[str] = []

    async def play(emit: Emit, store: Store | None, started: Started) -> None:
        try:
            await idle(emit, store, started)
        finally:
            await emit(event("last"))
            steps.append("ended")

    adapter(Scripted(play))
    health, stop = Health(SystemClock()), asyncio.Event()
    resolved = spec(memory(name="w10"))
    task = asyncio.ensure_future(run(resolved, health=health, clock=SystemClock(), stop=stop))
    await until(lambda: bool(health.snapshots()) and health.ready(), seconds=5, what="ready")
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled() and steps == ["ended"]
    async with other("w10") as bus:
        assert [one.id for one in await on(bus)] == ["last"]


async def test_suspended_it_reads_nothing(adapter: Callable[[Scripted], Scripted]) -> None:
    scripted = adapter(Scripted(idle))
    async with working(spec(memory(name="w7"), suspend=True)) as running:
        await running.becomes("suspended")
    assert scripted.runs == 0


async def test_what_the_adapter_finds_wrong_ends_the_worker(
    adapter: Callable[[Scripted], Scripted],
) -> None:
    async def play(emit: Emit, store: Store | None, started: Started) -> None:
        raise ConfigError("port 80 is in use")

    adapter(Scripted(play))
    with pytest.raises(ConfigError, match="port 80 is in use"):
        await run(
            spec(memory(name="w8")),
            health=Health(SystemClock()),
            clock=SystemClock(),
            stop=asyncio.Event(),
        )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"source": "kafak"}, "did you mean kafka"),
        ({"spec": {"schedule": "61 * * * *"}}, r"spec\.cron\.orders\.schedule: .*minute"),
        (
            {"spec": {"every": "5s"}},
            r"spec\.cron\.orders\.schedule: schedule: Field required; every: Extra",
        ),
        ({"filter": "event.x."}, "1:9"),
    ],
)
async def test_a_wrong_spec_is_a_config_error(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        await run(
            spec(memory(name="w9"), **fields),
            health=Health(SystemClock()),
            clock=SystemClock(),
            stop=asyncio.Event(),
        )


async def test_without_a_bus_the_adapter_gets_no_store(
    adapter: Callable[[Scripted], Scripted],
) -> None:
    replies: list[Any] = []

    async def play(emit: Emit, store: Store | None, started: Started) -> None:
        assert store is None
        started("here")
        replies.append(await emit(event("1")))
        await asyncio.Event().wait()

    adapter(Scripted(play, features=REPLYING))
    async with (
        Sink(answer=Answer(200, body=b"hello")) as sink,
        working(spec(target=HttpTarget(uri=sink.url))),
    ):
        await until(lambda: bool(replies), seconds=5, what="a reply")
    assert replies[0].body == b"hello"


# -- with the real adapters ---------------------------------------------------


def webhook(bus: Any = None, **fields: Any) -> Any:
    port = {"port": 0, "path": "/orders"}
    own = {**port, **fields.pop("spec", {})}
    return spec(bus, source="webhook", spec=own, **fields)


async def test_a_webhook_s_request_is_on_the_bus_when_it_is_answered() -> None:
    async with working(webhook(memory(name="h1"))) as running, other("h1") as bus:
        url = (await running.becomes("ready")).address
        answer = await call(url, b'{"n": 1.0}', ("content-type", "application/json"))
        (stored,) = await on(bus)
    assert (answer.status, answer.json) == (202, {"id": stored.id})
    assert stored.data == b'{"n": 1.0}'


async def test_a_webhook_answers_503_while_the_bus_is_away_and_works_after() -> None:
    async with working(webhook(memory(name="h2"), spec={"timeout": "300ms"})) as running:
        url = (await running.becomes("ready")).address
        async with other("h2") as bus:
            bus.broker.fail("the server is gone")
            answer = await call(url, b"{}")
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            bus.broker.heal()
            assert (await call(url, b"{}")).status == 202


async def test_a_suspended_webhook_answers_503() -> None:
    port = free_port()
    suspended = webhook(memory(name="h3"), spec={"port": port}, suspend=True)
    async with working(suspended) as running:
        await running.becomes("suspended")
        answer = await call(f"http://127.0.0.1:{port}/orders", b"{}")
    assert (answer.status, answer.headers["retry-after"]) == (503, "60")
    assert "suspended" in answer.json["error"]


async def test_a_suspended_webhook_is_suspended_once_it_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its Pod is ready from then on: nobody who is sent there is refused a connection."""
    port, gate, began, listen = free_port(), asyncio.Event(), asyncio.Event(), WebhookSource.run

    async def late(self: WebhookSource, emit: Emit, **given: Any) -> None:
        began.set()
        await gate.wait()
        await listen(self, emit, **given)

    monkeypatch.setattr(WebhookSource, "run", late)
    async with working(webhook(memory(name="h9"), spec={"port": port}, suspend=True)) as running:
        await began.wait()
        assert running.snapshot.state != "suspended"
        gate.set()
        await running.becomes("suspended")
        assert (await call(f"http://127.0.0.1:{port}/orders", b"{}")).status == 503


async def test_a_webhook_s_bad_payloads_are_dead_letters_that_were_accepted() -> None:
    fields = {"filter": "event.data.n > 0"}
    async with working(webhook(memory(name="h4"), **fields)) as running, other("h4") as bus:
        url = (await running.becomes("ready")).address
        assert (await call(url, b"not json", ("content-type", "application/json"))).status == 202
        assert await on(bus) == []
        (letter,) = await on(bus, DEAD)
    assert letter.events[0].data == b"not json"


async def test_an_event_over_the_bus_s_limit_is_413() -> None:
    async with working(webhook(memory(name="h5", max_size=1000))) as running, other("h5") as bus:
        url = (await running.becomes("ready")).address
        assert (await call(url, b"x" * 5000)).status == 413
        assert await on(bus) == [] and await on(bus, DEAD) == []


async def test_a_port_in_use_ends_the_worker_with_a_sentence() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ConfigError, match=f"webhook orders of .* cannot listen on .*:{port}"):
        async with working(webhook(memory(name="h6"), spec={"port": port})) as running:
            await running.becomes("ready")
    server.close()


async def test_a_function_answers_a_webhook_s_caller() -> None:
    async with Sink(answer=Answer(201, (("x-made", "7"),), b"made")) as sink:
        async with working(webhook(target=HttpTarget(uri=sink.url))) as running:
            url = (await running.becomes("ready")).address
            answer = await call(url, b'{"n":1}', ("content-type", "application/json"))
        (event,) = from_http(sink.seen[0].headers, sink.seen[0].body) or []
    assert (answer.status, answer.body, answer.headers["x-made"]) == (201, b"made", "7")
    assert event.data == b'{"n":1}'


async def test_stopping_a_webhook_answers_what_is_in_hand() -> None:
    async with Sink(answer=Answer(200, delay=0.4)) as sink:
        async with working(webhook(target=HttpTarget(uri=sink.url))) as running:
            url = (await running.becomes("ready")).address
            waiting = asyncio.ensure_future(call(url, b"{}"))
            await until(lambda: bool(sink.seen), seconds=5, what="the call")
        assert (await waiting).status == 200


async def test_cron_ticks_are_on_the_bus() -> None:
    clock = ManualClock(1_770_000_000.0)
    async with working(spec(memory(name="c1")), clock) as running:
        await clock.advance(5)
        assert running.snapshot.state == "ready"
        async with other("c1") as bus:
            ids = [one.id for one in await on(bus, TOPIC)]
    assert len(ids) == len(set(ids)) == 5
