"""Who may read from Redis, and where it is found: ACL, TLS, Sentinels, a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.asyncio import Redis
from redis.crc import key_slot

from ofevents.api.messaging import RedisSpec
from ofevents.clock import SystemClock
from ofevents.conformance.source_rig import Emitted, within, working
from ofevents.errors import ConfigError, Disconnected
from ofevents_adapters.redis import RedisSource
from tests.conformance.rigs.redis import IDENTITY, RedisRig
from tests.servers import free_port, until
from tests.servers.redis import RedisSentinel, RedisServer

pytestmark = pytest.mark.timeout(180)

SECRET = "geheim-und-lang"
READER = "+@connection +xreadgroup +xautoclaim +xclaim +xack +xgroup +xinfo"


async def run_once(server: RedisServer, **fields: Any) -> None:
    """One life of a worker, which must end with an error."""
    spec = RedisSpec.model_validate({"redisHost": server.address, **fields})
    source = RedisSource(spec, IDENTITY, clock=SystemClock())

    async def emit(*events: Any) -> None:
        return None

    await source.run(emit, store=None, started=lambda address: None)


async def test_an_acl_user_that_may_do_just_what_is_needed(tmp_path: Path) -> None:
    users = [f"user u on >{SECRET} ~orders {READER}"]
    async with RedisServer(tmp_path, extra=users) as server:
        rig = RedisRig(server, 500, redisUsername="u", redisPassword=SECRET)
        emit = Emitted(rig)
        async with working(rig, emit):
            await emit.settles(await rig.feed(3))


@pytest.mark.parametrize("wrong", [{}, {"redisPassword": f"not {SECRET}"}, {"redisUsername": "x"}])
@pytest.mark.parametrize("what", [{"stream": "orders"}, {"channel": "orders"}])
async def test_a_login_that_is_refused(
    tmp_path: Path, wrong: dict[str, str], what: dict[str, str]
) -> None:
    async with RedisServer(tmp_path, extra=[f"requirepass {SECRET}"]) as server:
        with pytest.raises(ConfigError, match="refuses the login") as caught:
            await run_once(server, **what, **wrong)
        assert caught.value.path == "spec.redis.orders.redisPassword"
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("rights", "what", "why"),
    [
        ("~other +@all", {}, "refuses reading 'orders'"),
        ("~orders +@all -xack", {}, "xack"),
        ("~orders &other +@all", {"channel": "orders"}, "refuses subscribing to 'orders'"),
    ],
)
async def test_what_the_user_may_not_do_is_said(
    tmp_path: Path, rights: str, what: dict[str, str], why: str
) -> None:
    async with RedisServer(
        tmp_path, extra=[f"user u on >{SECRET} resetchannels {rights}"]
    ) as server:
        rig = RedisRig(server, 1)
        await rig.feed(1)
        with pytest.raises(ConfigError, match=why) as caught:
            await run_once(server, redisUsername="u", redisPassword=SECRET, **what)
        assert caught.value.path == "spec.redis.orders"


async def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    async with RedisServer(tmp_path) as server:
        with pytest.raises(ConfigError, match="DB index") as caught:
            await run_once(server, redisDB=99)
        assert caught.value.path == "spec.redis.orders.redisDB"


# -- TLS ----------------------------------------------------------------------------


async def test_tls_on_both_sides(tmp_path: Path) -> None:
    authority = trustme.CA()
    ours, theirs = authority.issue_cert("reader@example.org"), authority.issue_cert("127.0.0.1")
    theirs.private_key_pem.write_to_path(tmp_path / "key.pem")
    theirs.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    lines = [
        f"tls-cert-file {tmp_path}/cert.pem",
        f"tls-key-file {tmp_path}/key.pem",
        f"tls-ca-cert-file {tmp_path}/ca.pem",
        "tls-auth-clients yes",
    ]
    ca = authority.cert_pem.bytes().decode()
    tls = {
        "ca": ca,
        "cert": ours.cert_chain_pems[0].bytes().decode(),
        "key": ours.private_key_pem.bytes().decode(),
    }
    async with RedisServer(tmp_path / "data", tls=lines) as server:
        for what in ({}, {"channel": "orders"}):
            rig = RedisRig(server, 1, enableTLS=True, tls=tls, **what)
            async with working(rig, Emitted(rig)) as worker:
                await within(lambda worker=worker: bool(worker.started), "it is let in")
        stranger = trustme.CA().cert_pem.bytes().decode()
        for refused in ({"ca": stranger}, {}):
            with pytest.raises(Disconnected, match=r"(?i)certificate.verify.failed"):
                await run_once(server, enableTLS=True, tls=refused)
        with pytest.raises(Disconnected):
            await run_once(server, tls={"ca": ca})  # without a certificate of its own
        with pytest.raises(Disconnected):
            await run_once(server)  # in plain text


# -- Sentinels ------------------------------------------------------------------------


class Pair:
    """A master and its replica, watched by three Sentinels."""

    def __init__(self, servers: list[RedisServer], sentinels: list[RedisSentinel]) -> None:
        self.servers = servers
        self.sentinels = sentinels

    async def replicated(self) -> bool:
        async with Redis(host="127.0.0.1", port=self.servers[0].port) as client:
            found = await client.info("replication")
        slave = found.get("slave0", {})
        return bool(slave) and slave["offset"] == found["master_repl_offset"]

    async def watched(self) -> bool:
        """Whether each Sentinel knows the others and the replica."""
        for sentinel in self.sentinels:
            async with Redis(host="127.0.0.1", port=sentinel.port) as client:
                found = (await client.sentinel_masters())["shop"]
            if found["num-other-sentinels"] < 2 or found["num-slaves"] < 1:
                return False
        return True


@asynccontextmanager
async def watched_pair(folder: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        master = await stack.enter_async_context(RedisServer(folder / "master"))
        replica = RedisServer(folder / "replica", replica_of=master.port)
        await stack.enter_async_context(replica)
        sentinels = [RedisSentinel(folder / f"s{n}", master.port, quorum=2) for n in range(3)]
        for each in sentinels:
            await stack.enter_async_context(each)
        pair = Pair([master, replica], sentinels)
        await until(pair.watched, seconds=60, what="the Sentinels know each other")
        yield pair


async def test_a_fail_over_is_followed(tmp_path: Path) -> None:
    async with watched_pair(tmp_path) as pair:
        master, replica = pair.servers
        hosts = ",".join(each.address for each in pair.sentinels)
        rig = RedisRig(
            master, 500, redisHost=hosts, failover=True, sentinelMasterName="shop", readTimeout="1s"
        )
        emit = Emitted(rig)
        async with working(rig, emit) as worker:
            before = await rig.feed(20)
            await emit.settles(before)
            await until(pair.replicated, seconds=60, what="the replica has all")
            await master.kill()
            await within(lambda: bool(worker.lost), "Disconnected was raised")
            await within(lambda: replica.address in worker.started[-1], "the replica is found")
            rig.server = replica
            after = await rig.feed(20)
            await emit.settles([*before, *after])
        assert all(len(ids) == 1 for ids in emit.ids().values())


async def test_sentinels_that_do_not_know_the_master_say_so(tmp_path: Path) -> None:
    async with (
        RedisServer(tmp_path / "m") as server,
        RedisSentinel(tmp_path / "s", server.port, quorum=1) as sentinel,
    ):
        fields = {"redisHost": sentinel.address, "failover": True, "sentinelMasterName": "till"}
        with pytest.raises(Disconnected, match="knows no master 'till'"):
            await run_once(server, **fields)


# -- a cluster ------------------------------------------------------------------------


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[list[RedisServer]]:
    """Two masters; the first has the slots below 8192."""
    async with AsyncExitStack() as stack:
        # Their default, 10000 above the port of clients, is none for the highest of these.
        gossip = [free_port() for _ in range(2)]
        nodes = [
            RedisServer(folder / f"n{n}", extra=["cluster-enabled yes", f"cluster-port {port}"])
            for n, port in enumerate(gossip)
        ]
        for number, node in enumerate(nodes):
            await stack.enter_async_context(node)
            async with Redis(host="127.0.0.1", port=node.port) as client:
                slots = (0, 8191) if number == 0 else (8192, 16383)
                await client.execute_command("CLUSTER ADDSLOTSRANGE", *slots)
                first = (nodes[0].port, gossip[0])
                await client.execute_command("CLUSTER MEET", "127.0.0.1", *first)

        async def joined() -> bool:
            states = []
            for node in nodes:
                async with Redis(host="127.0.0.1", port=node.port) as client:
                    states.append(str(await client.execute_command("CLUSTER INFO")))
            return all("ok" in state and "cluster_size': '2" in state for state in states)

        await until(joined, seconds=60, what="the cluster is whole")
        yield nodes


async def test_the_node_of_the_slot_is_found(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        addresses = ",".join(node.address for node in nodes)
        where = 0 if key_slot(b"orders") < 8192 else 1
        rig = RedisRig(nodes[where], 500, redisHost=addresses, redisType="cluster")
        emit = Emitted(rig)
        async with working(rig, emit) as worker:
            await emit.settles(await rig.feed(5))
            assert nodes[where].address in worker.started[0]
        with pytest.raises(ConfigError, match="part of a cluster") as caught:
            await run_once(nodes[1 - where])
        assert caught.value.path == "spec.redis.orders.redisType"
        quiet = RedisRig(nodes[0], 500, redisHost=addresses, redisType="cluster", channel="c")
        heard = Emitted(quiet)
        async with working(quiet, heard):
            quiet.server = nodes[1]  # any node passes a message on to all
            await heard.settles(await quiet.feed(2))
