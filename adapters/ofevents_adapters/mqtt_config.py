"""From `MqttSpec` to what a connection needs.

Called by `mqtt` when the source is built, so that a contradiction in the spec is
found before anything connects, by `ofevents validate` too.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit
from uuid import uuid4

from ofevents.api.messaging import MqttSpec
from ofevents.api.meta import Tls, reveal
from ofevents.api.tls import client_context
from ofevents.errors import ConfigError
from ofevents.ports import SourceIdentity
from ofevents_adapters.mqtt_packets import Version

_PLAIN: Final = ("tcp", "mqtt")
_TLS: Final = ("ssl", "tls", "mqtts")
_SHARE: Final = "$share/"
_LONGEST: Final = 65535
"""Bytes of a text in MQTT."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a source of this spec does.

    Attributes:
        shown: host and port, for people.
        tls: the context of a TLS connection; None where none is asked for.
        clean: the broker forgets the session when the connection ends.
        topic: what is subscribed to, with `$share/GROUP/` in front where it is shared.
        filter: what the topics of messages match.
        own_session: each worker has one of its own; several can run at once.
        path: of the entry in the document, for errors.
    """

    host: str
    port: int
    shown: str
    tls: ssl.SSLContext | None
    version: Version
    client_id: str
    username: str | None
    password: str | None = field(repr=False)
    clean: bool
    topic: str
    filter: str
    own_session: bool
    qos: int
    retained: bool
    path: str


def settings(spec: MqttSpec, identity: SourceIdentity) -> Settings:
    """Read the spec.

    Raises:
        ConfigError: a field is wrong, or two contradict each other.
    """
    path = f"spec.mqtt.{identity.entry}"
    url = _url(reveal(spec.url) or "", f"{path}.url")
    username, password = _login(spec, url, path)
    filter = _filter(spec, path)
    shared = filter != spec.topic
    own_session = shared and spec.consumer_id is None
    port = url.port or (8883 if url.scheme in _TLS else 1883)
    assert url.hostname is not None
    return Settings(
        host=url.hostname,
        port=port,
        shown=f"{url.hostname}:{port}",
        tls=_tls(spec, path) if url.scheme in _TLS else None,
        version=5 if spec.protocol == "5" else 4,
        client_id=_client_id(spec, identity, own_session, path),
        username=username,
        password=password,
        clean=spec.clean_session or own_session,
        topic=spec.topic,
        filter=filter,
        own_session=own_session,
        qos=spec.qos,
        retained=spec.retain,
        path=path,
    )


# -- where and who ----------------------------------------------------------------


def _url(given: str, path: str) -> SplitResult:
    text = given.strip()
    shown = text.rpartition("@")[2]
    expected = "expected tcp://HOST:PORT, or mqtts://HOST:PORT for TLS"
    try:
        url = urlsplit(text if "://" in text else f"tcp://{text}")
        _ = url.port
    except ValueError as error:
        raise ConfigError(f"{shown} is no address: {error}", path=path) from None
    if url.scheme in ("ws", "wss"):
        raise ConfigError(f"{shown}: MQTT over WebSockets is not read; {expected}", path=path)
    if url.scheme not in (*_PLAIN, *_TLS) or not url.hostname or url.port == 0:
        raise ConfigError(f"{shown or 'nothing'} is no address; {expected}", path=path)
    if url.path not in ("", "/") or url.query or url.fragment or "," in url.netloc:
        raise ConfigError(f"{shown}: {expected}, one address and nothing behind it", path=path)
    return url


def _login(spec: MqttSpec, url: SplitResult, path: str) -> tuple[str | None, str | None]:
    in_url = [None if one is None else unquote(one) for one in (url.username, url.password)]
    fields = reveal(spec.username), reveal(spec.password)
    for name, given, other in zip(("username", "password"), fields, in_url, strict=True):
        if given is not None and other is not None:
            raise ConfigError(f"the url has a {name} too; expected one", path=f"{path}.{name}")
    username, password = (
        given if given is not None else other
        for given, other in zip(fields, in_url, strict=True)
    )  # fmt: skip
    if password is not None and username is None:
        raise ConfigError("a password needs a username", path=f"{path}.password")
    for name, text in (("username", username), ("password", password)):
        if text is not None and len(text.encode()) > _LONGEST:
            raise ConfigError(f"expected at most {_LONGEST} bytes", path=f"{path}.{name}")
    return username, password


def _tls(spec: MqttSpec, path: str) -> ssl.SSLContext:
    tls = Tls(
        ca=spec.ca_cert,
        cert=spec.client_cert,
        key=spec.client_key,
        insecure_skip_verify=spec.insecure_skip_verify,
    )
    if bool(reveal(spec.client_cert)) != bool(reveal(spec.client_key)):
        field = "clientCert" if spec.client_key else "clientKey"
        raise ConfigError(
            "mutual TLS needs both clientCert and clientKey", path=f"{path}.{field}"
        )  # fmt: skip
    try:
        return client_context(tls, f"{path}.caCert")
    except ConfigError as error:
        if not reveal(spec.client_cert):
            raise
        message = error.message.replace("ca, cert and key", "caCert, clientCert and clientKey")
        raise ConfigError(message, path=path) from error


def _client_id(
    spec: MqttSpec, identity: SourceIdentity, own_session: bool, path: str
) -> str:  # fmt: skip
    if spec.consumer_id is not None:
        if not _is_text(spec.consumer_id):
            raise ConfigError(
                f"expected a text of at most {_LONGEST} bytes, without control characters",
                path=f"{path}.consumerID",
            )
        return spec.consumer_id
    name = quote(identity.group, safe="")
    return f"{name}.{uuid4().hex[:12]}" if own_session else name


# -- what -------------------------------------------------------------------------


def _filter(spec: MqttSpec, path: str) -> str:
    """The topic filter, without what shares it."""
    path = f"{path}.topic"
    filter = spec.topic
    if filter.startswith(_SHARE):
        group, _, filter = filter.removeprefix(_SHARE).partition("/")
        if not group or "+" in group or "#" in group:
            raise ConfigError(
                f"{spec.topic!r} shares nothing; expected $share/GROUP/FILTER", path=path
            )
        if spec.protocol != "5":
            raise ConfigError('a shared subscription needs protocol: "5"', path=path)
        if spec.retain:
            raise ConfigError(
                "a shared subscription is sent no retained messages; leave out retain",
                path=path.removesuffix("topic") + "retain",
            )
    levels = filter.split("/")
    wild = any(("+" in one or "#" in one) and len(one) > 1 for one in levels)
    if not _is_text(filter) or wild or "#" in levels[:-1]:
        raise ConfigError(
            f"{spec.topic!r} is no topic filter; expected levels with / between them such as "
            "plant/+/temperature, + for one whole level, # only at the end",
            path=path,
        )
    return filter


def _is_text(text: str) -> bool:
    return text.isprintable() and 0 < len(text.encode()) <= _LONGEST


def matches(filter: str, topic: str) -> bool:
    """Whether a message of that topic is one of the filter's."""
    if topic.startswith("$") and filter[0] in "+#":
        return False  # a wildcard is not for the broker's own topics
    wanted, levels = filter.split("/"), topic.split("/")
    for at, one in enumerate(wanted):
        if one == "#":
            return True
        if at == len(levels) or one not in ("+", levels[at]):
            return False
    return len(wanted) == len(levels)
