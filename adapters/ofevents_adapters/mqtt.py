"""The `mqtt` source: messages of the topics that a filter matches, MQTT 3.1.1 and 5.

    connection (one life) -> session: subscription -> emit -> acknowledgement

The position is the broker's: it keeps a session for our client id, with what came
while nobody was there and what is not acknowledged. A session is one worker's; a
second worker with the same client id would take it away from the first. Several
workers share a topic by `$share/GROUP/FILTER` (MQTT 5), each with a session of its
own that ends with it, and what a worker has in hand then is lost.

What a message becomes is in `mqtt_record`, the spec's rules are in `mqtt_config`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from ofevents.api.messaging import MqttSpec
from ofevents.clock import Clock
from ofevents.ports import Emit, SourceFeatures, SourceIdentity, Store
from ofevents.telemetry import Log
from ofevents_adapters import mqtt_session
from ofevents_adapters.mqtt_config import Settings, settings
from ofevents_adapters.mqtt_connection import Connection

AT_LEAST_ONCE: Final = SourceFeatures(
    guarantee="at-least-once", stable_ids=False, ordered=True, scales=False
)
AT_MOST_ONCE: Final = SourceFeatures(
    guarantee="at-most-once", stable_ids=False, ordered=True, scales=False
)
"""QoS 0, or a session that is forgotten with the connection."""
SHARED: Final = SourceFeatures(
    guarantee="at-most-once", stable_ids=False, ordered=False, scales=True
)
"""Each worker has a session of its own."""


class MqttSource:
    """Reads the topics of a filter.

    Attributes:
        features: of the defaults on the class, of what the spec asks for on an instance.
    """

    features: SourceFeatures = AT_LEAST_ONCE

    def __init__(self, spec: MqttSpec, identity: SourceIdentity, *, clock: Clock) -> None:
        """Checks the spec (ConfigError); connects to nothing."""
        self._settings = settings(spec, identity)
        self.features = _features(self._settings)
        self._clock = clock
        self._memory = mqtt_session.Memory()
        parts = (identity.namespace, identity.name, identity.entry)
        self._source = "/ofevents/" + "/".join(quote(part, safe="") for part in parts)
        self._log = Log(namespace=identity.namespace, name=identity.name, entry=identity.entry)

    async def run(self, emit: Emit, *, store: Store | None, started: Callable[[str], None]) -> None:
        """See `ofevents.ports.Source`. Without a bus, one event is emitted at a time.

        Raises:
            Disconnected: no broker answers, or the connection is lost.
            ConfigError: the broker refuses the login, the client id or the topic.
        """
        wanted = self._settings
        limit = mqtt_session.IN_FLIGHT
        async with Connection(wanted, self._clock, receive_maximum=limit) as connection:
            session = mqtt_session.Session(
                connection,
                wanted,
                self._memory,
                emit,
                batch=mqtt_session.BATCH if store is not None else 1,
                source=self._source,
                clock=self._clock,
                log=self._log,
            )
            await session.run(lambda: started(f"{wanted.topic} at {connection.where}"))


def _features(wanted: Settings) -> SourceFeatures:
    if wanted.own_session:
        return SHARED
    if wanted.qos == 0 or wanted.clean:
        return AT_MOST_ONCE
    if wanted.filter != wanted.topic:  # others of the group take messages in between
        return SourceFeatures("at-least-once", stable_ids=False, ordered=False, scales=False)
    return AT_LEAST_ONCE
