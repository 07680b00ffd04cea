"""From `NatsSpec` to what the NATS client is given.

Called by `nats` and `nats_sink` when they are built, so that a contradiction in the spec
is found before anything connects, by `ofevents validate` too.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

from nats.aio.client import RawCredentials

from ofevents.api.messaging import NatsCredentials, NatsSpec
from ofevents.api.meta import Tls, reveal
from ofevents.api.sink import NatsSink
from ofevents.api.tls import client_context
from ofevents.errors import ConfigError
from ofevents.event import digest
from ofevents.ports import SourceIdentity

_SCHEMES: Final = {"nats": "tls", "tls": "tls", "ws": "wss", "wss": "wss"}
"""Each scheme, and what it is with TLS."""
_NO_SPACE: Final = re.compile(r"[^\s\x00-\x1f\x7f]+\Z")
_CONSUMER: Final = re.compile(r"[^\s.*>/\\\x00-\x1f\x7f]+\Z")
_STREAM: Final = _CONSUMER
_SEED: Final = re.compile(r"SU[A-Z2-7]{56}\Z")
_LONGEST_NAME: Final = 200
_LEAST_ACK_WAIT: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a server is reached.

    Attributes:
        servers: addresses, with the scheme that TLS has where it is wanted.
        shown: the same for people, without what may be a secret.
        login: credentials as `Client.connect` takes them.
        tls: the context of a TLS connection; None where none is asked for.
        path: of the fields in the document, for errors.
    """

    servers: tuple[str, ...]
    shown: str
    login: dict[str, Any] = field(repr=False)
    tls: ssl.SSLContext | None
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Access):
    """What a source of this spec does.

    Attributes:
        subjects: what is subscribed to, or filtered by; empty for a whole stream.
        queue: the queue group of core NATS.
        durable: the consumer's name on JetStream.
    """

    subjects: tuple[str, ...]
    queue: str
    durable: str


def settings(spec: NatsSpec, identity: SourceIdentity) -> Settings:
    """Read the spec.

    Raises:
        ConfigError: a field is wrong, or two contradict each other.
    """
    path = f"spec.nats.{identity.entry}"
    access = _access(spec, path)
    if spec.jetstream is not None:
        _check_jetstream(spec, path)
    return Settings(
        **access,
        subjects=_subjects(spec, path),
        queue=_queue(spec, identity, path),
        durable=_durable(spec, identity),
    )


def sink_access(spec: NatsSink) -> Access:
    """Read the spec of a sink.

    Raises:
        ConfigError: a field is wrong, or two contradict each other.
    """
    path = "sink.nats"
    _check_subject(spec.subject, f"{path}.subject")
    if "*" in spec.subject.split(".") or ">" in spec.subject.split("."):
        raise ConfigError(
            f"{spec.subject} has wildcards; events are sent to one subject", path=f"{path}.subject"
        )
    return Access(**_access(spec, path))


def _access(spec: NatsSpec | NatsSink, path: str) -> dict[str, Any]:
    servers, tls = _servers(spec, path), _wants_tls(spec)
    return {
        "servers": tuple(servers),
        "shown": ", ".join(url.rpartition("@")[2].rpartition("//")[2] for url in servers),
        "login": _login(spec.credentials, path),
        "tls": client_context(spec.tls or Tls(), f"{path}.tls") if tls else None,
        "path": path,
    }


# -- where ----------------------------------------------------------------------


def _wants_tls(spec: NatsSpec | NatsSink) -> bool:
    return spec.tls is not None or any(one in spec.url for one in ("tls://", "wss://"))


def _servers(spec: NatsSpec | NatsSink, path: str) -> list[str]:
    given = [one.strip() for one in spec.url.split(",") if one.strip()]
    path = f"{path}.url"
    if not given:
        raise ConfigError("expected an address such as nats://nats:4222", path=path)
    servers = [_server(one, _wants_tls(spec), path) for one in given]
    if len({one.startswith("ws") for one in servers}) > 1:
        raise ConfigError("expected all addresses to be WebSockets, or none", path=path)
    return servers


def _server(given: str, tls: bool, path: str) -> str:
    url = given if "://" in given else f"nats://{given}"
    shown = url.rpartition("@")[2]
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{shown} is no address: {error}", path=path) from None
    if parts.scheme not in _SCHEMES or not host:
        raise ConfigError(
            f"{shown} is no address; expected nats://HOST:PORT, tls://, ws:// or wss://", path=path
        )
    return parts._replace(scheme=_SCHEMES[parts.scheme]).geturl() if tls else url


