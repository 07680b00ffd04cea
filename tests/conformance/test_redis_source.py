"""What only Redis has: groups, entries of dead workers, giving back, channels; on a real server."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from ofevents.conformance.source_rig import Emitted, within, working
from ofevents.errors import ConfigError, Disconnected, PermanentError, TemporaryError
from ofevents.event import Event
from ofevents.ports import Reply
from ofevents.telemetry import LAG
from ofevents_adapters import redis_channel, redis_stream
from tests.conformance.rigs.redis import GROUP, STREAM, RedisRig, open_channel, open_stream
from tests.servers import until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def stream() -> AsyncIterator[RedisRig]:
    async with open_stream() as rig:
        yield rig


@pytest.fixture
async def channel() -> AsyncIterator[RedisRig]:
    async with open_channel() as rig:
        yield rig


async def once(rig: RedisRig) -> None:
    """One life of a worker, which must end with an error."""
    await rig.make().run(Emitted(rig), store=rig.store, started=lambda address: None)


async def pending(rig: RedisRig) -> int:
    async with rig.client() as client:
        return int((await client.xpending(STREAM, GROUP))["pending"])


# -- the stream and its group ---------------------------------------------------


async def test_ids_are_the_entries(stream: RedisRig) -> None:
    emit = Emitted(stream)
    async with stream.client() as client:
        await client.xadd(STREAM, {"number": "1", "sku": "A-1"}, id="1769860800123-7")
    async with working(stream, emit):
        await emit.settles(["1"])
    [event] = emit.settled
    assert event.id == "orders/1769860800123-7"
    assert event.attributes["time"] == "2026-01-31T12:00:00.123Z"
    assert event.value == {"number": "1", "sku": "A-1"}


async def test_the_initial_id_is_of_a_new_group_only(stream: RedisRig) -> None:
    stream.fields["initialId"] = "$"
    before = await stream.feed(5)
    emit = Emitted(stream)
    async with working(stream, emit):
        pass  # live, and ended before any entry came
    meanwhile = await stream.feed(5)
    async with working(stream, emit):
        await emit.settles([*meanwhile, *await stream.feed(2)])
    assert not set(before) & set(emit.keys(emit.offered))


@pytest.mark.parametrize("what", ["group", "stream"])
async def test_what_is_deleted_is_made_again(stream: RedisRig, what: str) -> None:
    emit = Emitted(stream)
    async with working(stream, emit) as worker:
        await emit.settles(await stream.feed(3))
        async with stream.client() as client:
            if what == "group":
                await client.xgroup_destroy(STREAM, GROUP)
            else:
                await client.delete(STREAM)
        await within(lambda: bool(worker.lost), "Disconnected was raised")
        assert f"group {GROUP} or stream 'orders' was deleted" in str(worker.lost[0])
        await emit.settles(await stream.feed(3))
    assert all(len(ids) == 1 for ids in emit.ids().values()), "the same ids, where all came again"


async def test_another_kind_of_key_is_the_users_to_mend(stream: RedisRig) -> None:
    async with stream.client() as client:
        await client.set(STREAM, "text")
    with pytest.raises(ConfigError, match="'orders' is no stream") as caught:
        await once(stream)
    assert caught.value.path == "spec.redis.orders.stream"


async def test_the_lag_is_a_metric(stream: RedisRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_stream, "LOOK", 0.05)
    monkeypatch.setattr(redis_stream, "IN_FLIGHT", 10)
    emit = Emitted(stream)
    emit.gate.clear()
    lag = LAG.labels("default", "shop", GROUP)._value
    async with working(stream, emit):
        await stream.feed(40)
        await within(lambda: lag.get() == 30, "the lag is 30: ten are in hand")
        emit.gate.set()
        await within(lambda: lag.get() == 0, "the lag is 0")


# -- acknowledging ----------------------------------------------------------------


async def test_what_is_settled_is_acknowledged_and_nothing_else(stream: RedisRig) -> None:
    emit = Emitted(stream)
    async with working(stream, emit):
        await emit.settles(await stream.feed(30))
        await until(lambda: _is(pending(stream), 0), seconds=60, what="all are acknowledged")
        emit.gate.clear()
        await stream.feed(5)
        await within(lambda: emit.inside > 0, "an entry came to emit")
        await until(lambda: _is(pending(stream), 5), seconds=60, what="five are in hand")
    assert await pending(stream) == 5


async def _is(found: Any, wanted: int) -> bool:
    return bool(await found == wanted)


async def test_what_emit_refuses_comes_again_after_its_delay(stream: RedisRig) -> None:
    emit = Emitted(stream)
    emit.failures = [TemporaryError("the bus is full", delay=1.0)]
    keys = await stream.feed(3)
    began = time.monotonic()  # once it is live, emit may have been called
    async with working(stream, emit):
        await within(lambda: not emit.failures, "emit was called")
        await emit.settles(keys)
        assert 1.0 <= time.monotonic() - began < 30, "not as late as what a dead worker had"


async def test_a_stopped_worker_gives_back_at_once(stream: RedisRig) -> None:
    stream.fields["processingTimeout"] = "10m"
    one, two = Emitted(stream), Emitted(stream)
    one.gate.clear()
    async with working(stream, one):
        keys = await stream.feed(20)
        await within(lambda: one.inside > 0, "an entry came to emit")
    began = time.monotonic()
    async with working(stream, two):
        await two.settles(keys)
        assert time.monotonic() - began < 30
        await until(lambda: _is(pending(stream), 0), seconds=60, what="all are acknowledged")


async def test_what_is_in_hand_longer_than_the_timeout_does_not_come_again(
    stream: RedisRig,
) -> None:
    # Touched each third of it. Both workers stand still with a busy machine, and the other
    # one may wake first.
    stream.fields |= {"processingTimeout": "8s", "redeliverInterval": "100ms"}
    one, two = Emitted(stream), Emitted(stream)
    one.gate.clear()
    async with working(stream, one):
        keys = await stream.feed(20)
        await within(lambda: one.inside > 0, "an entry came to emit")
        await until(lambda: _is(pending(stream), 20), seconds=60, what="all are in hand")
        async with working(stream, two):
            await asyncio.sleep(10.0)  # longer than the timeout
            one.gate.set()
            await one.settles(keys)
    assert not two.offered and len(one.offered) == 20


WORKER = """
import asyncio, sys
from ofevents.api.messaging import RedisSpec
from ofevents.clock import SystemClock
from ofevents.ports import SourceIdentity
from ofevents_adapters.redis import RedisSource

