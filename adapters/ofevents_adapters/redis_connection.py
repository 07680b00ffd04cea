"""One Redis server, for as long as it lasts; `redis` finds it anew after that.

A stream lives on one server: the one that is named, the master that the Sentinels know,
or the node of a cluster that has the stream's slot. A fail-over or a moved slot ends the
connection with Disconnected, and the next run asks again where the stream is. redis-py
repeats nothing by itself here: whoever waits would not learn of it.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from ofevents.errors import ConfigError, Disconnected, OfeventsError
from ofevents.process import end_if_cancelled
from ofevents_adapters.redis_config import Address, Settings, shown

FAILURES: Final = (RedisError, OSError)
"""What redis-py raises; its timeouts are among them."""
_CONNECTIONS: Final = 4
"""One reads and waits, the others acknowledge and look."""


class _Tls(SSLConnection):
    """TLS by a context of ours: redis-py takes certificates from files only."""

    def __init__(self, *, context: ssl.SSLContext, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._context = context

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._context}


class Server:
    """Found and answering while in the `async with`; `client` is redis-py's.

    Attributes:
        where: its address, for people; before it is found, those that are given.
    """

    client: Redis

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool: ConnectionPool | None = None
        self.where = settings.shown

    async def __aenter__(self) -> Self:
        """Find it and ask whether it is what it should be.

        Raises:
            Disconnected: no server answers, or no master is known.
            ConfigError: it refuses the login or the database.
        """
        try:
            address = await self._find()
            self.where = shown(address)
            self._pool = self._connect(address)
            self.client = Redis(connection_pool=self._pool)
            await self._check()
            end_if_cancelled()
        except FAILURES as error:
            await self._close()
            raise self.failed(error, "connecting") from error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._pool is not None:
            try:
                await self._pool.disconnect(inuse_connections=True)
            except FAILURES:
                pass  # it is gone already

    def _connect(self, address: Address, *, login: bool = True) -> ConnectionPool:
        settings = self._settings
        arguments: dict[str, Any] = {
            "host": address[0],
            "port": address[1],
            "db": settings.db if login else 0,
            "username": settings.username if login else None,
            "password": settings.password if login else None,
            "socket_connect_timeout": settings.dial,
            "socket_timeout": settings.answer,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "client_name": "ofevents",
        }
        kind: type[Connection] = Connection
        if settings.tls is not None:
            kind, arguments["context"] = _Tls, settings.tls
        return ConnectionPool(kind, max_connections=_CONNECTIONS, **arguments)

    async def connection(self) -> Connection:
        """A connection beside those of the client, to subscribe with."""
        assert self._pool is not None
        found: Connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        await found.connect()  # type: ignore[no-untyped-call]
        return found

    # -- where it is ------------------------------------------------------------------

    async def _find(self) -> Address:
        if self._settings.sentinel is not None:
            return await self._first(self._ask_sentinel, "Sentinel")
        if self._settings.cluster:
            return await self._first(self._ask_node, "node")
        return self._settings.servers[0]

    async def _first(self, ask: Any, what: str) -> Address:
        """The answer of the first that gives one."""
        problems: list[str] = []
        for address in self._settings.servers:
            try:
                return await ask(address)  # type: ignore[no-any-return]
            except AuthenticationError:
                raise
            except FAILURES as error:
                problems.append(f"{shown(address)}: {_text(error)}")
        raise Disconnected(f"no {what} tells where Redis is: {'; '.join(problems)}")

    async def _ask_sentinel(self, address: Address) -> Address:
        name = self._settings.sentinel
        found = await self._ask(address, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", name, login=False)
        if not found:
            raise ResponseError(f"it knows no master {name!r}")
        return found[0].decode(), int(found[1])

    async def _ask_node(self, address: Address) -> Address:
        """The master of the slot; any node will do for a channel."""
        if self._settings.channel:
            await self._ask(address, "PING")
            return address
        slot = key_slot(self._settings.stream.encode())
        for first, last, master, *_ in await self._ask(address, "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                # A node that does not know its own host name leaves it empty.
                return (master[0].decode() if master[0] else "") or address[0], master[1]
        raise ResponseError(f"no node has slot {slot}")

    async def _ask(self, address: Address, *command: Any, login: bool = True) -> Any:
        pool = self._connect(address, login=login)
        try:
            connection: Connection = pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                await connection.connect()  # type: ignore[no-untyped-call]
                await connection.send_command(*command)
                return await connection.read_response()
            finally:
                await connection.disconnect()
        finally:
            await pool.disconnect()

    async def _check(self) -> None:
        """Ask for a sign of life; where there are replicas to be taken for it, its role."""
        await self.client.ping()
        if self._settings.sentinel is not None:
            replication: Any = await self.client.info("replication")
            if replication.get("role") != "master":
                raise ResponseError("it is no master (any more); a fail-over is under way")

    # -- errors -----------------------------------------------------------------------

    def failed(self, error: BaseException, what: str) -> OfeventsError:
        """The error of ours for one of redis-py's while doing `what`."""
        settings, text = self._settings, _text(error)
        path, who = settings.path, f"redis-server {self.where}"
        if isinstance(error, AuthenticationError):
            return ConfigError(f"{who} refuses the login: {text}", path=f"{path}.redisPassword")
        if isinstance(error, NoPermissionError):
            return ConfigError(f"{who} refuses {what}: {text}; allow it to this user", path=path)
        if text.startswith("DB index") or "invalid DB index" in text:
            return ConfigError(f"{who}: {text}", path=f"{path}.redisDB")
        if text.startswith("WRONGTYPE"):
            return ConfigError(f"{who}: {settings.stream!r} is no stream", path=f"{path}.stream")
        if "unknown command" in text:
            return ConfigError(f"{who} is too old: expected Redis 6.2 or newer ({text})", path=path)
        if "MOVED" in text.split(" ")[0] or type(error).__name__ == "MovedError":
            if not settings.cluster:
                return ConfigError(f"{who} is part of a cluster", path=f"{path}.redisType")
            return Disconnected(f"{who} does not have {settings.stream!r} any more: it has moved")
        if text.startswith(("NOGROUP", "UNBLOCKED")) or "no longer exists" in text:
            return Disconnected(
                f"{who}: group {settings.group} or stream {settings.stream!r} was deleted; it is "
                "made again"
            )
        return Disconnected(f"{who}: {what}: {text}")


def _text(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__
