"""`ofevents run` on a dapr bus: it runs a daprd, and the Trigger works as on any bus.

A webhook, a Trigger with a filter, a subscriber that is away at first (its deliveries go
to the inbox, and are retried at due times that Dapr cannot keep), a sidecar that is
killed, and a run that is killed: nothing is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import nats
import psutil
import pytest
import yaml

from ofevents.bus import topics
from ofevents.bus.dapr_components import Names
from ofevents.bus.dapr_options import read_options
from tests.e2e.processes import Ofevents, call
from tests.servers import daprd, free_port, until
from tests.servers.kafka import KafkaServer
from tests.servers.nats import NatsServer
from tests.servers.redis import RedisServer
from tests.servers.sink import Answer, Sink

pytestmark = pytest.mark.timeout(600)
NAMED = (
    topics.event("default", "shop", "orders"),
    topics.inbox("default", "billing", "charge"),
    topics.dead("default", "billing"),
    topics.dead("default", "source/shop"),
)
"""The topics that somebody has to create on Kafka."""


@asynccontextmanager
async def broker(name: str, folder: Path) -> AsyncIterator[dict[str, object]]:
    """The pub/sub component of a broker that has what the run needs."""
    if name == "jetstream":
        async with NatsServer(folder / "nats") as server:
            client = await nats.connect(server.url)
            await client.jetstream().add_stream(name="ofevents", subjects=["ofevents.>"])
            await client.close()
            yield component("pubsub.jetstream", natsURL=server.url)
        return
    async with KafkaServer() as kafka:
        found = component("pubsub.kafka", brokers=kafka.brokers, authType="none")
        names = Names(read_options({"pubsub": found}), "default")
        for topic in NAMED:
            await kafka.create_topic(names.topic(topic), 2)
        yield found


def component(type: str, **settings: str) -> dict[str, object]:
    return {"type": type, "metadata": [{"name": k, "value": v} for k, v in settings.items()]}


def write(folder: Path, pubsub: object, redis: RedisServer, port: int, sink: str) -> None:
    state = component("state.redis", redisHost=redis.address)
    hook = {"orders": {"port": port, "path": "/orders"}}
    documents = [
        ("EventBus", "default", {"dapr": {"pubsub": pubsub, "state": state}}),
        ("EventSource", "shop", {"eventBus": "default", "webhook": hook}),
        (
            "Trigger",
            "billing",
            {
                "eventBus": "default",
                "inputs": {"orders": {"eventSource": "shop", "event": "orders"}},
                "subscribers": [
                    {
                        "name": "charge",
                        "condition": "orders && event.data.amount > 100",
                        "sink": {"uri": sink},
                        "delivery": {"backoff": "200ms", "maxBackoff": "1s"},
                    }
                ],
            },
        ),
    ]  # fmt: skip
    folder.mkdir()
    (folder / "all.yaml").write_text(
        yaml.safe_dump_all(
            {
                "apiVersion": "events.openfunction.io/v1alpha1",
                "kind": kind,
                "metadata": {"name": name},
                "spec": spec,
            }
            for kind, name, spec in documents
        )
    )


async def order(url: str, id: str, amount: int) -> None:
    """Post one until it is taken."""
    headers = {"ce-id": id, "ce-source": "/test", "ce-type": "order", "ce-specversion": "1.0"}

    async def taken() -> bool:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(url, json={"amount": amount}, headers=headers) as answer,
            ):
                return answer.status == 202
        except aiohttp.ClientError:
            return False

    await until(taken, seconds=90, what=f"{id} is taken")


def sidecars(folder: Path) -> list[psutil.Process]:
    """The daprds that run for this folder."""
    found = [
        (one, one.info["cmdline"])
        for one in psutil.process_iter(["cmdline", "status"])  # leaves out who ends meanwhile
        if one.info["cmdline"] and one.info["status"] != psutil.STATUS_ZOMBIE
    ]
    return [
        one
        for one, line in found
        if Path(line[0]).name.startswith("daprd") and str(folder) in " ".join(line)
    ]


@pytest.mark.parametrize("name", ["jetstream", "kafka"])
async def test_nothing_is_lost(tmp_path: Path, name: str) -> None:
    port, files = free_port(), tmp_path / "files"
    hook = f"http://127.0.0.1:{port}/orders"
    binary = await asyncio.to_thread(daprd.binary)
    async with (
        RedisServer(tmp_path / "redis") as redis,
        broker(name, tmp_path) as pubsub,
        Sink() as sink,
    ):
        write(files, pubsub, redis, port, sink.url)
        sink.answer = lambda seen: Answer(503)
        run = Ofevents(tmp_path / "logs", "run", "-f", files, "--daprd", binary)
        async with run:
            wanted = [f"first-{n}" for n in range(20)]
            for id in wanted:
                await order(hook, id, 150)
            await order(hook, "small", 50)
            await until(lambda: len(sink.ids) > 5, seconds=90, what="it calls its subscriber")
            # The sidecar dies under it.
            (sidecar,) = sidecars(tmp_path)
            sidecar.kill()
            for n in range(10):
                wanted.append(f"second-{n}")
                await order(hook, wanted[-1], 150)
            # And then the run itself.
            await run.kill()
            await run.start()
            sink.answer = lambda seen: Answer(200)
            called = len(sink.seen)
            wanted += ["third", "sent"]
            await order(hook, "third", 150)
            # Another process finds the sidecar, and publishes through it.
            to = ("--to", "shop/orders", "--id", "sent", "--data", '{"amount": 150}')
            code, printed = await call("send", *to, "-f", files)
            assert code == 0, printed
            code, printed = await call("topics", "-f", files)
            assert code != 0 and "counts neither messages nor lag" in printed
            await until(
                lambda: (
                    set(wanted) <= {one.id for seen in sink.seen[called:] for one in seen.events}
                ),
                seconds=180,
                what="every order is charged",
            )
            assert "small" not in sink.ids
            assert len(sidecars(tmp_path)) == 1
            assert await run.interrupt() == 0
        assert sidecars(tmp_path) == []


async def test_without_a_daprd_it_says_how_to_get_one(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path / "redis")
    write(
        tmp_path / "files",
        component("pubsub.redis", redisHost="127.0.0.1:1"),
        redis,
        1,
        "http://127.0.0.1:1/",
    )
    code, printed = await call("run", "-f", tmp_path / "files", "--daprd", tmp_path / "none")
    assert code != 0
    assert "--daprd" in printed and "no program is there" in printed
