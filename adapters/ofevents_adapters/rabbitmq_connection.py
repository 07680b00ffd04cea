"""One connection to RabbitMQ, and its queue; `rabbitmq` makes a new one after it.

aio-pika's robust connection is not used: it would reconnect behind our back, with the
messages of the old connection still in hand, whose acknowledgement means nothing any
more. A lost connection ends the source's run with Disconnected, and the engine runs it
again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractQueue
from aiormq import exceptions

from ofevents.errors import ConfigError, Disconnected, OfeventsError
from ofevents_adapters.rabbitmq_config import Settings
from ofevents_adapters.rabbitmq_decoding import tolerate

T = TypeVar("T")

CONNECT: Final = 10.0
"""Seconds for connecting and logging in."""
ANSWER: Final = 10.0
"""Seconds for one question to the broker."""
HEARTBEAT: Final = 10
"""Seconds between two heartbeats of each side."""
_LEAVE: Final = 2.0

# What they log as errors reaches us as exceptions, and becomes a sentence.
for _name in ("aiormq", "aio_pika"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)
tolerate()

FAILURES: Final = (exceptions.AMQPError, OSError, EOFError, TimeoutError, RuntimeError)
"""What aio-pika raises where a connection or a channel is of no more use."""


class Connection:
    """Connected while in the `async with`, with one channel and the queue declared.

    Attributes:
        channel, queue: aio-pika's.
        waiting: messages in the queue when it was last looked at.
    """

    channel: AbstractChannel
    queue: AbstractQueue

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._connection: AbstractConnection | None = None
        self._gone: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.waiting = 0

    @property
    def where(self) -> str:
        """The address, for people."""
        return self._settings.shown

    async def __aenter__(self) -> Self:
        """Connect, and declare what the spec says.

        Raises:
            Disconnected: no broker answers, or there is no such queue.
            ConfigError: it refuses the login or what is declared.
        """
        settings = self._settings
        query = "" if "heartbeat=" in settings.url else f"heartbeat={HEARTBEAT}"
        join = "&" if "?" in settings.url else "?"
        try:
            async with asyncio.timeout(CONNECT):
                self._connection = await aio_pika.connect(
                    f"{settings.url}{join}{query}" if query else settings.url,
                    ssl_context=settings.tls,
                    client_properties={"connection_name": self._name},
                )
        except FAILURES as error:
            raise self._unreachable(error) from error
        self._connection.close_callbacks.add(self._on_closed)
        try:
            await self._declare()
        except BaseException:
            await self._close()
            raise
        return self

    def _unreachable(self, error: BaseException) -> OfeventsError:
        path = f"{self._settings.path}.url"
        if isinstance(
            error, (exceptions.ProbableAuthenticationError, exceptions.AuthenticationError)
        ):
            return ConfigError(
                f"RabbitMQ at {self.where} refuses the login: {_text(error)}", path=path
            )
        if isinstance(error, exceptions.InvalidFrameError) and "OpenOk" in str(error):
            # aiormq keeps the broker's reason to itself, so it may also be one that heals.
            return Disconnected(
                f"RabbitMQ at {self.where} refuses the vhost: it is not there, or this user may "
                "not use it, or it takes no more connections"
            )
        return Disconnected(f"RabbitMQ at {self.where} cannot be reached: {_text(error)}")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        """Messages in hand go back to the queue at once, as the channel ends."""
        if self._connection is None:
            return
        self._connection.close_callbacks.discard(self._on_closed)
        try:
            async with asyncio.timeout(_LEAVE):
                await self._connection.close()
        except FAILURES:
            pass  # it was closed, or the broker does not answer: nothing more can be done

    # -- the queue ----------------------------------------------------------------------

    async def _declare(self) -> None:
        settings = self._settings
        found = await self._existing()
        if found is None and not settings.declare:
            raise Disconnected(
                f"RabbitMQ at {self.where} has no queue {settings.queue!r}: create it, or leave "
                "out declare: false"
            )
        if found is None:
            await self._open_channel()
            with self.doing("declaring the queue", field="queue"):
                found = await self._asked(
                    self.channel.declare_queue(settings.queue, durable=True)
                )  # fmt: skip
        self.queue = found
        if settings.exchange is None:
            return
        kind = settings.exchange_type
        with self.doing(f"declaring the {kind} exchange {settings.exchange!r}", field="exchange"):
            await self._asked(
                self.channel.declare_exchange(settings.exchange, kind, durable=True)
            )  # fmt: skip
        with self.doing("binding the queue", field="exchange"):
            await self._asked(
                self.queue.bind(settings.exchange, routing_key=settings.routing_key)
            )  # fmt: skip

    async def _existing(self) -> AbstractQueue | None:
        """The queue as it is, whatever its type and arguments; None where there is none."""
        await self._open_channel()
        try:
            with self.doing("looking for the queue", field="queue"):
                queue = await self._asked(
                    self.channel.declare_queue(self._settings.queue, passive=True)
                )
        except Disconnected as error:
            if isinstance(error.__cause__, exceptions.ChannelNotFoundEntity):
                return None  # and the channel is closed
            raise
        self.waiting = queue.declaration_result.message_count or 0
        return queue

    async def _open_channel(self) -> None:
        assert self._connection is not None
        with self.doing("opening a channel"):
            self.channel = self._connection.channel(publisher_confirms=False)
            await self._asked(self.channel.initialize())
            await self._asked(self.channel.set_qos(prefetch_count=self._settings.prefetch))

    async def look(self) -> int:
        """How many messages the queue has; also whether broker and queue are still there.

        Raises:
            Disconnected: they are not.
        """
        with self.doing("looking at the queue"):
            queue = await self._asked(
                self.channel.declare_queue(self._settings.queue, passive=True)
            )  # fmt: skip
        self.waiting = queue.declaration_result.message_count or 0
        return self.waiting

    async def _asked(self, question: Awaitable[T]) -> T:
        async with asyncio.timeout(ANSWER):
            return await question

    # -- while it lasts -----------------------------------------------------------------

    async def lost(self) -> None:
        """Wait until the connection, the channel or the consumer is gone.

        Raises:
            Disconnected: always, saying why.
        """
        raise await asyncio.shield(self._gone)

    def watch_channel(self) -> None:
        """From now on the channel's end is the connection's."""
        self.channel.close_callbacks.add(self._on_closed)

    def end(self, error: Exception) -> None:
        """The connection is of no more use."""
        if not self._gone.done():
            self._gone.set_result(error)

    def _on_closed(self, _: Any, error: BaseException | None) -> None:
        why = "the broker has closed it" if error is None else _text(error)
        self.end(Disconnected(f"the connection to RabbitMQ at {self.where} was lost: {why}"))

    @contextmanager
    def doing(self, what: str, *, field: str = "") -> Iterator[None]:
        """Give the errors of aio-pika their meaning while doing that."""
        try:
            yield
        except FAILURES as error:
            raise self._meaning(error, what, field) from error

    def _meaning(self, error: BaseException, what: str, field: str) -> OfeventsError:
        text = f"RabbitMQ at {self.where}: {what}: {_text(error)}"
        path = f"{self._settings.path}.{field}" if field else self._settings.path
        if isinstance(error, exceptions.ChannelAccessRefused):
            return ConfigError(f"{text}; allow it to this user", path=path)
        if isinstance(error, exceptions.ChannelPreconditionFailed) and field:
            return ConfigError(
                f"{text}; describe it as it is, or say declare: false without exchange", path=path
            )
        return Disconnected(text)


def _text(error: BaseException) -> str:
    """What the broker said, without the client's own words."""
    said = [str(part) for part in error.args if isinstance(part, str) and part]
    if isinstance(error, TimeoutError) and not said:
        return f"no answer within {ANSWER:.0f} s"
    return (said[-1] if said else str(error) or type(error).__name__).strip()
