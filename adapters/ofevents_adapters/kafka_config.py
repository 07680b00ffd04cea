"""The settings of the Kafka client: from `KafkaSpec` to librdkafka's properties.

Called by `kafka` when the source is built, so that a contradiction in the spec is
found before anything connects. What keeps the promises (offsets, group, assignment)
is ours and cannot be overridden by `config`; everything else can.
"""

from __future__ import annotations

from typing import Any, Final

from ofevents.api.kafka import KafkaSpec
from ofevents.api.meta import Tls, reveal
from ofevents.errors import ConfigError
from ofevents.ports import SourceIdentity

OURS: Final = {
    "bootstrap.servers": "brokers",
    "metadata.broker.list": "brokers",
    "group.id": "consumerGroup",
    "auto.offset.reset": "initialOffset",
    "enable.auto.commit": "nothing: an offset is committed when its event is stored",
    "enable.auto.offset.store": "nothing: an offset is committed when its event is stored",
    "enable.partition.eof": "nothing: the end of a partition is no event",
    "partition.assignment.strategy": "nothing: it is cooperative-sticky",
    "group.protocol": "nothing: it is classic",
}
"""Properties that `config` may not set, and the field to use in their place."""

_DEFAULTS: Final[dict[str, Any]] = {
    # A worker that was killed gives its partitions back after this time; librdkafka's
    # 45 s would be a long silence. A new member is let in at a heartbeat.
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 1_000,
    "socket.keepalive.enable": True,
    "reconnect.backoff.max.ms": 2_000,
    "allow.auto.create.topics": False,
    # Memory: what is fetched ahead of us. Smaller chunks mix the partitions better,
    # and a full queue is looked at again soon.
    "queued.max.messages.kbytes": 16_384,
    "fetch.message.max.bytes": 262_144,
    "fetch.queue.backoff.ms": 20,
    # How often the lag is told.
    "statistics.interval.ms": 5_000,
    # Errors come through a callback; librdkafka's own log lines would repeat them.
    "log_level": 2,
}


def client_config(spec: KafkaSpec, identity: SourceIdentity) -> dict[str, Any]:
    """The properties of one consumer.

    Raises:
        ConfigError: `config` sets what is ours, or a field that another one needs is
            missing.
    """
    path = f"spec.kafka.{identity.entry}"
    for name in spec.config:
        if name in OURS:
            raise ConfigError(
                f"{name} cannot be set; use {OURS[name]}", path=f"{path}.config.{name}"
            )
    config: dict[str, Any] = {
        **_DEFAULTS,
        **_security(spec, path),
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
    config.setdefault("client.id", "ofevents")
    return config


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


def _security(spec: KafkaSpec, path: str) -> dict[str, Any]:
    config: dict[str, Any] = _tls(spec.tls, path) if spec.tls is not None else {}
    if spec.auth_required:
        user, password = reveal(spec.sasl_username), reveal(spec.sasl_password)
        for value, field in ((user, "saslUsername"), (password, "saslPassword")):
            if not value:
                raise ConfigError(f"authRequired: true needs {field}", path=f"{path}.{field}")
        config |= {
            "sasl.mechanism": spec.sasl_mechanism,
            "sasl.username": user,
            "sasl.password": password,
        }
    config["security.protocol"] = {
        (False, False): "plaintext",
        (False, True): "ssl",
        (True, False): "sasl_plaintext",
        (True, True): "sasl_ssl",
    }[spec.auth_required, spec.tls is not None]
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


def explain(error: Exception, spec: KafkaSpec, path: str) -> ConfigError:
    """What librdkafka refuses when a consumer is made, as a ConfigError."""
    reason = error.args[0]
    text = str(reason.str() if hasattr(reason, "str") else reason)
    for name in spec.config:
        if f'"{name}"' in text:
            return ConfigError(f"{text} (a property of librdkafka)", path=f"{path}.config.{name}")
    return ConfigError(f"the Kafka client refuses its settings: {text}", path=path)
