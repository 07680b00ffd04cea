"""The `rabbitmq` sink: events are published to a RabbitMQ exchange.

The broker's confirm is the confirmation: the queues that get the message have it. Every
message is mandatory, so one that no queue is bound for comes back and is an error. AMQP
0.9.1 has no CloudEvents binding; it is written as that of AMQP 1.0 has it: attributes are
headers `cloudEvents:<name>`, `structured` is one JSON text, `raw` the data alone.

One connection after the other; a lost one fails at once what waits for a confirm.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelClosed,
    ChannelInvalidStateError,
    DeliveryError,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)

from ofevents.api.meta import Tls, reveal
from ofevents.api.sink import RabbitmqSink as Spec
from ofevents.api.tls import client_context
from ofevents.clock import Clock
from ofevents.errors import (
    BadEvent,
    ConfigError,
    Misconfigured,
    OfeventsError,
    TooLarge,
    Unavailable,
)
from ofevents.event import Event
from ofevents.ports import Format
from ofevents_adapters.redial import Redial

STRUCTURED: Final = "application/cloudevents+json"
PREFIX: Final = "cloudEvents:"

CONNECT: Final = 5.0
"""Seconds for connecting and logging in."""
_HEARTBEAT: Final = 10
_LEAVE: Final = 2.0
_LONGEST_NAME: Final = 255
"""Bytes of a short string: exchange, routing key, content type."""
_MOST_HEADERS: Final = 100_000
"""Bytes of all attributes: they must fit into one frame, of 131,072 bytes."""
_LARGEST: Final = re.compile(r"max size (\d+)")
_INTEGERS: Final = range(-(2**63), 2**63)
_PATH: Final = "sink.rabbitmq"


class RabbitmqSink:
    """Publishes to one exchange; see `ofevents.ports.Sink`."""

    def __init__(self, spec: Spec, *, format: Format, timeout: float, clock: Clock) -> None:
        """Checks the spec (ConfigError); connects to nothing."""
        self._spec = spec
        self._format: Format = format
        for name, text in (("exchange", spec.exchange), ("routingKey", spec.routing_key)):
            if len(text.encode()) > _LONGEST_NAME:
                raise ConfigError(f"expected at most {_LONGEST_NAME} bytes", path=f"{_PATH}.{name}")
        url, shown, tls = _address(spec)
        place = f"exchange {spec.exchange}" if spec.exchange else f"queue {spec.routing_key}"
        self.address = f"RabbitMQ {place} at {shown}"
        patience = min(CONNECT, timeout)
        self._redial = Redial(
            lambda: _Connection(url, tls, spec.exchange, self.address, patience), clock
        )
        self._largest = 0
        """Bytes that the broker takes, as it has said; 0 while it has not."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._redial.close()

    async def send(self, event: Event, key: str | None) -> None:
        """See `ofevents.ports.Sink`; the routing key is the spec's."""
        message = message_of(event, self._format)
        self._check_size(len(message.body))
        connection = await self._redial.get()
        try:
            await connection.publish(message, self._spec.routing_key)
        except asyncio.CancelledError as error:
            # aiormq cancels what waits when a connection ends; our own end looks the same.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Unavailable(f"{self.address}: the connection was lost") from error
        except (AMQPError, ChannelInvalidStateError, OSError) as error:
            raise self._meaning(error, len(message.body)) from error

    def _check_size(self, size: int) -> None:
        if self._largest and size > self._largest:
            raise TooLarge(
                f"{self.address}: {size} bytes; the broker takes {self._largest} (max_message_size)"
            )

    def _meaning(self, error: BaseException, size: int) -> OfeventsError:
        text = f"{self.address}: {_text(error)}"
        if isinstance(error, PublishError):
            return Misconfigured(
                f"{self.address}: no queue is bound for routing key {self._spec.routing_key!r}"
            )
        if isinstance(error, DeliveryError):
            return Unavailable(f"{self.address}: the broker does not take it now (nack)")
        if isinstance(error, ChannelClosed):
            # One message closes the channel for all that are on their way.
            if found := _LARGEST.search(str(error)):
                self._largest = int(found[1])
                self._check_size(size)
                return Unavailable(text)
            if "NOT_FOUND" in str(error) or "ACCESS_REFUSED" in str(error):
                return Misconfigured(text)
        return Unavailable(text)


