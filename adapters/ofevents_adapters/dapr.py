"""The `dapr` source: any input binding of Dapr, or a topic of any of its pub/sub components.

    daprd -> callbacks (a port of ours), or a stream -> emit -> the answer

The sidecar beside the worker does the reading; we say what to read, and answer when it
is emitted. What a component promises is in `ofevents.api.dapr`, what a message becomes
in `dapr_record`. A lost sidecar ends `run` with Disconnected, and the engine runs it
again; the port is open all the while that we wait for it, as the sidecar waits for us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from ofevents.api.platform import DaprSpec
from ofevents.clock import Clock
from ofevents.errors import ConfigError, Disconnected
from ofevents.event import Event
from ofevents.ports import Emit, SourceFeatures, SourceIdentity, Store
from ofevents.telemetry import Log
from ofevents_adapters.dapr_callback import Callbacks
from ofevents_adapters.dapr_config import settings
from ofevents_adapters.dapr_hand import HOLD, Hand
from ofevents_adapters.dapr_record import Message, events_of
from ofevents_adapters.dapr_sidecar import LOOK, Sidecar
from ofevents_adapters.dapr_stream import read_stream

SUBSCRIBED: Final = 10.0
"""Seconds that a sidecar has to subscribe once it sees our port."""
_AGAIN: Final = 0.1


class DaprSource:
    """Reads a topic, or an input binding.

    Attributes:
        features: the least on the class, of what the spec asks for on an instance.
    """

    features: SourceFeatures = SourceFeatures(
        guarantee="at-most-once", stable_ids=False, ordered=False, scales=True
    )

    def __init__(self, spec: DaprSpec, identity: SourceIdentity, *, clock: Clock) -> None:
        """Checks the spec (ConfigError); connects to nothing."""
        self._settings = settings(spec, identity)
        self.features = self._settings.features
        self._clock = clock
        parts = (identity.namespace, identity.name, identity.entry)
        self._source = "/ofevents/" + "/".join(quote(part, safe="") for part in parts)
        self._log = Log(namespace=identity.namespace, name=identity.name, entry=identity.entry)

    async def run(self, emit: Emit, *, store: Store | None, started: Callable[[str], None]) -> None:
        """See `ofevents.ports.Source`. Without a bus, one event is emitted at a time.

        Raises:
            Disconnected: no sidecar answers, it is lost, or has not loaded the component.
            ConfigError: an input binding without a port, or a port in use.
        """
        where = self._settings
        hand = Hand(
            emit,
            many=store is not None,
            hold=None if where.topic is None else HOLD,
            clock=self._clock,
            log=self._log,
        )
        try:
            if where.app_port is None:
                await self._stream(hand, started)
            else:
                async with Callbacks(where, hand, self._read):
                    await self._called(started)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    def _read(self, message: Message) -> list[Event]:
        return events_of(message, self._source, self._clock.now())

    async def _stream(self, hand: Hand, started: Callable[[str], None]) -> None:
        where = self._settings
        if where.topic is None:
            raise ConfigError(
                "an input binding calls the worker, which needs a port for it: set appPort, and "
                "the same as the sidecar's app port (Dapr sets APP_PORT)",
                path=f"{where.path}.appPort",
            )
        async with Sidecar(where.sidecar, self._clock) as sidecar:
            await self._component(sidecar)
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(sidecar.lost(), name="dapr: watches the sidecar")
                await read_stream(sidecar, where, hand, self._read, lambda: started(where.shown))
                watching.cancel()

    async def _called(self, started: Callable[[str], None]) -> None:
        """Watch the sidecar, which calls `Callbacks` meanwhile."""
        where = self._settings
        async with Sidecar(where.sidecar, self._clock) as sidecar:
            await self._component(sidecar)
            await self._subscribed(sidecar)
            started(where.shown)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(sidecar.lost(), name="dapr: watches the sidecar")
                while True:
                    await self._clock.sleep(LOOK)
                    await self._component(sidecar)

    async def _component(self, sidecar: Sidecar) -> None:
        """Return when the sidecar is there and has what is read.

        Raises:
            Disconnected: it is not there, or has no such component; with what to do.
        """
        where = self._settings
        await sidecar.ready()
        components, _ = await sidecar.loaded()
        if where.component not in components:
            hint = "`ofevents run` starts one that has it" if where.written else "see its log"
            raise Disconnected(
                f"the Dapr sidecar at {where.sidecar} has no component {where.component}: {hint}"
            )

    async def _subscribed(self, sidecar: Sidecar) -> None:
        """Wait until the sidecar has asked us what to read.

        It asks when it first sees our port, and if that fails, never again by itself; its
        health check has it ask again. An input binding whose direction is told is read
        without asking; another one is not if the asking failed, and nobody can tell.
        """
        where = self._settings
        if where.topic is None:
            return
        try:
            async with asyncio.timeout(SUBSCRIBED):
                while (where.component, where.topic) not in (await sidecar.loaded())[1]:
                    await self._clock.sleep(_AGAIN)
        except TimeoutError:
            raise Disconnected(
                f"the Dapr sidecar at {where.sidecar} has not subscribed to {where.topic}: is "
                f"{where.app_port} its app port, with app protocol grpc? If so, it has asked this "
                "worker once, in vain: restart it, and run it with --enable-app-health-check "
                "(annotation dapr.io/enable-app-health-check), which has it ask again"
            ) from None