# -- what -----------------------------------------------------------------------


def _subjects(spec: NatsSpec, path: str) -> tuple[str, ...]:
    if spec.subject is not None and spec.subjects:
        raise ConfigError("subject and subjects exclude each other", path=f"{path}.subjects")
    if spec.subject is not None:
        field, found = "subject", [spec.subject]
    else:
        field, found = "subjects", spec.subjects
    if not found and spec.jetstream is None:
        raise ConfigError("expected subject, subjects or jetstream: nothing is read", path=path)
    for at, one in enumerate(found):
        _check_subject(one, f"{path}.{field}")
        for other in found[:at]:
            if _overlap(one.split("."), other.split(".")):
                raise ConfigError(
                    f"{other} and {one} overlap: a message of both would come twice",
                    path=f"{path}.{field}",
                )
    return tuple(found)


def _check_subject(subject: str, path: str) -> None:
    tokens = subject.split(".")
    if not _NO_SPACE.match(subject) or not all(tokens) or ">" in tokens[:-1]:
        raise ConfigError(
            f"{subject!r} is no subject; expected words with dots between them such as "
            "orders.*.paid, `>` only at the end",
            path=path,
        )


def _overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether a subject can match both."""
    for a, b in zip(one, other, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(one) == len(other)


def _queue(spec: NatsSpec, identity: SourceIdentity, path: str) -> str:
    if spec.queue is None:
        return quote(identity.group, safe="")
    if spec.jetstream is not None:
        raise ConfigError(
            "queue is core NATS's; with jetstream, workers share the work through the durable "
            "consumer (jetstream.durable)",
            path=f"{path}.queue",
        )
    if not _NO_SPACE.match(spec.queue):
        raise ConfigError(
            f"{spec.queue!r} is no queue group; expected a word without spaces",
            path=f"{path}.queue",
        )
    return spec.queue


def _check_jetstream(spec: NatsSpec, path: str) -> None:
    stream = spec.jetstream
    assert stream is not None
    for name, value, rule in (
        ("stream", stream.stream, _STREAM),
        ("durable", stream.durable, _CONSUMER),
    ):
        if value is not None and not rule.match(value):
            raise ConfigError(
                f"{value!r} is no {name}; its name has no space, no dot and none of * > / \\",
                path=f"{path}.jetstream.{name}",
            )
    if stream.ack_wait < _LEAST_ACK_WAIT:
        raise ConfigError("expected at least 1s", path=f"{path}.jetstream.ackWait")


def _durable(spec: NatsSpec, identity: SourceIdentity) -> str:
    """The name given; otherwise the group's, `~` for each dot, which a name cannot have."""
    if spec.jetstream is not None and spec.jetstream.durable is not None:
        return spec.jetstream.durable
    name = quote(identity.group, safe="").replace("~", "%7E").replace(".", "~")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 33]}-{digest(name)}"


# -- who ------------------------------------------------------------------------


def _login(credentials: NatsCredentials | None, path: str) -> dict[str, Any]:
    if credentials is None:
        return {}
    path = f"{path}.credentials"
    user, password = reveal(credentials.username), reveal(credentials.password)
    token, nkey = reveal(credentials.token), reveal(credentials.nkey)
    creds = reveal(credentials.creds)
    forms = {
        "username and password": user or password,
        "token": token,
        "nkey": nkey,
        "creds": creds,
    }
    given = [name for name, value in forms.items() if value]
    if len(given) != 1:
        found = f"found {', '.join(given)}" if given else "found none"
        raise ConfigError(f"expected one of {', '.join(forms)}; {found}", path=path)
    if bool(user) != bool(password):
        raise ConfigError("a login needs both username and password", path=path)
    if nkey and not _SEED.match(nkey.strip()):
        raise ConfigError(
            "expected the seed of a user's NKey, 58 characters beginning with SU",
            path=f"{path}.nkey",
        )
    if creds and ("NATS USER JWT" not in creds or "USER NKEY SEED" not in creds):
        raise ConfigError(
            "expected the contents of a .creds file, with a NATS USER JWT and a USER NKEY SEED",
            path=f"{path}.creds",
        )
    login = {
        "user": user,
        "password": password,
        "token": token,
        "nkeys_seed_str": nkey.strip() if nkey else None,
        "user_credentials": RawCredentials(creds) if creds else None,
    }
    return {name: value for name, value in login.items() if value}
