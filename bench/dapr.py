"""Stage "dapr": the dapr bus beside raw loops on real sidecars, in one run.

On Kafka (4 partitions) and on JetStream, events of about 300 bytes. Two yardsticks, both
of `bench.raw_dapr`, with none of our code:

- the plain SDK: one `publish_event` per event, 100 calls at a time, and `subscribe`, on
  one component; on a topic and a sidecar of its own, after the others.
- the raw bulk loops, on the stubs that the SDK brings: bulk publishes of prebuilt
  CloudEvents, and a gRPC callback that acknowledges whole batches (Kafka), or one stream
  per component (JetStream). They use the components that ours uses.

Ours encodes and decodes each event as well. Bounds: Kafka 15,000 events/s published, and
8,000 consumed or 60 % of the raw bulk loop's rate in the same run; JetStream 6,000 and
1,500; and how many times the plain SDK's rate that is. A quick run has none of them: it
shows that the loops work.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import orjson

from bench import raw_dapr
from bench.load import row
from bench.raw_dapr import together
from ofevents.api.resolved import ResolvedBus
from ofevents.bus import topics
from ofevents.bus.dapr import DaprBus
from ofevents.bus.dapr_components import Names, consumer, manifests, subscriptions
from ofevents.bus.dapr_files import write
from ofevents.bus.dapr_options import read_options
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.ports import DONE, Consumer, Message, Received
from tests.servers import free_port, until
from tests.servers.daprd import Daprd, component
from tests.servers.kafka import KafkaServer
from tests.servers.nats import NatsServer

Row = dict[str, Any]
TOPIC = topics.event("bench", "orders", "created")
GROUP = topics.trigger_group("bench", "all")
RAW_GROUP = topics.trigger_group("bench", "raw")
DATA = orjson.dumps({"orderId": "o-123456", "amount": 150.5, "pad": "x" * 150})
CALL, CALLS = 200, 4
"""Events of one publish call, and calls at a time; ours, and of the raw bulk loop."""
RAW = {"kafka": ("bulk calls", "bulk callback"), "jetstream": ("bulk calls", "streams")}
SDK_COUNT = 5_000
"""Events of the plain SDK, which is some times slower; few in a quick run."""
SDK_GROUP = {
    "pubsub.kafka": {"consumerGroup": "sdk", "initialOffset": "oldest"},
    "pubsub.jetstream": {"durableName": "sdk", "ackWait": "30s"},
}


def events(count: int, run: str) -> list[Event]:
    """Each tells its content type, without which Dapr hands the plain SDK no data."""
    json = "application/json"
    return [
        Event.create(id=f"{run}-{n}", source="/bench", type="t", datacontenttype=json, data=DATA)
        for n in range(count)
    ]


class Setup:
    """One daprd with the components of our group and of the raw loop's."""

    def __init__(self, folder: Path, pubsub: dict[str, Any], lanes: int) -> None:
        self.port, self.raw_port = free_port(), free_port()
        self.daprd = Daprd(folder / "ours", app_port=self.port)
        self.raw = Daprd(folder / "raw", app_id="raw", app_port=self.raw_port)
        self.options = {"pubsub": pubsub, "lanes": lanes, "ack_wait": 30.0}
        self.lanes = lanes
        read = read_options({**self.options, "app_port": self.port})
        self.names = Names(read, "default")
        for one in (self.daprd, self.raw):
            write(one.resources, "base.yaml", manifests(read, "default", ()))
        for find in (consumer, subscriptions):
            found = find(read, self.names, RAW_GROUP, [TOPIC])
            if found:
                write(self.raw.resources, f"{find.__name__}.yaml", found)

    @asynccontextmanager
    async def bus(self) -> AsyncIterator[DaprBus]:
        given = {
            **self.options,
            "sidecar": self.daprd.address,
            "app_port": self.port,
            "resources": str(self.daprd.resources),
        }
        async with DaprBus(ResolvedBus(driver="dapr", options=given), clock=SystemClock()) as bus:
            yield bus


async def ours(setup: Setup, count: int) -> tuple[float, float]:
    """Events per second, published and consumed with their bodies decoded."""
    sent = [Message(one, "bench") for one in events(count, "ours")]
    async with setup.bus() as bus:
        await bus.publish(TOPIC, *sent[:1])
        parts = [sent[at : at + CALL] for at in range(0, count, CALL)]
        calls = [lambda part=part: bus.publish(TOPIC, *part) for part in parts]
        published = count / await together(calls, CALLS)
        await bus.ensure([TOPIC], [Consumer(GROUP, (TOPIC,), start="earliest")])
        seen: set[str] = set()
        times: list[float] = []

        async def handler(received: list[Received]) -> None:
            for one in received:
                if isinstance(one.body, Event):
                    seen.add(one.body.id)
                one.settle(DONE)
            times.append(time.perf_counter())

        stop = asyncio.Event()
        consuming = asyncio.create_task(
            bus.consume([TOPIC], GROUP, handler, in_flight=1000, started=lambda: None, stop=stop)
        )
        await until(
            lambda: len(seen) >= count, seconds=120, what=f"{count} events, {len(seen)} came"
        )
        stop.set()
        await consuming
    return published, count / (times[-1] - times[0])


