"""The `nats` source: messages of NATS subjects, or of a JetStream stream.

    connection (one life) -> core session:       subscriptions       -> emit
                          -> JetStream session:  durable consumer    -> emit -> ack

Without `jetstream` it is core NATS, which keeps nothing: at most once, workers share
the subjects as a queue group. With it, a durable consumer keeps the position: at
least once, workers share the consumer. A lost connection ends `run` with
Disconnected, and the engine runs it again.

What a message becomes is in `nats_record`, the client's settings are in `nats_config`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from ofevents.api.messaging import NatsSpec
from ofevents.clock import Clock
from ofevents.ports import Emit, SourceFeatures, SourceIdentity, Store
from ofevents.telemetry import LAG, Log
from ofevents_adapters import nats_core, nats_jetstream
from ofevents_adapters.nats_config import settings
from ofevents_adapters.nats_connection import Connection
from ofevents_adapters.nats_consumer import Consumers

CORE: Final = SourceFeatures(guarantee="at-most-once", stable_ids=False, ordered=False, scales=True)
JETSTREAM: Final = SourceFeatures(
    guarantee="at-least-once", stable_ids=True, ordered=False, scales=True
)
"""One worker emits in order, but a group's or a consumer's messages go to whichever
worker is free, and come again after a failure. With maxAckPending 1 none can overtake:"""
IN_ORDER: Final = SourceFeatures(
    guarantee="at-least-once", stable_ids=True, ordered=True, scales=True
)


class NatsSource:
    """Reads subjects, or a stream.

    Attributes:
        features: of core NATS on the class, of what the spec asks for on an instance.
    """

    features: SourceFeatures = CORE

    def __init__(self, spec: NatsSpec, identity: SourceIdentity, *, clock: Clock) -> None:
        """Checks the spec (ConfigError); connects to nothing."""
        self._spec = spec
        self._identity = identity
        self._settings = settings(spec, identity)
        self._clock = clock
        if spec.jetstream is not None:
            self.features = IN_ORDER if spec.jetstream.max_ack_pending == 1 else JETSTREAM
        parts = (identity.namespace, identity.name, identity.entry)
        self._source = "/ofevents/" + "/".join(quote(part, safe="") for part in parts)
        self._log = Log(namespace=identity.namespace, name=identity.name, entry=identity.entry)

    async def run(self, emit: Emit, *, store: Store | None, started: Callable[[str], None]) -> None:
        """See `ofevents.ports.Source`. Without a bus, one event is emitted at a time.

        Raises:
            Disconnected: no server answers, the connection is lost, no such stream.
            ConfigError: the server refuses the login, a subject or the consumer.
        """
        async with Connection(self._settings, self._identity.group) as connection:
            reading = self._stream if self._spec.jetstream is not None else self._subjects
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(connection.lost(), name="nats: watches the connection")
                    await reading(connection, emit, store is not None, started)
            except ExceptionGroup as group:
                raise group.exceptions[0] from None

    async def _subjects(
        self, connection: Connection, emit: Emit, many: bool, started: Callable[[str], None]
    ) -> None:
        session = nats_core.CoreSession(
            connection,
            self._settings,
            emit,
            batch=nats_core.BATCH if many else 1,
            source=self._source,
            clock=self._clock,
            log=self._log,
        )
        address = f"{', '.join(self._settings.subjects)} at {connection.where}"
        await session.run(lambda: started(address))

    async def _stream(
        self, connection: Connection, emit: Emit, many: bool, started: Callable[[str], None]
    ) -> None:
        assert self._spec.jetstream is not None
        who = self._identity
        consumers = Consumers(connection, self._settings, self._spec.jetstream, who)
        consumer = await consumers.ensure()
        session = nats_jetstream.JetStreamSession(
            connection,
            consumers,
            consumer,
            emit,
            batch=nats_jetstream.BATCH if many else 1,
            source=self._source,
            clock=self._clock,
            log=self._log,
            lagging=LAG.labels(who.namespace, who.name, consumer.name).set,
        )
        address = f"stream {consumer.stream} at {connection.where}"
        await session.run(lambda: started(address))
