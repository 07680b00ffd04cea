"""The `rabbitmq` source: messages of a queue.

    connection (one life) -> queue, exchange, binding -> consumer -> emit -> ack

The position is the queue's: a message is in it until it is acknowledged, and goes back
to it when its worker is gone. Workers of one entry consume the same queue and share its
messages. A queue that exists is used as it is, whatever its type and arguments; one
that does not is declared durable.

What a message becomes is in `rabbitmq_record`, the spec's rules are in `rabbitmq_config`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from ofevents.api.messaging import RabbitmqSpec
from ofevents.clock import Clock
from ofevents.ports import Emit, SourceFeatures, SourceIdentity, Store
from ofevents.telemetry import LAG, Log
from ofevents_adapters import rabbitmq_session
from ofevents_adapters.rabbitmq_config import settings
from ofevents_adapters.rabbitmq_connection import Connection

FEATURES: Final = SourceFeatures(
    guarantee="at-least-once",
    stable_ids=False,  # it is the publisher who may set a message id
    ordered=False,  # what a worker gives back comes behind what another has in hand
    scales=True,
)


class RabbitmqSource:
    """Reads one queue."""

    features: SourceFeatures = FEATURES

    def __init__(self, spec: RabbitmqSpec, identity: SourceIdentity, *, clock: Clock) -> None:
        """Checks the spec (ConfigError); connects to nothing."""
        self._settings = settings(spec, identity)
        self._identity = identity
        self._clock = clock
        parts = (identity.namespace, identity.name, identity.entry)
        self._source = "/ofevents/" + "/".join(quote(part, safe="") for part in parts)
        self._log = Log(namespace=identity.namespace, name=identity.name, entry=identity.entry)

    async def run(self, emit: Emit, *, store: Store | None, started: Callable[[str], None]) -> None:
        """See `ofevents.ports.Source`. Without a bus, one event is emitted at a time.

        Raises:
            Disconnected: no broker answers, the connection is lost, the queue is not there.
            ConfigError: the broker refuses the login, or what is declared.
        """
        who, queue = self._identity, self._settings.queue
        async with Connection(self._settings, who.group) as connection:
            session = rabbitmq_session.Session(
                connection,
                emit,
                batch=rabbitmq_session.BATCH if store is not None else 1,
                source=self._source,
                clock=self._clock,
                log=self._log,
                lagging=LAG.labels(who.namespace, who.name, queue).set,
            )
            await session.run(lambda: started(f"queue {queue} at {connection.where}"))
