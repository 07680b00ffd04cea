"""JetStream in ways that the conformance suite does not ask of every driver."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import nkeys
import pytest
import structlog
import structlog.testing

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import topics
from ofevents.bus.jetstream import JetStreamBus
from ofevents.bus.layout import SHARES, STREAMS, durable
from ofevents.bus.watch import Watch
from ofevents.clock import ManualClock, SystemClock
from ofevents.errors import BusFull, ConfigError, Conflict, Disconnected
from ofevents.event import Event
from ofevents.ports import DONE, Consumer, Delivery, Message, Received
from ofevents.telemetry import EXPIRED
from tests.servers import until
from tests.servers.nats import NatsServer

TOPIC = topics.event("default", "shop", "orders")
OTHER = topics.event("default", "shop", "others")
USER = topics.user("default", "metrics")
GROUP = "trigger.default.t"


def make(url: str, **options: object) -> JetStreamBus:
    spec = ResolvedBus(driver="jetstream", options={"url": url, **options})
    return JetStreamBus(spec, clock=SystemClock())


def message(id: str, data: bytes = b"1") -> Message:
    return Message(Event.create(id=id, source="s", type="t", data=data), "w")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path) as running:
        yield running


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"url": None}, "only `ofevents run` starts"),
        ({"url": "nats://x", "sync": "always"}, "sync_interval"),
        ({"url": "nats://x", "stream": "a.b"}, "stream: .*letters"),
        ({"url": "nats://x", "max_age": 0, "replicas": 9}, "replicas.*; max_age|max_age"),
        ({"url": "nats://x", "nonsense": 1}, "nonsense"),
        ({"url": "nats://x", "tls": {"ca": "no pem"}}, "PEM"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        JetStreamBus(ResolvedBus(driver="jetstream", options=options), clock=SystemClock())


def test_different_groups_have_different_names_on_the_server() -> None:
    groups = ["a.b", "a~b", "a-b", "a=7Eb", "a_b", "a b", "a>b"]
    assert len({durable(group) for group in groups}) == len(groups)
    assert not any(set(durable(group)) & set(". *>/\\\t") for group in groups)


async def test_a_frozen_server_fails_a_publish_at_its_deadline(server: NatsServer) -> None:
    async with make(server.url, publish_deadline=3.0) as bus:
        await bus.publish(TOPIC, message("1"))
        await server.freeze()
        try:
            began = time.monotonic()
            with pytest.raises(Disconnected, match="did not confirm within 3 s"):
                await asyncio.wait_for(bus.publish(TOPIC, message("2")), 30)
            assert time.monotonic() - began < 15
        finally:
            server.thaw()
        # The same message again: stored once, whether the first one arrived or not.
        await bus.publish(TOPIC, message("2"))
        got = [one.body.id async for one in bus.browse([TOPIC])]  # type: ignore[union-attr]
        assert got == ["1", "2"]


async def test_a_lost_connection_fails_what_is_in_flight_at_once(server: NatsServer) -> None:
    async with make(server.url, publish_deadline=60) as bus:
        await bus.publish(TOPIC, message("1"))
        await server.freeze()
        waiting = [
            asyncio.create_task(bus.publish(TOPIC, message("2"))),
            asyncio.create_task(bus.store.put("k", b"v")),
            asyncio.create_task(anext(aiter(bus.browse([TOPIC])))),
        ]
        done, _ = await asyncio.wait(waiting, timeout=0.3)
        assert not done, "they are in flight"
        await server.kill()
        done, pending = await asyncio.wait(waiting, timeout=20)
        assert not pending, "and fail with the connection, not at their deadline"
        assert all(isinstance(one.exception(), Disconnected) for one in done)


async def test_it_waits_for_a_server_that_comes_later(tmp_path: Path) -> None:
    late = NatsServer(tmp_path)
    bus = make(late.url)
    entering = asyncio.create_task(bus.__aenter__())
    await until(lambda: "Connect" in bus.connection, seconds=20, what="it says why it waits")
    async with late:
        await asyncio.wait_for(entering, 40)
        await bus.publish(TOPIC, message("1"))
        await bus.__aexit__(None, None, None)


async def test_cancelled_while_it_waits_it_leaves_no_task(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            async with make("nats://127.0.0.1:1"):
                pass
    assert asyncio.all_tasks() == before


async def test_an_old_server_is_refused_with_what_is_needed() -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"version": "2.11.9", "max_payload": 1048576, "server_id": "x", "headers": True}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        while line := await reader.readline():
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
        writer.close()

    listener = await asyncio.start_server(old, "127.0.0.1", 0)
    try:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(ConfigError, match=r"2\.11\.9.*2\.12 or newer"):
            async with asyncio.timeout(30), make(f"nats://127.0.0.1:{port}"):
                pass
    finally:
        listener.close()
        await listener.wait_closed()


async def _works(url: str, **options: object) -> None:
    async with asyncio.timeout(30), make(url, **options) as bus:
        await bus.publish(TOPIC, message(str(time.time())))


async def _says(sentence: str, url: str, **options: object) -> None:
    """It waits, and its connection says why."""
    bus = make(url, **options)
    entering = asyncio.create_task(bus.__aenter__())
    await until(
        lambda: sentence in bus.connection, seconds=30, what=f"{sentence}: {bus.connection}"
    )
    entering.cancel()
    await asyncio.wait([entering])


async def test_credentials(tmp_path: Path) -> None:
    seed = b"SUAMYSGCOAK7QYRJK3M3SEMJTT2VVHZJ4ATHQDXCS4HVWWLZSH2ZGPMRKE"
    try:
        public = nkeys.from_seed(seed).public_key.decode()
    except nkeys.NkeysError:
        seed = nkeys.encode_seed(b"x" * 32, nkeys.PREFIX_BYTE_USER)
        public = nkeys.from_seed(seed).public_key.decode()
    cases = [
        ('authorization { token: "t0p" }', {"token": "t0p"}, {"token": "other"}),
        (
            'authorization { user: "u", password: "p" }',
            {"user": "u", "password": "p"},
            {"user": "u", "password": "x"},
        ),
        (
            f'authorization {{ users: [ {{ nkey: "{public}" }} ] }}',
            {"nkey": seed.decode()},
            {"token": "t"},
        ),
    ]
    for number, (extra, good, wrong) in enumerate(cases):
        async with NatsServer(tmp_path / str(number), extra=extra) as guarded:
            await _works(guarded.url, credentials=good)
            await _says("Authorization", guarded.url, credentials=wrong)


async def test_tls(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = f"req -x509 -newkey rsa:2048 -nodes -days 1 -keyout {key} -out {cert} -subj /CN=nats"
    maker = await asyncio.create_subprocess_exec(
        openssl,
        *command.split(),
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await maker.wait() == 0
    extra = f'tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{cert}", verify: true }}'
    async with NatsServer(tmp_path / "nats", extra=extra) as guarded:
        own = {"ca": cert.read_text(), "cert": cert.read_text(), "key": key.read_text()}
        await _works(guarded.url, tls=own)
        await _says("certificate", guarded.url, tls={})


async def test_no_secret_goes_out_in_plain_text(tmp_path: Path) -> None:
    extra = 'authorization { token: "s3cret" }\ntrace: true\ntrace_verbose: true\n'
    async with NatsServer(tmp_path / "nats", extra=extra) as plain:
        with pytest.raises(ConfigError, match="does not demand TLS"):
            async with make(plain.url, credentials={"token": "s3cret"}, tls={}):
                pass
        assert "[CONNECT" not in plain.log.read_text()


async def test_a_group_leaves_a_stream_that_it_reads_no_more(server: NatsServer) -> None:
    dead = topics.dead("default", "t")
    async with make(server.url) as bus:
        await bus.ensure([], [Consumer(GROUP, (TOPIC, USER, dead))])
        for n, topic in enumerate((TOPIC, USER, dead)):
            await bus.publish(topic, message(str(n)))
        assert (await bus.inspect()).consumers[0].pending == 3
        for kept in ((TOPIC, USER), (USER,), (TOPIC,)):
            await bus.ensure([], [Consumer(GROUP, kept, "earliest")])
            report = (await bus.inspect()).consumers[0]
            assert (report.topics, report.pending) == (kept, len(kept))


@pytest.mark.parametrize("topic", ["event.*", "topic.a b", "event.>", "inbox..x", "nonsense.a"])
async def test_what_is_no_topic_is_refused(server: NatsServer, topic: str) -> None:
    async with make(server.url) as bus:
        with pytest.raises(ConfigError, match="no topic"):
            await bus.publish(topic, message("1"))


async def test_two_buses_share_a_server(server: NatsServer) -> None:
    async with make(server.url) as one, make(server.url, stream="other") as two:
        await one.publish(TOPIC, message("1"))
        await two.publish(TOPIC, message("2"))
        got = [one.body.id async for one in two.browse([TOPIC])]  # type: ignore[union-attr]
        assert got == ["2"]
        await one.store.put("k", b"1")
        assert await two.store.get("k") is None


async def test_full_inboxes_refuse_and_take_again(server: NatsServer) -> None:
    inbox = topics.inbox("default", "t", "s")
    async with make(server.url, max_bytes=200_000) as bus:
        await bus.ensure([inbox], [Consumer(inbox, (inbox,))])

        async def fill() -> None:
            for n in range(100):
                event = Event.create(id=str(n), source="s", type="t", data=b'"%b"' % (b"x" * 9000))
                await bus.publish(inbox, Message(Delivery("d/t/s", (event,)), "w"))

        with pytest.raises(BusFull, match="inboxes are full"):
            await fill()
        held = (await bus.inspect()).topics[0].size
        assert 100_000 < held < 210_000
        stop = asyncio.Event()

        async def settle(received: list[Received]) -> None:
            for one in received:
                one.settle(DONE)
            stop.set()

        await bus.consume([inbox], inbox, settle, in_flight=99, started=lambda: None, stop=stop)
        await bus.publish(inbox, Message(Delivery("d/t/s", (message("x").body,)), "w"))  # type: ignore[arg-type]


async def test_deliveries_sent_at_once_do_not_share_the_same_room(server: NatsServer) -> None:
    inbox = topics.inbox("default", "t", "s")
    async with make(server.url, max_bytes=200_000) as bus:
        events = [
            Event.create(id=str(n), source="s", type="t", data=b'"%b"' % (b"x" * 9000))
            for n in range(100)
        ]
        owed = [Message(Delivery("d/t/s", (event,)), "w") for event in events]
        done = await asyncio.gather(*(bus.publish(inbox, o) for o in owed), return_exceptions=True)
        assert any(isinstance(error, BusFull) for error in done)
        assert 100_000 < (await bus.inspect()).topics[0].size < 210_000


async def test_dead_letters_are_never_purged(server: NatsServer) -> None:
    dead = topics.dead("default", "t")
    async with make(server.url, max_bytes=100_000) as bus:
        stored = 0
        with pytest.raises(BusFull, match="nothing there is ever thrown away"):
            for n in range(500):
                await bus.publish(dead, message(str(n), b'"%b"' % (b"x" * 9000)))
                stored += 1
        got = [one.body.id async for one in bus.browse([dead])]  # type: ignore[union-attr]
        assert got == [str(n) for n in range(stored)]


@pytest.mark.parametrize(("topic", "count", "least"), [(TOPIC, 100, 50), (USER, 300, 150)])
async def test_room_is_made_of_the_oldest_only(
    server: NatsServer, topic: str, count: int, least: int
) -> None:
    async with make(server.url, max_bytes=400_000) as bus:
        for n in range(count):
            await bus.publish(topic, message(str(n), b'"%b"' % (b"x" * 5000)))
        got = [int(one.body.id) async for one in bus.browse([topic])]  # type: ignore[union-attr]
        assert got[0] > 0, "there was no room for all of them"
        assert got == list(range(got[0], count)), "the newest are kept, without a gap"
        assert len(got) > least, "settled events are kept for replay while there is space"


async def test_a_topic_keeps_what_one_of_its_consumers_has_not_settled(server: NatsServer) -> None:
    """One that another has settled is not purged; a topic beside it that nobody reads is."""
    unread = topics.user("default", "unread")
    async with make(server.url, max_bytes=400_000) as bus:
        await bus.ensure([USER], [Consumer(GROUP, (USER,)), Consumer("reads", (USER,))])
        await bus.publish(USER, *[message(str(n), b'"%b"' % (b"x" * 5000)) for n in range(20)])
        stop, count = asyncio.Event(), 0

        async def read(received: list[Received]) -> None:
            nonlocal count
            for one in received:
                one.settle(DONE)
            count += len(received)
            if count == 20:
                stop.set()

        async with asyncio.timeout(40):
            await bus.consume([USER], "reads", read, in_flight=9, started=lambda: None, stop=stop)
        for n in range(300):
            await bus.publish(unread, message(str(n), b'"%b"' % (b"x" * 5000)))
        assert len([one async for one in bus.browse([USER])]) == 20
        assert len([one async for one in bus.browse([unread])]) < 300
        with pytest.raises(BusFull, match="settled by every consumer"):
            for n in range(20, 400):
                await bus.publish(USER, message(str(n), b'"%b"' % (b"x" * 5000)))
        first = [one.body.id async for one in bus.browse([USER])][:20]  # type: ignore[union-attr]
        assert first == [str(n) for n in range(20)]


async def test_all_limits_together_are_what_the_bus_may_take(server: NatsServer) -> None:
    most = 64 * 1024**2
    async with make(server.url, max_bytes=most) as bus:
        sizes = [
            (await bus._streams.info(f"ofevents-{which}"))["config"]["max_bytes"]
            for which in STREAMS
        ]
        assert sizes == [most, most // 2, -1, most // 4]
        bounded = sum(bus._streams.layout.limit(which, most) for which in STREAMS)
        assert bounded < SHARES * most, "the rest is left to the store"


KILLED = """
import asyncio, sys
from ofevents.api.resolved import ResolvedBus
from ofevents.bus import open_bus
from ofevents.clock import ManualClock, SystemClock

