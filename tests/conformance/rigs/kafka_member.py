"""One member of a consumer group in a process of its own, to be killed and paused.

python tests/conformance/rigs/kafka_member.py NAME BROKERS TOPIC FILE SESSION

Its emit writes to FILE, which all members append to, one line per record:
`offered NAME PARTITION OFFSET` when it begins and `settled ...` when it returns. What
it holds is small, so that what it repeats can be told from what it lost.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Final

from ofevents import process
from ofevents.api.kafka import KafkaSpec
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.ports import Reply, SourceIdentity
from ofevents.process import Stop, unless
from ofevents_adapters import kafka

IN_FLIGHT: Final = 400
BATCH: Final = 20
DELAY: Final = 0.03
"""Seconds that each emit takes."""
SESSION: Final = 5.0
"""Seconds after which the group takes a silent member for dead: more than a busy machine's pause,
as what a live one has in hand would come again, which nobody has allowed it."""


def identity(topic: str) -> SourceIdentity:
    return SourceIdentity("default", topic, "kafka", "orders")


async def main(name: str, brokers: str, topic: str, file: str, session: str) -> None:
    """Read until SIGTERM; `session` in seconds."""
    log = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(what: str, events: tuple[Event, ...]) -> None:
        places = [event.id.partition("@")[0].split("/")[-2:] for event in events]
        lines = [f"{what} {name} {partition} {offset}\n" for partition, offset in places]
        os.write(log, "".join(lines).encode())

    async def emit(*events: Event) -> Reply | None:
        write("offered", events)
        await asyncio.sleep(DELAY)
        write("settled", events)
        return None

    kafka.IN_FLIGHT, kafka.BATCH = IN_FLIGHT, BATCH  # type: ignore[misc]
    spec = KafkaSpec(
        brokers=[brokers],
        topic=topic,
        config={
            "session.timeout.ms": str(int(float(session) * 1000)),
            "heartbeat.interval.ms": "300",
            "topic.metadata.refresh.interval.ms": "500",
        },
    )
    clock = SystemClock()
    source = kafka.KafkaSource(spec, identity(topic), clock=clock)
    store = MemoryStore(Broker(max_bytes=1_000_000, window=60), clock)
    stop = Stop()
    with stop.listening():
        await unless(stop.event, source.run(emit, store=store, started=lambda _: None))


if __name__ == "__main__":
    process.run(main(*sys.argv[1:6]))
