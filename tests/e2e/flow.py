"""The installation that the flow tests run: a real Kafka, a real nats-server, one folder.

Kafka, webhook -> EventSource github -> Trigger reviews -> HTTP sink, topic `opened`
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.e2e.processes import specs
from tests.servers import free_port
from tests.servers.kafka import KafkaServer
from tests.servers.nats import NatsServer
from tests.servers.octokit import Webhook
from tests.servers.sink import SinkProcess, sink_process

SECRET = "a-shared-secret"
TOPIC = "github-events"
OPENED = "has(event.data.action) && event.data.action == 'opened' && has(event.data.pull_request)"
"""Opened pull requests; an issue can be opened too, and a push has no action."""

RESOURCES = """
apiVersion: v1
kind: Secret
metadata: {{name: github}}
stringData: {{token: {secret}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {{name: default}}
spec:
  jetstream: {{url: "{bus}", maxBytes: {max_bytes}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {{name: github}}
spec:
  eventBus: default
  webhook:
    hooks:
      host: 127.0.0.1
      port: {port}
      path: /github
      idHeader: X-GitHub-Delivery
      typeHeader: X-GitHub-Event
      auth:
        hmac: {{secret: {{valueFrom: {{secretKeyRef: {{name: github, key: token}}}}}}}}
  kafka:
    records:
      brokers: {brokers}
      topic: {topic}
      authRequired: false
      config: {{session.timeout.ms: "1500", heartbeat.interval.ms: "300"}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {{name: reviews}}
spec:
  eventBus: default
  startFrom: earliest
  inputs:
    hooks: {{eventSource: github, event: hooks, filter: "{filter}"}}
    records: {{eventSource: github, event: records, filter: "{filter}"}}
  subscribers:
  - name: review
    sink: {{uri: {sink}}}
    delivery: {{timeout: 60s, concurrency: {concurrency}}}
  - name: audit
    topic: opened
"""


@dataclass(frozen=True, slots=True)
class Flow:
    """What runs, and where the resolved specs are: `github/hooks`, `reviews`, ..."""

    folder: Path
    specs: dict[str, Path]
    kafka: KafkaServer
    bus: NatsServer
    sink: SinkProcess
    port: int

    @property
    def hook(self) -> str:
        return f"http://127.0.0.1:{self.port}/github"


@asynccontextmanager
async def flow(
    folder: Path,
    *,
    filter: str = OPENED,
    concurrency: int = 32,
    delay: float = 0.0,
    max_bytes: str = "256Mi",
) -> AsyncIterator[Flow]:
    """Servers and specs; the test starts the workers.

    `delay` is the sink's, in seconds. The Trigger writes the topic `opened`, too. A call that
    times out is made again: what is judged to come once must not, while the sink waits for
    its turn on a busy machine.
    """
    port = free_port()
    async with (
        KafkaServer() as kafka,
        NatsServer(folder / "nats") as bus,
        sink_process(delay=delay) as sink,
    ):
        await kafka.create_topic(TOPIC, 4, config={"max.message.bytes": "12000000"})
        resources = folder / "resources.yaml"
        resources.write_text(
            RESOURCES.format(
                secret=SECRET,
                bus=bus.url,
                max_bytes=max_bytes,
                port=port,
                brokers=kafka.brokers,
                topic=TOPIC,
                filter=filter,
                sink=sink.url,
                concurrency=concurrency,
            )
        )
        made = await specs(resources, folder / "specs")
        yield Flow(folder, made, kafka, bus, sink, port)


def opened(call: Webhook) -> bool:
    """What OPENED says, in Python."""
    data = json.loads(call.body)
    return data.get("action") == "opened" and "pull_request" in data


async def post(url: str, call: Webhook, *, secret: str = SECRET) -> int:
    """Send it as GitHub does; the status."""
    digest = hmac.new(secret.encode(), call.body, hashlib.sha256).hexdigest()
    headers = {
        "content-type": "application/json",
        "x-github-event": call.name,
        "x-github-delivery": call.id,
        "x-hub-signature-256": f"sha256={digest}",
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=call.body, headers=headers) as answer,
    ):
        return answer.status


async def write(kafka: KafkaServer, bodies: list[bytes], *, first: int = 0) -> list[str]:
    """Write them to the topic, over its partitions in turn; the ids that they will have."""
    stamp = 1_769_860_800_000
    records = [
        {"value": body, "partition": (first + n) % 4, "timestamp": stamp + n}
        for n, body in enumerate(bodies)
    ]
    await kafka.produce(TOPIC, records)
    return [f"{TOPIC}/{(first + n) % 4}/{(first + n) // 4}@{stamp + n}" for n in range(len(bodies))]