async def hold(received):
    print("took", len(received), flush=True)
    await asyncio.sleep(600)

async def main():
    spec = ResolvedBus(driver="jetstream", options={"url": sys.argv[1], "ack_wait": 2})
    async with open_bus(spec, clock=SystemClock()) as bus:
        await bus.consume([sys.argv[2]], sys.argv[3], hold, in_flight=9, started=lambda: None)

asyncio.run(main())
"""


async def test_what_a_killed_worker_held_comes_again(server: NatsServer) -> None:
    async with make(server.url, ack_wait=2) as bus:
        await bus.ensure([TOPIC], [Consumer(GROUP, (TOPIC,))])
        await bus.publish(TOPIC, *[message(str(n)) for n in range(5)])
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", KILLED, server.url, TOPIC, GROUP),
            stdout=asyncio.subprocess.PIPE,
        )
        assert worker.stdout is not None
        assert b"took" in await asyncio.wait_for(worker.stdout.readline(), 30)
        worker.kill()
        await worker.wait()
        got: dict[str, int] = {}
        stop = asyncio.Event()

        async def take(received: list[Received]) -> None:
            for one in received:
                got[one.body.id] = one.attempt  # type: ignore[union-attr]
                one.settle(DONE)
            if len(got) == 5:
                stop.set()

        async with asyncio.timeout(40):
            await bus.consume([TOPIC], GROUP, take, in_flight=9, started=lambda: None, stop=stop)
        # More often, where the worker stood still for an ack wait before it was killed.
        assert min(got.values()) >= 2, f"each is handed out once more: {got}"


async def look(watch: Watch) -> dict[str, int]:
    """One look; the bus's own watch may look in the same moment."""
    while True:
        try:
            return await watch.look()
        except Conflict:
            continue


