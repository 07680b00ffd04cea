"""The `mqtt` source on a real Mosquitto: one for each check, as checks kill it.

One source in several: by the version of MQTT and the QoS, and shared by workers. The
publisher is another implementation of MQTT than the source's own.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import threading
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ofevents.api.messaging import MqttSpec
from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.ports import SourceIdentity, Store
from ofevents_adapters import mqtt_session
from ofevents_adapters.mqtt import MqttSource
from tests.servers.mosquitto import Mosquitto

IDENTITY = SourceIdentity("default", "shop", "mqtt", "orders")
Record = tuple[str, bytes, Mapping[str, Any]]
"""Topic, payload, and MQTT 5 properties by paho's names (`retain` is our own)."""


def publish(port: int, records: Iterable[Record], qos: int, **options: Any) -> None:
    """Send messages and return when the broker has them; blocks."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    if "login" in options:
        client.username_pw_set(*options["login"])
    if "tls" in options:
        client.tls_set_context(options["tls"])
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        sent = []
        for topic, payload, wanted in records:
            properties = Properties(PacketTypes.PUBLISH)
            for name, value in wanted.items():
                if name != "retain":
                    setattr(properties, name, value)
            retain = bool(wanted.get("retain"))
            sent.append(client.publish(topic, payload, qos, retain=retain, properties=properties))
        for one in sent:
            one.wait_for_publish(60)
            if not one.is_published():
                raise TimeoutError("the broker did not take a message")
    finally:
        client.disconnect()
        client.loop_stop()


class MqttRig:
    """See `SourceRig`; `fields` are further ones of the spec."""

    breakable = True
    poisonable = True

    def __init__(self, server: Mosquitto, **fields: Any) -> None:
        self.store: Store | None = MemoryStore(
            Broker(max_bytes=1_000_000, window=60), SystemClock()
        )
        self.server = server
        self.in_flight = mqtt_session.BATCH
        self.fields = fields
        self.options: dict[str, Any] = {}
        self.features = self.make().features
        self._count = itertools.count()

    def make(self) -> MqttSource:
        document = {"url": self.server.url, "topic": "orders/#", **self.fields}
        return MqttSource(MqttSpec.model_validate(document), IDENTITY, clock=SystemClock())

    async def feed(self, count: int) -> Sequence[str]:
        numbers = [next(self._count) for _ in range(count)]
        await self.publish(
            *((f"orders/{n % 7}", b'{"number":%d,"pad":"%s"}' % (n, b"x" * 200), {})
              for n in numbers)
        )  # fmt: skip
        return [str(n) for n in numbers]

    async def publish(self, *records: Record, qos: int | None = None) -> None:
        """Send (topic, payload, properties); returns when the broker has them."""
        wanted = self.fields.get("qos", 1) if qos is None else qos
        # A thread of its own: the suite looks for threads that are left.
        done: Future[None] = Future()

        def work() -> None:
            try:
                publish(self.server.port, records, wanted, **self.options)
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        threading.Thread(target=work).start()
        await asyncio.wrap_future(done)

    def key(self, event: Event) -> str:
        value = event.value if event.type == "ofevents.mqtt" else None
        return str(value["number"]) if isinstance(value, dict) else ""

    async def poison(self) -> bool:
        claim = {"ContentType": "application/cloudevents+json"}
        await self.publish(("orders/0", b"\xff not JSON", claim))
        return "protocol" in self.fields  # MQTT 3.1.1 cannot say it: they are bytes

    async def break_(self) -> None:
        await self.server.kill()

    async def restart(self) -> None:
        await self.server.start()


@asynccontextmanager
async def _opened(**fields: Any) -> AsyncIterator[MqttRig]:
    with tempfile.TemporaryDirectory() as folder:
        async with Mosquitto(Path(folder)) as server:
            yield MqttRig(server, **fields)


def open_qos0() -> Any:
    return _opened(qos=0)


def open_qos1() -> Any:
    return _opened()


def open_qos2() -> Any:
    return _opened(qos=2)


def open_v5() -> Any:
    return _opened(protocol="5")


def open_v5_qos2() -> Any:
    return _opened(protocol="5", qos=2)


def open_shared() -> Any:
    return _opened(protocol="5", topic="$share/readers/orders/#")
