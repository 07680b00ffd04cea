"""`ofevents trigger --remove`, beside a real daprd: what a Trigger has on a dapr bus is gone.

Its components are those that the controller renders; a Trigger of the same name begins anew.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from ofevents.api.resolved import HttpTarget, ResolvedBus, ResolvedSubscriber
from ofevents.bus.dapr_components import Names
from ofevents.bus.dapr_options import read_options
from ofevents.controller.render import Platform, Workload, child_name, children
from tests.e2e.processes import OFEVENTS, Program, get
from tests.servers import free_port, until
from tests.servers.daprd import Daprd
from tests.servers.kafka import KafkaServer
from tests.servers.redis import RedisServer
from tests.unit.controller.render.samples import OWNER, trigger

pytestmark = [pytest.mark.server("redis"), pytest.mark.timeout(500)]


SUBSCRIBER = ResolvedSubscriber(
    name="log", target=HttpTarget(uri="http://127.0.0.1:1/"), inbox="inbox.shop.audit.log"
)


def component(type: str, **metadata: str) -> Any:
    settings = [{"name": name, "value": value} for name, value in metadata.items()]
    return {"type": type, "version": "v1", "metadata": settings}


@asynccontextmanager
async def broker(name: str, redis: RedisServer) -> AsyncIterator[Any]:
    """The pub/sub component: of Redis, which is read on streams, or Kafka, which calls its app."""
    if name == "redis":
        yield component("pubsub.redis", redisHost=redis.address)
        return
    async with KafkaServer() as kafka:
        found = component("pubsub.kafka", brokers=kafka.brokers, authType="none")
        names = Names(read_options({"pubsub": found}), "shop/default")
        for topic in ("event.shop.orders.tick", SUBSCRIBER.inbox, "dead.shop.audit"):
            await kafka.create_topic(names.topic(topic), 1)
        yield found


def rendered(pubsub: Any, state: Any, folder: Path, port: int) -> tuple[str, list[Any], Path]:
    """The worker's app id, its Dapr resources, and its spec as its Pod has it."""
    bus = ResolvedBus(
        name="shop/default", driver="dapr", options={"pubsub": pubsub, "state": state}
    )
    spec = trigger(bus=bus, subscribers=(SUBSCRIBER,))
    made = children(OWNER, [Workload(spec)], Platform(image="x", dapr=True)).manifests
    (config,) = (each for each in made if each["kind"] == "ConfigMap")
    text = json.loads(config["data"]["spec.json"])
    text["bus"]["options"]["app_port"] = port  # A Pod has that port to itself.
    file = folder / "spec.json"
    file.write_text(json.dumps(text))
    resources = [each for each in made if each["apiVersion"].startswith("dapr.io/")]
    return child_name(spec), resources, file


@asynccontextmanager
async def beside(daprd: Daprd, folder: Path, spec: Path, *more: str) -> AsyncIterator[Program]:
    """`ofevents trigger` with that sidecar, once it is ready."""
    port = free_port()
    command = [str(OFEVENTS), "trigger", *more, "-f", str(spec), "--port", str(port)]
    ports = {"DAPR_GRPC_PORT": str(daprd.grpc), "DAPR_HTTP_PORT": str(daprd.http)}
    async with Program(folder, *command, **ports) as program:

        async def ready() -> bool:
            status, _ = await get(f"http://127.0.0.1:{port}/readyz")
            return status == 200

        await until(ready, seconds=120, what=f"{' '.join(more) or 'the worker'} is ready")
        yield program


@pytest.mark.parametrize("name", ["redis", "kafka"])
async def test_nothing_is_left_in_the_store(tmp_path: Path, name: str) -> None:
    async with RedisServer(tmp_path / "redis") as redis, broker(name, redis) as pubsub:
        port = free_port()
        state = component("state.redis", redisHost=redis.address)
        app, resources, spec = rendered(pubsub, state, tmp_path, port)
        client = Redis(port=redis.port)

        async def kept() -> set[str]:
            """The entries of the store: what is deleted leaves a marker for an hour."""
            found = set()
            async for key in client.scan_iter("*||s/*"):
                entry = json.loads(await client.hget(key, "data") or b"{}")
                if "v" in entry and not entry.get("d"):
                    found.add(key.decode().partition("||s/")[2])
            return found

        async def begun() -> bool:
            return any(each.startswith("dapr-groups/") for each in await kept())

        called = port if name == "kafka" else 0
        async with Daprd(tmp_path / "daprd", resources, app_id=app, app_port=called) as daprd:

            async def well() -> bool:
                """As the kubelet asks, before a Pod is ready."""
                status, _ = await get(f"http://127.0.0.1:{daprd.http}/v1.0/healthz")
                return status == 204

            async with beside(daprd, tmp_path, spec) as worker:
                await until(begun, seconds=60, what="it has a place in the store")
                await worker.terminate()
            # As in a Pod of its own, which has a sidecar of its own.
            await daprd.restart()
            before = await kept()
            async with beside(daprd, tmp_path, spec, "--remove") as last:
                assert await kept() == set(), f"of {sorted(before)}"
                await until(well, seconds=60, what="its sidecar is ready")
                assert await last.terminate() == 0
        await client.aclose()