async def test_what_expires_unread_is_counted_once(server: NatsServer) -> None:
    counted = EXPIRED.labels(group=GROUP)
    before = counted._value.get()
    async with make(server.url, max_age=5) as bus:
        consumers = [Consumer(GROUP, (TOPIC,)), Consumer("reads", (TOPIC, OTHER))]
        await bus.ensure([TOPIC], consumers)
        watch = Watch(bus._link, bus._streams, bus.store, SystemClock())
        assert await look(watch) == {}
        await bus.publish(TOPIC, *[message(str(n)) for n in range(30)])
        await bus.publish(OTHER, *[message(str(n)) for n in range(10)])
        stop = asyncio.Event()

        async def read(received: list[Received]) -> None:
            for one in received:
                one.settle(DONE)
            stop.set()

        await bus.consume([TOPIC], "reads", read, in_flight=99, started=lambda: None, stop=stop)
        assert await look(watch) == {}

        async def gone() -> bool:
            return not (await bus.inspect()).topics

        await until(gone, seconds=40, what="maxAge takes them")
        again = Watch(bus._link, bus._streams, bus.store, SystemClock())
        assert await look(again) == {GROUP: 30}, "the group's share of the stream"
        assert await look(watch) == {}
    assert counted._value.get() - before == 30


async def test_a_group_near_max_age_is_a_warning(server: NatsServer) -> None:
    async with make(server.url) as bus:
        await bus.ensure([], [Consumer(GROUP, (TOPIC, OTHER)), Consumer("reads", (OTHER,))])
        await bus.publish(TOPIC, message("1"))
        for days, warned in ((5.0, set()), (6.0, {GROUP})):
            clock = ManualClock(start=time.time() + days * 86400)
            with structlog.testing.capture_logs() as logs:
                await Watch(bus._link, bus._streams, bus.store, clock).look()
            said = {log["group"] for log in logs if log["event"] == "stalled"}
            assert said == warned, f"after {days} of 7 days"


