"""Rigs for the Subscriber suite: an output binding and an app, each behind a real daprd.

What breaks is the sidecar. The app's sidecar is its own, so that no name is looked up
on the network.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from ofevents.api import dapr
from ofevents.api.platform import DaprComponent
from ofevents.api.resolved import HttpTarget, ResolvedDelivery, SinkTarget
from ofevents.clock import SystemClock
from ofevents.conformance.check_subscriber import SUBSCRIBER, Rig
from ofevents.event import Event
from ofevents.ports import Subscriber
from ofevents.subscriber import open_subscriber
from tests.conformance.rigs.sinks import KafkaReader, SinkRig, shared
from tests.servers.daprd import Daprd
from tests.servers.kafka import KafkaServer
from tests.servers.sink import Sink

T = TypeVar("T")


@asynccontextmanager
async def dapr_binding() -> AsyncIterator[Rig]:
    """Structured: a binding has no place for attributes."""
    server = await shared(KafkaServer)
    topic = f"sink-{uuid.uuid4().hex[:8]}"
    await server.create_topic(topic)
    settings = {"brokers": server.brokers, "authType": "none", "publishTopic": topic}
    component = DaprComponent.model_validate(
        {
            "type": "bindings.kafka",
            "metadata": [{"name": key, "value": value} for key, value in settings.items()],
        }
    )
    reader = KafkaReader(server.brokers, topic)
    with tempfile.TemporaryDirectory() as folder:
        async with Daprd(Path(folder), [dapr.output_component("out", component)]) as daprd:
            fields: dict[str, Any] = {"componentName": "out", "operation": "create"}
            target = SinkTarget(sink="dapr", spec={**fields, "sidecar": daprd.address})
            try:
                yield SinkRig(target, daprd, reader, "binary", typed=True)
            finally:
                await asyncio.to_thread(reader.close)


class AppRig:
    """An app that is invoked."""

    typed = False
    largest = 900_000

    def __init__(self, daprd: Daprd, app: Sink, elsewhere: Elsewhere) -> None:
        self.daprd = daprd
        self.app = app
        self._elsewhere = elsewhere
        url = dapr.invoke_url("dapr://billing/orders/paid", f"http://127.0.0.1:{daprd.http}")
        self.target = HttpTarget(uri=url)

    def open(self, options: ResolvedDelivery) -> AbstractAsyncContextManager[Subscriber]:
        return open_subscriber(
            self.target,
            bus=None,
            subscriber_id=SUBSCRIBER,
            clock=SystemClock(),
            options=options,
        )

    async def arrived(self) -> list[Event]:
        return [event for seen in self.app.seen for event in seen.events]

    async def end_app(self) -> None:
        """The app is gone, its sidecar is not."""
        await self._elsewhere(self.app.stop())

    async def break_(self) -> None:
        await self.daprd.kill()

    async def restart(self) -> None:
        await self.daprd.start()


class Elsewhere:
    """Runs what it is given on a loop of its own, in a thread.

    daprd connects to its app when it likes: on the test's loop that would be a task that
    a check takes for one of the subscriber's.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@asynccontextmanager
async def _app() -> AsyncIterator[tuple[Sink, Elsewhere]]:
    elsewhere, app = Elsewhere(), Sink()
    try:
        await elsewhere(app.start())
        yield app, elsewhere
        await elsewhere(app.stop())
    finally:
        elsewhere.close()


@asynccontextmanager
async def dapr_app() -> AsyncIterator[AppRig]:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            _app() as (app, elsewhere),
            # Its app answers a health check as it answers everything else, with errors too.
            Daprd(
                Path(folder),
                app_id="billing",
                app_port=app.port,
                protocol="http",
                health_check=False,
            ) as daprd,
        ):
            yield AppRig(daprd, app, elsewhere)


RIGS = (dapr_binding, dapr_app)
