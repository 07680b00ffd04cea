"""From `RedisSpec` to what the Redis client is given.

Called by `redis` when the source is built, so that a contradiction in the spec is
found before anything connects, by `ofevents validate` too. Field names and their
forms are those of Dapr's Redis components, as OpenFunction has them: a duration may
be a bare number of milliseconds.
"""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass, field
from typing import Final

from ofevents.api.messaging import RedisSpec
from ofevents.api.meta import Tls, reveal
from ofevents.api.scalars import parse_duration
from ofevents.api.tls import client_context
from ofevents.errors import ConfigError
from ofevents.ports import SourceIdentity

PROCESSING: Final = 60.0
"""Seconds after which an entry of a worker that has died is taken over."""
REDELIVER: Final = 15.0
"""Seconds between two looks for such entries."""
_TIMEOUT: Final = 5.0
_LEAST_PROCESSING: Final = 1.0
_LEAST_REDELIVER: Final = 0.1
_LEAST_TIMEOUT: Final = 0.5
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_ADDRESS: Final = re.compile(
    r"(?:\[(?P<six>[0-9a-fA-F:.%]+)\]|(?P<host>[^\s:/@\[\]]+))(?::(?P<port>\d{1,5}))?"
)
_ENTRY: Final = re.compile(r"\$|\d{1,20}(-\d{1,20})?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a source of this spec does.

    Attributes:
        servers: where to begin; Sentinels, or nodes of the cluster, where it is one.
        shown: the same for people.
        sentinel: the master's name where `servers` are Sentinels, else None.
        stream, channel: what is read; one is "".
        consumer: this machine's name in the group. Workers may share it: an entry is
            taken over by how long nobody has touched it, not by whose it is.
        initial: entry id after which a new group begins.
        processing, redeliver, dial, answer: seconds.
        path: of the entry in the document, for errors.
    """

    servers: tuple[Address, ...]
    shown: str
    sentinel: str | None
    cluster: bool
    username: str | None
    password: str | None = field(repr=False)
    db: int
    tls: ssl.SSLContext | None
    stream: str
    channel: str
    group: str
    consumer: str
    initial: str
    processing: float
    redeliver: float
    dial: float
    answer: float
    path: str


def settings(spec: RedisSpec, identity: SourceIdentity) -> Settings:
    """Read the spec.

    Raises:
        ConfigError: a field is wrong, or two contradict each other.
    """
    path = f"spec.redis.{identity.entry}"
    cluster = _cluster(spec, path)
    servers = _servers(spec, cluster, path)
    wants_tls = spec.enable_tls or spec.tls is not None
    _check_names(spec, path)
    return Settings(
        servers=servers,
        shown=", ".join(shown(each) for each in servers),
        sentinel=spec.sentinel_master_name if spec.failover else None,
        cluster=cluster,
        username=reveal(spec.redis_username) or None,
        password=reveal(spec.redis_password) or None,
        db=spec.redis_db,
        tls=client_context(spec.tls or Tls(), f"{path}.tls") if wants_tls else None,
        stream="" if spec.channel else spec.stream or identity.entry,
        channel=spec.channel or "",
        group=spec.consumer_group or identity.group,
        consumer=socket.gethostname() or "ofevents",
        initial=spec.initial_id,
        processing=_seconds(
            spec.processing_timeout, PROCESSING, _LEAST_PROCESSING, f"{path}.processingTimeout"
        ),
        redeliver=_seconds(
            spec.redeliver_interval, REDELIVER, _LEAST_REDELIVER, f"{path}.redeliverInterval"
        ),
        dial=_timeout(spec.dial_timeout, f"{path}.dialTimeout"),
        answer=_timeout(spec.read_timeout, f"{path}.readTimeout"),
        path=path,
    )


# -- where ----------------------------------------------------------------------


def shown(address: Address) -> str:
    """`host:port`, for people."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _cluster(spec: RedisSpec, path: str) -> bool:
    if spec.redis_type not in (None, "", "node", "cluster"):
        raise ConfigError(
            f"expected node or cluster, found {spec.redis_type!r}", path=f"{path}.redisType"
        )
    if spec.redis_type != "cluster":
        return False
    if spec.failover:
        raise ConfigError(
            "a cluster fails over by itself: leave out failover, or redisType",
            path=f"{path}.failover",
        )
    if spec.redis_db:
        raise ConfigError("a cluster has database 0 only", path=f"{path}.redisDB")
    return True


def _servers(spec: RedisSpec, cluster: bool, path: str) -> tuple[Address, ...]:
    if spec.failover and not spec.sentinel_master_name:
        raise ConfigError(
            "failover needs the name that the Sentinels know the master by",
            path=f"{path}.sentinelMasterName",
        )
    path = f"{path}.redisHost"
    port = _SENTINEL_PORT if spec.failover else _PORT
    given = [one.strip() for one in spec.redis_host.split(",") if one.strip()]
    servers = tuple(_address(one, port, path) for one in given)
    if not servers:
        raise ConfigError("expected an address such as redis:6379", path=path)
    if len(servers) > 1 and not (spec.failover or cluster):
        raise ConfigError(
            "several addresses need failover: true (Sentinels) or redisType: cluster", path=path
        )
    return servers


def _address(text: str, port: int, path: str) -> Address:
    found = _ADDRESS.fullmatch(text)
    number = int(found["port"] or port) if found else 0
    if found is None or not 0 < number < 65536:
        # What stands before an @ may be a password.
        raise ConfigError(
            f"{text.rpartition('@')[2]!r} is no address; expected HOST:PORT, without a scheme, "
            "user or password",
            path=path,
        )
    return found["six"] or found["host"], number


# -- what -----------------------------------------------------------------------


def _check_names(spec: RedisSpec, path: str) -> None:
    if spec.stream and spec.channel:
        raise ConfigError("stream and channel exclude each other", path=f"{path}.channel")
    if spec.channel and spec.consumer_group:
        raise ConfigError(
            "a channel has no consumer groups: every subscriber gets every message; read a "
            "stream to share the work",
            path=f"{path}.consumerGroup",
        )
    for name, value in (
        ("stream", spec.stream),
        ("channel", spec.channel),
        ("consumerGroup", spec.consumer_group),
    ):
        if value is not None and (not value or _CONTROL.search(value)):
            raise ConfigError(
                f"{value!r} is no name; expected text without control characters",
                path=f"{path}.{name}",
            )
    if not _ENTRY.fullmatch(spec.initial_id):
        raise ConfigError(
            f"expected 0 for all entries, $ for new ones, or an entry's id such as "
            f"1769860800123-0, found {spec.initial_id!r}",
            path=f"{path}.initialId",
        )


def _timeout(text: str | None, path: str) -> float:
    """A timeout of the client; 0 and -1 stand for its default, which it never goes without."""
    return _TIMEOUT if text in ("0", "-1") else _seconds(text, _TIMEOUT, _LEAST_TIMEOUT, path)


def _seconds(text: str | None, default: float, least: float, path: str) -> float:
    if not text:
        return default
    try:
        seconds = int(text) / 1000 if text.isdecimal() else parse_duration(text)
    except ValueError as error:
        raise ConfigError(str(error), path=path) from None
    if seconds < least:
        raise ConfigError(f"expected at least {least:g} s, found {text!r}", path=path)
    return seconds
