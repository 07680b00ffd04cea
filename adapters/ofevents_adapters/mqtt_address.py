"""From the url and TLS of an `MqttSink` to what a connection needs.

Called by `mqtt_sink` when it is built, so that what is wrong is found before anything
connects, by `ofevents validate` too.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from ofevents.api.meta import Tls, reveal
from ofevents.api.sink import MqttSink
from ofevents.api.tls import client_context
from ofevents.errors import ConfigError

_PLAIN: Final = ("tcp", "mqtt")
_TLS: Final = ("ssl", "tls", "mqtts")
_PATH: Final = "sink.mqtt"


@dataclass(frozen=True, slots=True)
class Address:
    """A broker; `shown` is host and port, for people."""

    host: str
    port: int
    shown: str
    username: str | None
    password: str | None = field(repr=False)
    tls: ssl.SSLContext | None


def address_of(spec: MqttSink) -> Address:
    """Read the spec.

    Raises:
        ConfigError: the url or the topic is none, or the certificates.
    """
    _check_topic(spec.topic)
    text = (reveal(spec.url) or "").strip()
    shown = text.rpartition("@")[2]
    expected = "expected tcp://HOST:PORT, or mqtts://HOST:PORT for TLS"
    try:
        url = urlsplit(text if "://" in text else f"tcp://{text}")
        port = url.port
    except ValueError as error:
        raise ConfigError(f"{shown} is no address: {error}", path=f"{_PATH}.url") from None
    known = url.scheme in (*_PLAIN, *_TLS)
    if not known or not url.hostname or url.path not in ("", "/") or url.query:
        raise ConfigError(f"{shown or 'nothing'} is no address; {expected}", path=f"{_PATH}.url")
    if url.password and not url.username:
        raise ConfigError("a password needs a user", path=f"{_PATH}.url")
    secure = url.scheme in _TLS or spec.tls is not None
    port = port or (8883 if secure else 1883)
    return Address(
        host=url.hostname,
        port=port,
        shown=f"{url.hostname}:{port}",
        username=unquote(url.username) if url.username else None,
        password=unquote(url.password) if url.password else None,
        tls=client_context(spec.tls or Tls(), f"{_PATH}.tls") if secure else None,
    )


def _check_topic(topic: str) -> None:
    long = len(topic.encode()) > 65_535
    if not topic or not topic.isprintable() or "+" in topic or "#" in topic or long:
        raise ConfigError(
            f"{topic[:80]!r} is no topic; expected levels with / between them such as "
            "plant/7/paid, without wildcards",
            path=f"{_PATH}.topic",
        )
