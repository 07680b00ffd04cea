"""The `redis` source: entries of a Redis stream, or messages of a pub/sub channel.

    server (one life) -> stream session:   consumer group -> emit -> acknowledge
                      -> channel session:  subscription   -> emit

A stream is read as a consumer group, which keeps the position: at least once, workers
share the group. A channel keeps nothing: at most once, one worker. A lost connection, a
fail-over and a deleted group end `run` with Disconnected, and the engine runs it again.
Redis itself may lose what it has answered for: on a crash unless `appendfsync always`,
on a fail-over what the replica had not got.

What an entry becomes is in `redis_record`, the client's settings are in `redis_config`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from ofevents.api.messaging import RedisSpec
from ofevents.clock import Clock
from ofevents.ports import Emit, SourceFeatures, SourceIdentity, Store
from ofevents.telemetry import LAG, Log
from ofevents_adapters import redis_channel, redis_stream
from ofevents_adapters.redis_config import settings
from ofevents_adapters.redis_connection import Server

STREAM: Final = SourceFeatures(
    guarantee="at-least-once", stable_ids=True, ordered=False, scales=True
)
"""One worker emits in order, but a group's entries go to whichever worker is free, and
come again after a failure."""
CHANNEL: Final = SourceFeatures(
    guarantee="at-most-once", stable_ids=False, ordered=True, scales=False
)


class RedisSource:
    """Reads a stream, or a channel.

    Attributes:
        features: of a stream on the class, of what the spec asks for on an instance.
    """

    features: SourceFeatures = STREAM

    def __init__(self, spec: RedisSpec, identity: SourceIdentity, *, clock: Clock) -> None:
        """Checks the spec (ConfigError); connects to nothing."""
        self._identity = identity
        self._settings = settings(spec, identity)
        self._clock = clock
        if self._settings.channel:
            self.features = CHANNEL
        parts = (identity.namespace, identity.name, identity.entry)
        self._source = "/ofevents/" + "/".join(quote(part, safe="") for part in parts)
        self._log = Log(namespace=identity.namespace, name=identity.name, entry=identity.entry)

    async def run(self, emit: Emit, *, store: Store | None, started: Callable[[str], None]) -> None:
        """See `ofevents.ports.Source`. Without a bus, one event is emitted at a time.

        Raises:
            Disconnected: no server answers, the connection, group or stream is lost.
            ConfigError: the server refuses the login or the reading.
        """
        reading = self._channel if self._settings.channel else self._stream
        async with Server(self._settings) as server:
            await reading(server, emit, store is not None, started)

    async def _stream(
        self, server: Server, emit: Emit, many: bool, started: Callable[[str], None]
    ) -> None:
        who = self._identity
        session = redis_stream.StreamSession(
            server,
            self._settings,
            emit,
            batch=redis_stream.BATCH if many else 1,
            source=self._source,
            clock=self._clock,
            log=self._log,
            lagging=LAG.labels(who.namespace, who.name, self._settings.group).set,
        )
        address = f"stream {self._settings.stream} at {server.where}"
        await session.run(lambda: started(address))

    async def _channel(
        self, server: Server, emit: Emit, many: bool, started: Callable[[str], None]
    ) -> None:
        session = redis_channel.ChannelSession(
            server,
            self._settings,
            emit,
            batch=redis_channel.BATCH if many else 1,
            source=self._source,
            clock=self._clock,
            log=self._log,
        )
        address = f"channel {self._settings.channel} at {server.where}"
        await session.run(lambda: started(address))
