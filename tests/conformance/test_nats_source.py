"""What only NATS has: logins, TLS, streams, consumers, giving back; on a real nats-server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import orjson
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo
from structlog.testing import capture_logs

from ofevents.conformance.source_rig import Emitted, within, working
from ofevents.errors import ConfigError, Disconnected, PermanentError, TemporaryError
from ofevents.event import Event
from ofevents.ports import Reply
from ofevents.telemetry import LAG
from ofevents_adapters import nats_connection, nats_core, nats_jetstream
from tests.conformance.rigs.nats import STREAM, NatsRig, create_stream, open_core, open_jetstream
from tests.servers import until
from tests.servers.nats import NatsServer

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def core() -> AsyncIterator[NatsRig]:
    async with open_core() as rig:
        yield rig


@pytest.fixture
async def stream() -> AsyncIterator[NatsRig]:
    async with open_jetstream() as rig:
        yield rig


@asynccontextmanager
async def reading(rig: NatsRig, emit: Any, **jetstream: Any) -> AsyncIterator[None]:
    """A worker with these fields of jetstream, while in the `with`."""
    rig.fields["jetstream"] = {"stream": STREAM, **jetstream}
    async with working(rig, emit):
        yield


async def once(rig: NatsRig) -> None:
    """One life of a worker, which must end with an error."""
    await rig.make().run(Emitted(rig), store=rig.store, started=lambda address: None)


async def add_consumer(rig: NatsRig, **config: Any) -> None:
    client = await nats.connect(rig.server.url)
    try:
        await client.jetstream().add_consumer(STREAM, ConsumerConfig(**config))
    finally:
        await client.close()


async def consumer(rig: NatsRig, name: str = "ofevents~default~shop~nats~orders") -> ConsumerInfo:
    client = await nats.connect(rig.server.url)
    try:
        return await client.jetstream().consumer_info(STREAM, name)
    finally:
        await client.close()


# -- the stream and its consumer ----------------------------------------------


async def test_a_missing_stream_is_named_and_waited_for(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        rig = NatsRig(server, 1000, jetstream={"stream": STREAM})
        with pytest.raises(Disconnected, match=f"no stream '{STREAM}': create it"):
            await once(rig)
        await create_stream(server)
        emit = Emitted(rig)
        async with working(rig, emit):
            await emit.settles(await rig.feed(3))
        assert {event.id.partition("@")[0] for event in emit.settled} == {
            f"{STREAM}/{n}" for n in (1, 2, 3)
        }


async def test_a_server_without_jetstream_says_so(tmp_path: Path) -> None:
    users = 'accounts { A: { users: [{user: "a", password: "p"}] } }'
    async with NatsServer(tmp_path, extra=users) as server:
        login = {"username": "a", "password": "p"}
        rig = NatsRig(server, 1000, jetstream={"stream": STREAM}, credentials=login)
        with pytest.raises(Disconnected, match=r"(?i)jetstream.*not enabled"):
            await once(rig)


async def test_what_the_server_refuses_is_the_users_to_mend(stream: NatsRig) -> None:
    await create_stream(stream.server, "WORK", subjects=["work.>"], retention="workqueue")
    stream.fields = {"jetstream": {"stream": "WORK", "start": "new"}, "subject": "work.>"}
    with pytest.raises(ConfigError, match="refuses consumer") as caught:
        await once(stream)
    assert caught.value.path == "spec.nats.orders.jetstream"


async def test_the_start_position_is_of_a_new_consumer_only(stream: NatsRig) -> None:
    before = await stream.feed(5)
    emit = Emitted(stream)
    async with reading(stream, emit, start="new"):
        pass  # live, and ended before any message came
    meanwhile = await stream.feed(5)
    async with reading(stream, emit, start="new"):
        await emit.settles([*meanwhile, *await stream.feed(2)])
    assert not set(before) & set(emit.keys(emit.offered))


async def test_our_consumer_follows_the_spec_and_keeps_its_position(stream: NatsRig) -> None:
    first, second = Emitted(stream), Emitted(stream)
    async with working(stream, first):
        done = await stream.feed(7)
        await first.settles(done)
    stream.fields["subject"] = "orders.3"
    async with reading(stream, second, ackWait="7s", maxAckPending=9):
        keys = await stream.feed(7)
        await second.settles([keys[3]])
        made = (await consumer(stream)).config
    assert (made.ack_wait, made.max_ack_pending) == (7.0, 9)
    assert made.filter_subjects == ["orders.3"]
    assert second.keys(second.offered) == [keys[3]]


async def test_a_consumer_of_the_users_is_used_as_it_is(stream: NatsRig) -> None:
    await add_consumer(stream, durable_name="mine", filter_subject="orders.1", ack_wait=77)
    emit = Emitted(stream)
    keys = await stream.feed(14)
    stream.fields["subject"] = None
    async with reading(stream, emit, durable="mine", ackWait="5s"):
        await emit.settles([keys[1], keys[8]])
        assert (await consumer(stream, "mine")).config.ack_wait == 77
    assert len(emit.offered) == 2


async def test_the_limits_of_a_consumer_of_the_users_are_kept(stream: NatsRig) -> None:
    client = await nats.connect(stream.server.url)
    limits = {"max_batch": 5, "max_expires": 1_000_000_000, "max_bytes": 100_000}
    config = {"durable_name": "mine", "ack_policy": "explicit", **limits}
    await client.request(
        f"$JS.API.CONSUMER.DURABLE.CREATE.{STREAM}.mine",
        orjson.dumps({"stream_name": STREAM, "config": config}),
    )
    await client.close()
    emit = Emitted(stream)
    stream.fields["subject"] = None
    async with reading(stream, emit, durable="mine"):
        await emit.settles(await stream.feed(23))
        await asyncio.sleep(1.5)  # longer than a request may wait there
        await emit.settles(await stream.feed(3))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"deliver_subject": "there"}, "is a push consumer"),
        ({"ack_policy": AckPolicy.NONE}, "ack policy none"),
        ({"filter_subject": "orders.1"}, r"reads orders\.1; leave out subject"),
        ({"metadata": {"ofevents.source": "a/nats/b/c"}}, "belongs to a/nats/b/c"),
    ],
)
async def test_a_consumer_that_cannot_be_used(
    stream: NatsRig, config: dict[str, Any], why: str
) -> None:
    await add_consumer(stream, durable_name="mine", **config)
    stream.fields["jetstream"] = {"stream": STREAM, "durable": "mine"}
    with pytest.raises(ConfigError, match=why) as caught:
        await once(stream)
    assert caught.value.path == "spec.nats.orders.jetstream.durable"


async def test_a_consumer_that_is_deleted_is_made_again(stream: NatsRig) -> None:
    emit = Emitted(stream)
    async with working(stream, emit) as worker:
        await emit.settles(await stream.feed(3))
        client = await nats.connect(stream.server.url)
        await client.jetstream().delete_consumer(STREAM, "ofevents~default~shop~nats~orders")
        await client.close()
        await within(lambda: bool(worker.lost), "Disconnected was raised")
        assert "consumer deleted" in str(worker.lost[0]).lower()
        await emit.settles(await stream.feed(3))
    assert all(len(ids) == 1 for ids in emit.ids().values()), "the same ids, though all came again"


# -- acknowledging --------------------------------------------------------------


async def test_what_emit_refuses_comes_again_after_its_delay(stream: NatsRig) -> None:
    emit = Emitted(stream)
    emit.failures = [TemporaryError("the bus is full", delay=1.0)]
    keys = await stream.feed(3)
    began = time.monotonic()  # once it is live, emit may have been called
    async with reading(stream, emit, ackWait="60s"):
        await within(lambda: not emit.failures, "emit was called")
        await emit.settles(keys)
        assert 1.0 <= time.monotonic() - began < 30, "and not by the ack wait"


async def test_a_stopped_worker_gives_back_at_once(stream: NatsRig) -> None:
    one, two = Emitted(stream), Emitted(stream)
    one.gate.clear()
    async with reading(stream, one, ackWait="60s"):
        keys = await stream.feed(20)
        await within(lambda: one.inside > 0, "a message came to emit")
    began = time.monotonic()
    async with reading(stream, two, ackWait="60s"):
        await two.settles(keys)
    assert time.monotonic() - began < 30


async def test_what_is_in_hand_longer_than_the_ack_wait_does_not_come_again(
    stream: NatsRig,
) -> None:
    one, two = Emitted(stream), Emitted(stream)
    one.gate.clear()
    # The worker says each third of it that it is at it; a busy machine stands still for five
    # seconds with it.
    async with reading(stream, one, ackWait="8s"):
        keys = await stream.feed(20)
        await within(lambda: one.inside > 0, "a message came to emit")
        async with reading(stream, two, ackWait="8s"):
            await asyncio.sleep(10.0)  # longer than the ack wait
            one.gate.set()
            await one.settles(keys)
    assert not two.offered and len(one.offered) == 20


async def test_an_event_that_nothing_takes_does_not_hold_up_the_others(stream: NatsRig) -> None:
    emit = Emitted(stream)
    refused: list[str] = []

    async def picky(*events: Event) -> Reply | None:
        if any(emit.keys([event]) == ["2"] for event in events) and len(refused) < 4:
            refused.append(events[0].id)
            raise PermanentError("no dead letter can take it")
        return await emit(*events)

    keys = await stream.feed(5)
    with capture_logs() as logs:
        async with reading(stream, picky):
            await emit.settles([key for key in keys if key != "2"])
            await emit.settles(keys)
    assert any(line["event"] == "stalled" for line in logs)


async def test_a_worker_holds_a_bounded_number_of_bytes(
    stream: NatsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_jetstream, "IN_FLIGHT_BYTES", 0)  # twice the largest message: 2 MiB
    held: list[int] = []
    take = nats_jetstream.JetStreamSession._take

    async def watched(session: nats_jetstream.JetStreamSession, message: Any) -> None:
        await take(session, message)
        held.append(session._bytes)

    monkeypatch.setattr(nats_jetstream.JetStreamSession, "_take", watched)
    emit = Emitted(stream)
    emit.gate.clear()
    pad = b"x" * 400_000
    await stream.publish(
        (f"orders.{n}", b'{"number": %d, "pad": "%s"}' % (n, pad), None) for n in range(20)
    )
    async with working(stream, emit):
        await within(lambda: max(held, default=0) > 800_000, "the window fills")
        await asyncio.sleep(1.0)  # time for more than there is room for
        emit.gate.set()
        await emit.settles([str(n) for n in range(20)])
    assert max(held) <= 2 * 1024 * 1024


async def test_a_worker_holds_a_bounded_number_of_messages(
    stream: NatsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_jetstream, "IN_FLIGHT", 60)
    emit = Emitted(stream)
    emit.gate.clear()
    keys = await stream.feed(300)
    async with working(stream, emit):

        async def full() -> bool:
            return (await consumer(stream)).num_ack_pending == 60

        await until(full, seconds=60, what="the window is full")
        await asyncio.sleep(1.0)  # time for more than there is room for
        assert await full()
        emit.gate.set()
        await emit.settles(keys)


async def test_the_lag_is_a_metric(stream: NatsRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_jetstream, "LOOK", 0.05)
    emit = Emitted(stream)
    emit.gate.clear()
    lag = LAG.labels("default", "shop", "ofevents~default~shop~nats~orders")._value
    async with reading(stream, emit, maxAckPending=10):
        await stream.feed(40)
        await within(lambda: lag.get() == 30, "the lag is 30: ten are in hand")
        emit.gate.set()
        await within(lambda: lag.get() == 0, "the lag is 0")


async def test_without_a_bus_events_are_emitted_one_at_a_time(stream: NatsRig) -> None:
    stream.store = None
    emit = Emitted(stream)
    async with working(stream, emit):
        await emit.settles(await stream.feed(50))
    assert emit.most_inside == 1


async def test_a_header_named_status_is_no_status(stream: NatsRig) -> None:
    emit = Emitted(stream)
    async with working(stream, emit) as worker:
        await stream.publish([("orders.1", b'{"number": 1}', {"Status": "409"})])
        await emit.settles(["1"])
    assert not worker.lost
    assert emit.settled[0].attributes["natsheaderstatus"] == "409"


# -- core NATS ------------------------------------------------------------------


async def test_several_subjects(core: NatsRig) -> None:
    core.fields = {"subject": None, "subjects": ["orders.1", "orders.*.paid"]}
    emit = Emitted(core)
    async with working(core, emit):
        subjects = ["orders.1", "orders.2", "orders.7.paid", "orders.1.paid.x"]
        await core.publish((s, b'{"number": %d}' % n, None) for n, s in enumerate(subjects))
        await emit.settles(["0", "2"])
    assert [event.attributes["subject"] for event in emit.settled] == ["orders.1", "orders.7.paid"]


async def test_what_finds_no_room_is_dropped_and_told(
    core: NatsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_core, "WAITING", 20)
    monkeypatch.setattr(nats_core, "_TELL", 0.0)  # each is told
    emit = Emitted(core)
    emit.gate.clear()
    with capture_logs() as logs:
        async with working(core, emit):
            await core.feed(1)
            await within(lambda: emit.inside > 0, "a message came to emit")
            await core.feed(50)
            # All 50 have come: what comes when the gate is open finds room.
            await within(lambda: sum(one["event"] == "refused" for one in logs) == 30, "it is told")
            emit.gate.set()
            await within(lambda: len(emit.settled) == 21, "one, and as many as there is room for")
            await emit.settles(await core.feed(5))


async def test_core_nats_tries_an_event_again(core: NatsRig) -> None:
    emit = Emitted(core)
    emit.failures = [TemporaryError("the bus is full"), TemporaryError("the bus is full")]
    async with working(core, emit):
        keys = await core.feed(5)
        await emit.settles(keys)
    assert emit.keys(emit.settled) == list(keys)


# -- the connection ---------------------------------------------------------------


async def test_a_server_that_hangs_is_lost(core: NatsRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_connection, "_PING", 1)
    emit = Emitted(core)
    async with working(core, emit) as worker:
        await core.server.freeze()
        try:
            await within(lambda: bool(worker.lost), "Disconnected was raised")
        finally:
            core.server.thaw()
        await within(lambda: len(worker.started) > 1, "started was called again")
