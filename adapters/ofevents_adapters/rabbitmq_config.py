"""From `RabbitmqSpec` to what a connection needs.

Called by `rabbitmq` when the source is built, so that a contradiction in the spec is
found before anything connects, by `ofevents validate` too.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from ofevents.api.messaging import RabbitmqSpec
from ofevents.api.meta import Tls, reveal
from ofevents.api.tls import client_context
from ofevents.errors import ConfigError
from ofevents.ports import SourceIdentity

_LONGEST: Final = 255
"""Bytes of a name in AMQP."""
_RESERVED: Final = "amq."
_EXPECTED: Final = "expected amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps:// for TLS"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a source of this spec does.

    Attributes:
        url: with the login in it; never shown.
        shown: host, port and vhost, for people.
        tls: the context of an amqps:// connection.
        exchange: to bind the queue to; None binds it to none.
        declare: make what is not there.
        path: of the entry in the document, for errors.
    """

    url: str = field(repr=False)
    shown: str
    tls: ssl.SSLContext | None
    queue: str
    exchange: str | None
    exchange_type: str
    routing_key: str
    declare: bool
    prefetch: int
    path: str


def settings(spec: RabbitmqSpec, identity: SourceIdentity) -> Settings:
    """Read the spec.

    Raises:
        ConfigError: a field is wrong, or two contradict each other.
    """
    path = f"spec.rabbitmq.{identity.entry}"
    url, shown, secure = _url(reveal(spec.url) or "", f"{path}.url")
    if spec.tls is not None and not secure:
        # The login would go out in plain text although TLS is asked for.
        raise ConfigError("tls needs an amqps:// address", path=f"{path}.tls")
    _check_binding(spec, path)
    return Settings(
        url=url,
        shown=shown,
        tls=client_context(spec.tls or Tls(), f"{path}.tls") if secure else None,
        queue=_queue(spec, identity, path),
        exchange=spec.exchange if spec.declare else None,
        exchange_type=spec.exchange_type,
        routing_key=spec.routing_key,
        declare=spec.declare,
        prefetch=spec.prefetch,
        path=path,
    )


def _url(given: str, path: str) -> tuple[str, str, bool]:
    """The address, what is shown of it, and whether it is TLS's."""
    text = given.strip()
    shown = text.rpartition("@")[2].partition("?")[0]
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise ConfigError(f"{shown} is no address: {error}", path=path) from None
    if url.scheme not in ("amqp", "amqps") or not host or port == 0 or "," in url.netloc:
        raise ConfigError(f"{shown or 'nothing'} is no address; {_EXPECTED}", path=path)
    if "/" in url.path[1:] or url.fragment:
        raise ConfigError(
            f"{shown}: {_EXPECTED}; a / in the vhost's name is written %2F", path=path
        )
    for name, _ in parse_qsl(url.query, keep_blank_values=True):
        if name != "heartbeat":
            raise ConfigError(f"{name} is not read from the address; {_EXPECTED}", path=path)
    secure = url.scheme == "amqps"
    vhost = unquote(url.path[1:]) or "/"
    where = f"{host}:{port or (5671 if secure else 5672)}"
    return text, where if vhost == "/" else f"{where}/{vhost}", secure


def _queue(spec: RabbitmqSpec, identity: SourceIdentity, path: str) -> str:
    queue = spec.queue or identity.entry
    _check_name(queue, f"{path}.queue")
    if spec.declare and queue.startswith(_RESERVED):
        raise ConfigError(
            f"names that begin with {_RESERVED} are RabbitMQ's own; use another, or declare: false",
            path=f"{path}.queue",
        )
    return queue


def _check_binding(spec: RabbitmqSpec, path: str) -> None:
    if spec.exchange is None:
        if spec.routing_key != "#":
            raise ConfigError(
                "a routing key is the binding's to an exchange, and there is no exchange",
                path=f"{path}.routingKey",
            )
        return
    if not spec.declare:
        raise ConfigError(
            "with declare: false nothing is bound; leave out exchange, or let it be declared",
            path=f"{path}.exchange",
        )
    if not spec.exchange:
        raise ConfigError(
            "the default exchange has every queue bound by its name; leave out exchange",
            path=f"{path}.exchange",
        )
    _check_name(spec.exchange, f"{path}.exchange")
    if len(spec.routing_key.encode()) > _LONGEST:
        raise ConfigError(f"expected at most {_LONGEST} bytes", path=f"{path}.routingKey")


def _check_name(name: str, path: str) -> None:
    if not name.isprintable() or not 0 < len(name.encode()) <= _LONGEST:
        raise ConfigError(
            f"expected a name of at most {_LONGEST} bytes, without control characters", path=path
        )