class _Connection:
    """A connection with one channel, open while in the `async with`."""

    def __init__(
        self, url: str, tls: ssl.SSLContext | None, exchange: str, shown: str, patience: float
    ) -> None:
        self._url = url
        self._tls = tls
        self._name = exchange
        self._shown = shown
        self._patience = patience
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel
        self._exchange: AbstractExchange

    @property
    def alive(self) -> bool:
        """Whether both are open."""
        connection = self._connection
        return connection is not None and not connection.is_closed and not self._channel.is_closed

    async def __aenter__(self) -> Self:
        """Connect, log in, open the channel.

        Raises:
            Unavailable: no broker answers.
            Misconfigured: it refuses the login or the vhost.
        """
        try:
            async with asyncio.timeout(self._patience):
                self._connection = await aio_pika.connect(
                    self._url,
                    ssl_context=self._tls,
                    heartbeat=_HEARTBEAT,
                    client_properties={"connection_name": "ofevents"},
                )
                self._channel = await self._connection.channel(
                    publisher_confirms=True, on_return_raises=True
                )
                self._exchange = self._channel.default_exchange
                if self._name:
                    self._exchange = await self._channel.get_exchange(self._name, ensure=False)
        except BaseException as error:
            await self.__aexit__(None, None, None)
            if isinstance(error, (AMQPError, OSError, TimeoutError)):
                raise self._refused(error) from error
            raise
        return self

    def _refused(self, error: BaseException) -> OfeventsError:
        text = "no answer in time" if isinstance(error, TimeoutError) else _text(error)
        if isinstance(error, (AuthenticationError, ProbableAuthenticationError)):
            return Misconfigured(f"{self._shown} refuses the login: {text}")
        if isinstance(error, InvalidFrameError) and "Connection.OpenOk" in text:
            # aiormq expects no refusal there, and does not say what it is.
            return Misconfigured(
                f"{self._shown} refuses the vhost: it is not there, or not for this user"
            )
        return Unavailable(f"{self._shown} cannot be reached: {text}")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            try:
                async with asyncio.timeout(_LEAVE):
                    await self._connection.close()
            except (TimeoutError, AMQPError, ChannelInvalidStateError, OSError):
                pass  # it is gone already

    async def publish(self, message: aio_pika.Message, routing_key: str) -> None:
        """Return when the broker has confirmed it."""
        await self._exchange.publish(message, routing_key, mandatory=True)


def _address(spec: Spec) -> tuple[str, str, ssl.SSLContext | None]:
    """The url, host and port for people, and the context of TLS where there is any."""
    text = (reveal(spec.url) or "").strip()
    shown = text.rpartition("@")[2].rpartition("//")[2]
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise ConfigError(f"{shown} is no address: {error}", path=f"{_PATH}.url") from None
    if url.scheme not in ("amqp", "amqps") or not url.hostname:
        raise ConfigError(
            f"{shown or 'nothing'} is no address; expected amqp://HOST:PORT/VHOST, or amqps:// "
            "for TLS",
            path=f"{_PATH}.url",
        )
    if spec.tls is not None and url.scheme != "amqps":
        raise ConfigError("TLS needs an amqps:// address", path=f"{_PATH}.tls")
    port = port or (5671 if url.scheme == "amqps" else 5672)
    tls = client_context(spec.tls or Tls(), f"{_PATH}.tls") if url.scheme == "amqps" else None
    return text, f"{url.hostname}:{port}", tls


def _text(error: BaseException) -> str:
    """What the broker said; aiormq's own `reason` is a template."""
    return " ".join(str(each) for each in error.args if each).strip() or type(error).__name__


def message_of(event: Event, format: Format) -> aio_pika.Message:
    """The persistent message of an event.

    Raises:
        BadEvent: an attribute that AMQP cannot carry, or too many bytes of them.
    """
    headers: dict[str, Any] = {}
    content_type: str | None = STRUCTURED
    body = event.data or b""
    if format == "structured":
        body = event.to_json()
    else:
        content_type = event.datacontenttype
        if content_type is None and event.data is not None:
            content_type = "application/json"
        if format == "binary":
            headers = _headers(event)
    if content_type is not None and len(content_type.encode()) > _LONGEST_NAME:
        raise BadEvent(
            f"event {event.id[:80]!r} cannot be sent over AMQP: its datacontenttype has more than "
            f"{_LONGEST_NAME} bytes"
        )
    return aio_pika.Message(
        body,
        headers=headers,
        content_type=content_type,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


def _headers(event: Event) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    size = 0
    for name, value in event.attributes.items():
        if name == "datacontenttype":
            continue
        if isinstance(value, int) and value not in _INTEGERS:
            value = str(value)
        headers[PREFIX + name] = value
        size += len(name) + len(value.encode() if isinstance(value, str) else "8 bytes")
    if size > _MOST_HEADERS:
        raise BadEvent(
            f"event {event.id[:80]!r} cannot be sent over AMQP: its attributes have {size} bytes, "
            f"and {_MOST_HEADERS} fit into a frame"
        )
    return headers
