"""The settings of the Kafka client: from `KafkaSpec` to librdkafka's properties.

Called by `kafka` and `kafka_sink` when they are built, so that a contradiction in the
spec is found before anything connects. What keeps the promises (offsets, group,
assignment; confirmation, order) is ours and cannot be overridden by `config`; everything
else can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ofevents.api.kafka import KafkaSpec
from ofevents.api.meta import Tls, reveal
from ofevents.api.sink import KafkaSink
from ofevents.errors import ConfigError
from ofevents.ports import SourceIdentity

_BROKERS: Final = {"bootstrap.servers": "brokers", "metadata.broker.list": "brokers"}

OURS: Final = {
    **_BROKERS,
    "group.id": "consumerGroup",
    "auto.offset.reset": "initialOffset",
    "enable.auto.commit": "nothing: an offset is committed when its event is stored",
    "enable.auto.offset.store": "nothing: an offset is committed when its event is stored",
    "enable.partition.eof": "nothing: the end of a partition is no event",
    "partition.assignment.strategy": "nothing: it is cooperative-sticky",
    "group.protocol": "nothing: it is classic",
}
"""Properties that `config` may not set, and the field to use in their place."""

OURS_OF_A_SINK: Final = {
    **_BROKERS,
    "acks": "nothing: every replica in sync confirms an event",
    "request.required.acks": "nothing: every replica in sync confirms an event",
    "enable.idempotence": "nothing: it keeps the order of a key",
    "message.timeout.ms": "delivery.timeout",
    "delivery.timeout.ms": "delivery.timeout",
    "transactional.id": "nothing: a sink has no transactions",
}
"""As OURS, of a producer."""

_CLIENT: Final[dict[str, Any]] = {
    "client.id": "ofevents",
    "socket.keepalive.enable": True,
    "reconnect.backoff.max.ms": 2_000,
    # Errors come through a callback; librdkafka's own log lines would repeat them.
    "log_level": 2,
}

_DEFAULTS: Final[dict[str, Any]] = {
    **_CLIENT,
    # A worker that was killed gives its partitions back after this time; librdkafka's
    # 45 s would be a long silence. A new member is let in at a heartbeat.
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 1_000,
    "allow.auto.create.topics": False,
    # Memory: what is fetched ahead of us. Smaller chunks mix the partitions better,
    # and a full queue is looked at again soon.
    "queued.max.messages.kbytes": 16_384,
    "fetch.message.max.bytes": 262_144,
    "fetch.queue.backoff.ms": 20,
    # How often the lag is told.
    "statistics.interval.ms": 5_000,
}

_PRODUCER: Final[dict[str, Any]] = {
    **_CLIENT,
    # What is ready goes out; while it is on its way, the next batch gathers.
    "linger.ms": 0,
    # The partition that every Java client chooses for that key.
    "partitioner": "murmur2_random",
    # The topic's limit counts, not the client's.
    "message.max.bytes": 1_000_000_000,
    # A topic that is not there is told in time, and looked for again soon.
    "topic.metadata.propagation.max.ms": 3_000,
}


def client_config(spec: KafkaSpec, identity: SourceIdentity) -> dict[str, Any]:
    """The properties of one consumer.

    Raises:
        ConfigError: `config` sets what is ours, or a field that another one needs is
            missing.
    """
    path = f"spec.kafka.{identity.entry}"
    _leave_ours(spec.config, OURS, path)
    config: dict[str, Any] = {
        **_DEFAULTS,
        **_source_security(spec, path),
        **_sizes(spec),
        **spec.config,
        "bootstrap.servers": ",".join(spec.brokers),
        "group.id": spec.consumer_group or identity.group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # `newest` is settled by us at the group's first start (see kafka_reader.py);
        # from then on a lost position must not skip what the topic still holds.
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
    }
    return config


def producer_config(spec: KafkaSink, timeout: float) -> dict[str, Any]:
    """The properties of a sink's producer, which has `timeout` seconds for an event.

    Raises:
        ConfigError: as `client_config`.
    """
    path = "sink.kafka"
    _leave_ours(spec.config, OURS_OF_A_SINK, path)
    user, password = reveal(spec.sasl_username), reveal(spec.sasl_password)
    if bool(user) != bool(password):
        missing = "saslPassword" if user else "saslUsername"
        raise ConfigError("a login needs saslUsername and saslPassword", path=f"{path}.{missing}")
    login = (user, password, spec.sasl_mechanism) if user and password else None
    return {
        **_PRODUCER,
        **_security(login, spec.tls, path),
        **spec.config,
        "bootstrap.servers": ",".join(spec.brokers),
        "acks": "all",
        "enable.idempotence": True,
        # It has thrown the event away by the time that the caller gives up.
        "message.timeout.ms": max(1, int(timeout * 900)),
    }


def _leave_ours(config: dict[str, str], ours: Mapping[str, str], path: str) -> None:
    for name in config:
        if name in ours:
            raise ConfigError(
                f"{name} cannot be set; use {ours[name]}", path=f"{path}.config.{name}"
            )


def _sizes(spec: KafkaSpec) -> dict[str, int]:
    if spec.max_message_bytes is None:
        return {}
    limit = max(spec.max_message_bytes, 1024)
    # The client wants room for a whole response around the largest record.
    return {
        "fetch.message.max.bytes": limit,
        "fetch.max.bytes": max(limit, 52_428_800),
        "receive.message.max.bytes": max(limit + 1_048_576, 100_000_000),
    }


def _source_security(spec: KafkaSpec, path: str) -> dict[str, Any]:
    if not spec.auth_required:
        return _security(None, spec.tls, path)
    user, password = reveal(spec.sasl_username), reveal(spec.sasl_password)
    for value, field in ((user, "saslUsername"), (password, "saslPassword")):
        if not value:
            raise ConfigError(f"authRequired: true needs {field}", path=f"{path}.{field}")
    return _security((user, password, spec.sasl_mechanism), spec.tls, path)


def _security(
    login: tuple[str | None, str | None, str] | None, tls: Tls | None, path: str
) -> dict[str, Any]:
    """Properties of the login (user, password, mechanism) and of TLS, where there are any."""
    config: dict[str, Any] = _tls(tls, path) if tls is not None else {}
    if login is not None:
        names = ("sasl.username", "sasl.password", "sasl.mechanism")
        config |= dict(zip(names, login, strict=True))
    config["security.protocol"] = {
        (False, False): "plaintext",
        (False, True): "ssl",
        (True, False): "sasl_plaintext",
        (True, True): "sasl_ssl",
    }[login is not None, tls is not None]
    return config


def _tls(tls: Tls, path: str) -> dict[str, Any]:
    texts = {
        "ssl.ca.pem": reveal(tls.ca),
        "ssl.certificate.pem": reveal(tls.cert),
        "ssl.key.pem": reveal(tls.key),
    }
    if bool(texts["ssl.certificate.pem"]) != bool(texts["ssl.key.pem"]):
        raise ConfigError("mutual TLS needs both cert and key", path=f"{path}.tls")
    config: dict[str, Any] = {name: text for name, text in texts.items() if text}
    if tls.insecure_skip_verify:
        config["enable.ssl.certificate.verification"] = False
    return config


def explain(error: Exception, spec: KafkaSpec | KafkaSink, path: str) -> ConfigError:
    """What librdkafka refuses when a client is made, as a ConfigError."""
    reason = error.args[0]
    text = str(reason.str() if hasattr(reason, "str") else reason)
    for name in spec.config:
        if f'"{name}"' in text:
            return ConfigError(f"{text} (a property of librdkafka)", path=f"{path}.config.{name}")
    return ConfigError(f"the Kafka client refuses its settings: {text}", path=path)
