"""The `redis` sink: events are appended to a Redis stream.

XADD's answer, the entry's id, is the confirmation. Redis has no CloudEvents binding; the
one here is HTTP's with fields in place of headers: `ce-...` fields, `content-type` and
`data` (`binary`), `content-type` and `data` (`structured`), `data` alone (`raw`). The
`redis` source reads it.

The client takes a connection of its pool for each command and makes those that are missing,
so a lost one fails one command and is gone.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from ofevents.api.meta import reveal
from ofevents.api.sink import RedisSink as Spec
from ofevents.api.tls import client_context
from ofevents.clock import Clock
from ofevents.errors import ConfigError, Misconfigured, OfeventsError, TooLarge, Unavailable
from ofevents.event import Event, to_http
from ofevents.ports import Format

CONNECT: Final = 5.0
"""Seconds for connecting and logging in."""
_CONNECTIONS: Final = 16
"""Most commands under way; further ones wait for a place."""
_PATH: Final = "sink.redis"
_ADDRESS: Final = re.compile(
    r"(?:\[(?P<six>[0-9a-fA-F:.%]+)\]|(?P<host>[^\s:/@\[\]]+))(?::(?P<port>\d{1,5}))?"
)
_WRONG: Final = ("WRONGTYPE", "MOVED", "NOAUTH", "WRONGPASS", "NOPERM", "ERR unknown command")
"""Answers that a person must see to."""
_LARGE: Final = ("Protocol error: invalid bulk length", "Protocol error: invalid multibulk length")


class RedisSink:
    """Appends to one stream; see `ofevents.ports.Sink`."""

    def __init__(self, spec: Spec, *, format: Format, timeout: float, clock: Clock) -> None:
        """Checks the spec (ConfigError); connects to nothing."""
        host, port = _address(spec.redis_host)
        self._spec = spec
        self._format: Format = format
        self.address = f"Redis stream {spec.stream} at {host}:{port}"
        arguments: dict[str, Any] = {
            "host": host,
            "port": port,
            "username": reveal(spec.redis_username) or None,
            "password": reveal(spec.redis_password) or None,
            "socket_connect_timeout": min(CONNECT, timeout),
            "socket_timeout": timeout,
            # What is sent again is the engine's to say: it may be there already.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "client_name": "ofevents",
        }
        kind: type[Connection] = Connection
        if spec.tls is not None:
            kind, arguments["context"] = _Tls, client_context(spec.tls, f"{_PATH}.tls")
        self._pool = ConnectionPool(kind, max_connections=_CONNECTIONS, **arguments)
        self._places = asyncio.Semaphore(_CONNECTIONS)
        self._client = Redis(connection_pool=self._pool)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._pool.disconnect(inuse_connections=True)
        except (RedisError, OSError):
            pass  # it is gone already

    async def send(self, event: Event, key: str | None) -> None:
        """See `ofevents.ports.Sink`; the stream has one order for all keys."""
        fields = fields_of(event, self._format)
        async with self._places:
            try:
                await self._client.xadd(
                    self._spec.stream, fields, maxlen=self._spec.max_length, approximate=True
                )
            except (RedisError, OSError) as error:
                raise self._meaning(error, len(fields["data"])) from error

    def _meaning(self, error: Exception, size: int) -> OfeventsError:
        text = str(error).strip() or type(error).__name__
        said = f"{self.address}: {text}"
        login = (AuthenticationError, AuthorizationError, NoPermissionError)
        if isinstance(error, login) or text.startswith(_WRONG):
            return Misconfigured(said)
        if isinstance(error, ResponseError) and text.startswith(_LARGE):
            return TooLarge(f"{said} ({size} bytes of data; see proto-max-bulk-len)")
        return Unavailable(said)


class _Tls(SSLConnection):
    """TLS by a context of ours: redis-py takes certificates from files only."""

    def __init__(self, *, context: ssl.SSLContext, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._context = context

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._context}


def fields_of(event: Event, format: Format) -> dict[Any, Any]:
    """The fields of an event's entry."""
    headers, body = to_http(event, format)
    return {"data": body} if format == "raw" else {**headers, "data": body}


def _address(text: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(text.strip())
    port = int(found["port"] or 6379) if found else 0
    if found is None or not 0 < port < 65536:
        # What stands before an @ may be a password.
        raise ConfigError(
            f"{text.rpartition('@')[2]!r} is no address; expected HOST:PORT, without a scheme, "
            "user or password",
            path=f"{_PATH}.redisHost",
        )
    return found["six"] or found["host"], port