async def test_what_expires_unread_is_counted_in_topics_too(server: NatsServer) -> None:
    """A group that reads both is counted once for each stream."""
    async with make(server.url, max_age=5) as bus:
        await bus.ensure([], [Consumer(GROUP, (TOPIC, USER)), Consumer("reads", (USER,))])
        watch = Watch(bus._link, bus._streams, bus.store, SystemClock())
        await bus.publish(TOPIC, *[message(str(n)) for n in range(30)])
        await bus.publish(USER, *[message(str(n)) for n in range(7)])
        assert await look(watch) == {}

        async def gone() -> bool:
            return not (await bus.inspect()).topics

        await until(gone, seconds=40, what="maxAge takes them")
        assert await look(watch) == {GROUP: 37, "reads": 7}
        assert await look(watch) == {}


@pytest.mark.parametrize("options", [{}, {"max_bytes": 64 * 1024**2}])
async def test_workers_that_meet_on_a_fresh_server_agree(
    server: NatsServer, options: dict[str, object]
) -> None:
    """Each finds no stream and creates it; all but one come second."""
    for number in range(5):
        buses = [make(server.url, stream=f"fresh{number}", **options) for _ in range(8)]
        async with asyncio.timeout(30):
            await asyncio.gather(*(bus.__aenter__() for bus in buses))
        try:
            config = (await buses[0]._streams.info(f"fresh{number}-events"))["config"]
            assert {bus._streams.events_limit for bus in buses} == {config["max_bytes"]}
            assert not any(name.startswith("ofevents") for name in config["metadata"])
            await asyncio.gather(*(bus.publish(TOPIC, message("1")) for bus in buses))
            assert len([one async for one in buses[0].browse([TOPIC])]) == 1
        finally:
            for bus in buses:
                await bus.__aexit__(None, None, None)


async def test_a_stream_whose_creator_died_gets_its_size(server: NatsServer) -> None:
    size = 32 * 1024**2
    async with make(server.url) as bus:
        config = make(server.url, stream="half")._streams.layout.stream_config("events")
        large = {"max_bytes": 3 * size, "metadata": {"ofevents-max-bytes": str(size)}}
        await bus._streams.api(f"STREAM.CREATE.{config['name']}", {**config, **large})
    for _ in range(2):
        async with make(server.url, stream="half") as bus:
            assert bus._streams.events_limit == size