async def raw_publish(setup: Setup, count: int) -> float:
    """Bulk publishes of the same events by the stub."""
    bodies = [one.to_json() for one in events(count, "raw")]
    names = setup.names
    return await raw_dapr.publish_bulk(
        setup.raw.address, names.pubsub, names.topic(TOPIC), bodies, size=CALL, most=CALLS
    )


async def sdk(folder: Path, pubsub: dict[str, Any], topic: str, count: int) -> tuple[float, float]:
    """The plain SDK on a topic and a sidecar of its own: published, and consumed."""
    settings = {one["name"]: one["value"] for one in pubsub["metadata"]}
    group = SDK_GROUP[pubsub["type"]]
    resource = component("sdk", pubsub["type"], **settings, **group)
    bodies = [one.to_json() for one in events(count, "sdk")]
    async with Daprd(folder / "sdk", [resource], app_id="sdk") as daprd:
        return await raw_dapr.sdk(daprd, "sdk", topic, bodies)


def rows(
    broker: str,
    raw: tuple[float, float],
    sdk: tuple[float, float],
    ours: tuple[float, float],
    leasts: tuple[float, float],
    times: tuple[float, float],
    *,
    quick: bool,
) -> list[Row]:
    """The figures of publishing, and then of consuming.

    Args:
        leasts: ours, at least; events per second.
        times: ours is so many times the plain SDK's, at least.
    """
    found = []
    for what, index in (("publish", 0), ("consume", 1)):
        least, factor = (None, None) if quick else (leasts[index], times[index])
        ratio = ours[index] / sdk[index]
        found += [
            row(f"{broker}: {what}, plain SDK", sdk[index], "events/s"),
            row(f"{broker}: {what}, raw {RAW[broker][index]}", raw[index], "events/s"),
            row(f"{broker}: {what}, dapr bus", ours[index], "events/s", least=least),
            row(f"{broker}: {what}, dapr bus / plain SDK", ratio, "", least=factor),
        ]
    return found


async def kafka(folder: Path, count: int, quick: bool) -> list[Row]:
    async with KafkaServer() as server:
        pubsub = _pubsub("pubsub.kafka", {"brokers": server.brokers, "authType": "none"})
        setup = Setup(folder, pubsub, lanes=2)
        await server.create_topic(setup.names.topic(TOPIC), 4)
        await server.create_topic("sdk", 4)
        async with setup.daprd, setup.raw:
            raw_published = await raw_publish(setup, count)
            ours_both = await ours(setup, count)
            # The raw group reads all that both have published, and the first one.
            raw_consumed = await raw_dapr.consume_bulk(setup.raw_port, 2 * count + 1)
        sdk_both = await sdk(folder, pubsub, "sdk", 500 if quick else SDK_COUNT)
    leasts = (15_000.0, min(8_000.0, 0.6 * raw_consumed))
    raw = (raw_published, raw_consumed)
    return rows("kafka", raw, sdk_both, ours_both, leasts, (3, 4), quick=quick)


async def jetstream(folder: Path, count: int, quick: bool) -> list[Row]:
    async with NatsServer(folder / "nats") as server:
        pubsub = _pubsub("pubsub.jetstream", {"natsURL": server.url})
        setup = Setup(folder, pubsub, lanes=8)
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="ofevents", subjects=["ofevents.>"])
        await client.jetstream().add_stream(name="sdk", subjects=["sdk.>"])
        await client.close()
        async with setup.daprd, setup.raw:
            raw_published = await raw_publish(setup, count)
            ours_both = await ours(setup, count)
            lanes, topic = setup.names.lanes(RAW_GROUP, TOPIC), setup.names.topic(TOPIC)
            raw_consumed = await raw_dapr.consume_streams(
                setup.raw.address, lanes, topic, 2 * count
            )
        sdk_both = await sdk(folder, pubsub, "sdk.events", 500 if quick else SDK_COUNT)
    raw = (raw_published, raw_consumed)
    return rows("jetstream", raw, sdk_both, ours_both, (6_000.0, 1_500.0), (2, 1.2), quick=quick)


def _pubsub(type: str, settings: dict[str, str]) -> dict[str, Any]:
    return {"type": type, "metadata": [{"name": k, "value": v} for k, v in settings.items()]}


def run(*, quick: bool) -> list[Row]:
    """The figures, ours beside the raw loops' and the plain SDK's."""
    found: list[Row] = []
    for stage, count in ((kafka, 40_000), (jetstream, 10_000)):
        with tempfile.TemporaryDirectory() as folder:
            found += asyncio.run(stage(Path(folder), 2_000 if quick else count, quick))
    return found
