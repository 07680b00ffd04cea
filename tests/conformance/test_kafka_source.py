"""What only Kafka has: positions, rebalances, logins, limits; against a real broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import Message

from ofevents.api.kafka import KafkaSpec
from ofevents.clock import SystemClock
from ofevents.conformance.source_rig import Emitted, within, working
from ofevents.errors import ConfigError, Disconnected
from ofevents.ports import SourceIdentity
from ofevents_adapters import kafka
from ofevents_adapters.kafka_lane import Lane
from ofevents_adapters.kafka_reader import Owner
from tests.conformance.rigs.kafka import KafkaRig, close, open_rig
from tests.servers.kafka import PASSWORD, USER

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module", autouse=True)
def shared_server() -> Iterator[None]:
    yield
    asyncio.run(close())


@pytest.fixture
async def rig() -> AsyncIterator[KafkaRig]:
    async with open_rig() as made:
        yield made


def source(rig: KafkaRig, **fields: Any) -> kafka.KafkaSource:
    document = {"brokers": rig.server.brokers, "topic": rig.topic, **fields}
    identity = SourceIdentity("default", rig.topic, "kafka", "orders")
    return kafka.KafkaSource(KafkaSpec.model_validate(document), identity, clock=SystemClock())


@asynccontextmanager
async def reading(rig: KafkaRig, emit: Emitted, **fields: Any) -> AsyncIterator[None]:
    """A worker with these fields, while in the `with`."""
    rig.make = lambda: source(rig, **fields)  # type: ignore[method-assign]
    async with working(rig, emit):
        yield


async def test_after_a_clean_stop_nothing_comes_twice(rig: KafkaRig) -> None:
    first, second = Emitted(rig), Emitted(rig)
    async with working(rig, first):
        await first.settles(await rig.feed(50))
    async with working(rig, second):
        keys = await rig.feed(10)
        await second.settles(keys)
    assert sorted(second.keys(second.offered), key=int) == list(keys)


async def test_a_worker_holds_a_bounded_number_of_records(
    rig: KafkaRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "IN_FLIGHT", 60)
    monkeypatch.setattr(kafka, "BATCH", 20)
    taken = 0
    put = Lane.put

    def counted(lane: Lane, record: Any) -> None:
        nonlocal taken
        taken += 1
        put(lane, record)

    monkeypatch.setattr(Lane, "put", counted)
    emit = Emitted(rig)
    emit.gate.clear()
    keys = await rig.feed(1000)
    async with working(rig, emit):
        await within(lambda: taken >= 60, "as many records as there is room for")
        # Longer than FULL: paused, polling, and still not taking more.
        await asyncio.sleep(3 * kafka.FULL)
        assert taken == 60
        emit.gate.set()
        await emit.settles(keys)
    assert len(emit.settled) == 1000


async def test_a_blocked_worker_stays_in_its_group(rig: KafkaRig) -> None:
    """Blocked for longer than max.poll.interval.ms, it is not thrown out of the group."""
    emit = Emitted(rig)
    emit.gate.clear()
    # The session outlives a busy machine's pause, which is no member's death.
    limits = {
        "session.timeout.ms": "6000",
        "heartbeat.interval.ms": "300",
        "max.poll.interval.ms": "6000",
    }
    keys = await rig.feed(3 * kafka.IN_FLIGHT)
    async with reading(rig, emit, config=limits):
        await within(lambda: emit.inside > 0, "a record came to emit")
        await asyncio.sleep(9)
        emit.gate.set()
        await emit.settles(keys)
    got = emit.keys(emit.settled)
    assert len(got) == len(set(got)), "its partitions were given back and read again"


async def test_partitions_that_were_lost_while_paused_come_back_unpaused(rig: KafkaRig) -> None:
    """A worker that was full stands still for longer than its group waits; then it has room."""
    keys = await rig.feed(50)

    def read() -> set[int | None]:
        lost: list[int] = []
        owner = Owner(lambda gone: {}, lost.extend, lambda offsets: None, lambda lag: None)
        limits = {"session.timeout.ms": "3000", "max.poll.interval.ms": "3000"}
        reader = source(rig, config=limits).reader(owner)
        deadline = time.monotonic() + 60
        found: list[Message] = []
        try:
            reader.connect()
            while not reader.live and time.monotonic() < deadline:
                reader.turn(1, 0.1, {})
            reader.turn(0, 0.0, {})
            time.sleep(4)  # its group waits no longer
            while not lost and time.monotonic() < deadline:
                reader.turn(0, 0.0, {})
            while len(found) < len(keys) and time.monotonic() < deadline:
                found += reader.turn(100, 0.1, {})
        finally:
            reader.close()
        return {one.partition() for one in found}

    assert await asyncio.to_thread(read) == {0, 1, 2, 3}


async def test_the_lag_is_a_metric(rig: KafkaRig) -> None:
    emit = Emitted(rig)
    emit.gate.clear()
    lag = source(rig).lag._value
    async with reading(rig, emit, config={"statistics.interval.ms": "100"}):
        await rig.feed(40)
        await within(lambda: lag.get() == 40, "the lag is 40")
        emit.gate.set()
        await within(lambda: lag.get() == 0, "the lag is 0")


async def test_newest_begins_at_the_end_and_loses_nothing_from_then_on(rig: KafkaRig) -> None:
    before = await rig.feed(20)
    emit = Emitted(rig)
    async with reading(rig, emit, initialOffset="newest"):
        pass  # live, and ended before any record came
    meanwhile = await rig.feed(20)
    async with reading(rig, emit, initialOffset="newest"):
        after = await rig.feed(5)
        await emit.settles([*meanwhile, *after])
    assert not set(before) & set(emit.keys(emit.offered))


async def test_partitions_that_are_added_are_read_from_their_beginning(rig: KafkaRig) -> None:
    emit = Emitted(rig)
    async with reading(rig, emit, initialOffset="newest"):
        await emit.settles(await rig.feed(5))
    await rig.server.add_partitions(rig.topic, 6)
    late = {"value": b'{"number": 1000}', "partition": 5}
    await rig.server.produce(rig.topic, [late])
    async with reading(rig, emit, initialOffset="newest"):
        await emit.settles(["1000"])


async def test_partitions_move_while_emit_is_open(rig: KafkaRig) -> None:
    """A second worker joins while the first is blocked: nothing is lost, nothing stuck."""
    one, two = Emitted(rig), Emitted(rig)
    one.gate.clear()
    async with working(rig, one):
        keys = await rig.feed(200)
        await within(lambda: one.inside > 0, "a record came to emit")
        async with working(rig, two):
            await within(lambda: bool(two.settled), "the second worker gets a partition")
            one.gate.set()
            await within(
                lambda: set(keys) <= {*one.keys(one.settled), *two.keys(two.settled)},
                "both workers together emitted every record",
            )


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_login(rig: KafkaRig, mechanism: str) -> None:
    login = {
        "brokers": rig.server.sasl_brokers,
        "authRequired": True,
        "saslMechanism": mechanism,
        "saslUsername": USER,
    }
    wrong = source(rig, **login, saslPassword="not it")
    with pytest.raises(ConfigError, match="refuse the login") as caught:
        await wrong.run(Emitted(rig), store=rig.store, started=lambda address: None)
    assert "not it" not in str(caught.value)
    emit = Emitted(rig)
    async with reading(rig, emit, **login, saslPassword=PASSWORD):
        await emit.settles(await rig.feed(3))


async def test_tls_on_both_sides(rig: KafkaRig) -> None:
    known = rig.server.certificates
    emit = Emitted(rig)
    brokers = rig.server.tls_brokers
    tls = {"ca": known.ca, "cert": known.cert, "key": known.key}
    async with reading(rig, emit, brokers=brokers, tls=tls):
        await emit.settles(await rig.feed(3))
    for refused, why in (({"ca": known.ca}, "certificate|SSL"), ({}, "certificate verify failed")):
        with pytest.raises(Disconnected, match=why):
            stranger = source(rig, brokers=brokers, tls=refused)
            await stranger.run(emit, store=rig.store, started=lambda address: None)


async def test_a_missing_topic_is_named_and_waited_for(rig: KafkaRig) -> None:
    rig.topic = f"{rig.topic}-late"
    emit = Emitted(rig)
    with pytest.raises(Disconnected, match=f"no topic '{rig.topic}': create it"):
        await source(rig).run(emit, store=rig.store, started=lambda address: None)
    await rig.server.create_topic(rig.topic)
    async with working(rig, emit):
        await emit.settles(await rig.feed(3))


async def test_records_of_10_megabytes(rig: KafkaRig) -> None:
    rig.topic = f"{rig.topic}-large"
    await rig.server.create_topic(rig.topic, config={"max.message.bytes": "12000000"})
    size = 10_000_000
    values = [b'{"number": %d, "pad": "%s"}' % (n, b"x" * size) for n in range(8)]
    emit = Emitted(rig)
    async with working(rig, emit):
        await rig.server.produce(rig.topic, [{"value": value} for value in values])
        await emit.settles([str(n) for n in range(8)])
    assert {event.data for event in emit.settled} == set(values)


async def test_without_a_bus_events_are_emitted_one_at_a_time_per_partition(rig: KafkaRig) -> None:
    rig.store = None
    emit = Emitted(rig)
    async with working(rig, emit):
        keys = await rig.feed(100)
        await emit.settles(keys)
    assert 1 <= emit.most_inside <= 4