async def emit(*events):
    for event in events:
        print(event.id, flush=True)
    await asyncio.Event().wait()

spec = RedisSpec(redis_host=sys.argv[1])
identity = SourceIdentity("default", "shop", "redis", "orders")
source = RedisSource(spec, identity, clock=SystemClock())
asyncio.run(source.run(emit, store=object(), started=lambda address: None))
"""


async def test_entries_of_a_worker_that_was_killed_are_taken_over(stream: RedisRig) -> None:
    keys = await stream.feed(20)
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, stream.server.address, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert worker.stdout is not None
        async with asyncio.timeout(60):
            await worker.stdout.readline()
    finally:
        worker.kill()
        await worker.wait()
    assert await pending(stream) > 0, "it died with entries in hand"
    stream.fields |= {"processingTimeout": "1s", "redeliverInterval": "100ms"}
    emit = Emitted(stream)
    async with working(stream, emit):
        await emit.settles(keys)
        await until(lambda: _is(pending(stream), 0), seconds=60, what="all are acknowledged")


async def test_an_event_that_nothing_takes_does_not_hold_up_the_others(stream: RedisRig) -> None:
    stream.fields |= {"processingTimeout": "1s", "redeliverInterval": "100ms"}
    emit = Emitted(stream)
    refused: list[str] = []

    async def picky(*events: Event) -> Reply | None:
        if any(emit.keys([event]) == ["2"] for event in events) and len(refused) < 4:
            refused.append(events[0].id)
            raise PermanentError("no dead letter can take it")
        return await emit(*events)

    keys = await stream.feed(5)
    with capture_logs() as logs:
        async with working(stream, picky):  # type: ignore[arg-type]
            await emit.settles([key for key in keys if key != "2"])
            await emit.settles(keys)
    assert any(line["event"] == "stalled" for line in logs)


async def test_a_deleted_entry_holds_up_nothing(stream: RedisRig) -> None:
    """Read by a worker that has died, and deleted meanwhile: it cannot come again."""
    keys = await stream.feed(3)
    async with stream.client() as client:
        await client.xgroup_create(STREAM, GROUP, id="0")
        [[_, entries]] = await client.xreadgroup(GROUP, "dead", {STREAM: ">"}, count=1)
        await client.xdel(STREAM, entries[0][0])
    stream.fields |= {"processingTimeout": "1s", "redeliverInterval": "100ms"}
    emit = Emitted(stream)
    async with working(stream, emit):
        await emit.settles(keys[1:])
        await until(lambda: _is(pending(stream), 0), seconds=60, what="nothing is pending")


# -- bounds -------------------------------------------------------------------------


async def test_a_worker_holds_a_bounded_number_of_entries(
    stream: RedisRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_stream, "IN_FLIGHT", 60)
    emit = Emitted(stream)
    emit.gate.clear()
    keys = await stream.feed(300)
    async with working(stream, emit):
        await until(lambda: _is(pending(stream), 60), seconds=60, what="the window is full")
        await asyncio.sleep(1.5)  # longer than a read waits
        assert await pending(stream) == 60
        emit.gate.set()
        await emit.settles(keys)


async def test_a_worker_holds_a_bounded_number_of_bytes(
    stream: RedisRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_stream, "IN_FLIGHT_BYTES", 2_000_000)
    held: list[int] = []
    take = redis_stream.StreamSession._take

    def watched(session: redis_stream.StreamSession, entries: Any) -> None:
        take(session, entries)
        held.append(session._bytes)

    monkeypatch.setattr(redis_stream.StreamSession, "_take", watched)
    emit = Emitted(stream)
    pad = b"x" * 100_000
    await stream.publish({"data": b'{"number":%d,"pad":"%s"}' % (n, pad)} for n in range(100))
    emit.gate.clear()
    async with working(stream, emit):
        await within(lambda: max(held, default=0) > 1_500_000, "the window is full")
        emit.gate.set()
        await emit.settles([str(n) for n in range(100)])
    assert max(held) <= 2_100_000


async def test_without_a_bus_events_are_emitted_one_at_a_time(stream: RedisRig) -> None:
    stream.store = None
    emit = Emitted(stream)
    async with working(stream, emit):
        await emit.settles(await stream.feed(50))
    assert emit.most_inside == 1


# -- channels -----------------------------------------------------------------------


async def test_what_finds_no_room_is_dropped_and_told(
    channel: RedisRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_channel, "WAITING", 20)
    monkeypatch.setattr(redis_channel, "_TELL", 0.0)  # each is told
    emit = Emitted(channel)
    emit.gate.clear()
    with capture_logs() as logs:
        async with working(channel, emit):
            await channel.feed(1)
            await within(lambda: emit.inside > 0, "a message came to emit")
            await channel.feed(50)
            # All 50 have come: what comes when the gate is open finds room.
            await within(lambda: sum(one["event"] == "refused" for one in logs) == 30, "it is told")
            emit.gate.set()
            await within(lambda: len(emit.settled) == 21, "one, and as many as there is room for")
            await emit.settles(await channel.feed(5))


async def test_a_channel_tries_an_event_again(channel: RedisRig) -> None:
    emit = Emitted(channel)
    emit.failures = [TemporaryError("the bus is full"), TemporaryError("the bus is full")]
    async with working(channel, emit):
        keys = await channel.feed(5)
        await emit.settles(keys)
    assert emit.keys(emit.settled) == list(keys)


# -- the connection -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stream", "channel"])
async def test_a_server_that_hangs_is_lost(kind: str) -> None:
    async with open_stream() if kind == "stream" else open_channel() as rig:
        rig.fields["readTimeout"] = "1s"
        emit = Emitted(rig)
        async with working(rig, emit) as worker:
            await emit.settles(await rig.feed(2))
            await rig.server.freeze()
            try:
                await within(lambda: bool(worker.lost), "Disconnected was raised")
            finally:
                rig.server.thaw()
            await within(lambda: len(worker.started) > 1, "started was called again")
            await emit.settles(await rig.feed(2))


async def test_a_quiet_channel_stays(channel: RedisRig) -> None:
    channel.fields["readTimeout"] = "2s"
    emit = Emitted(channel)
    async with working(channel, emit) as worker:
        await asyncio.sleep(5.0)  # more than twice the time that an answer may take
        await emit.settles(await channel.feed(2))
    assert not worker.lost and len(worker.started) == 1


async def test_a_refused_connection_says_where(stream: RedisRig) -> None:
    await stream.server.kill()
    with pytest.raises(Disconnected, match=stream.server.address):
        await once(stream)
