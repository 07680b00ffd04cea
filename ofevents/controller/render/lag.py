"""What KEDA looks at to tell how many workers are needed, for each kind of worker.

A Trigger's lag is that of its consumer on the bus and of each subscriber's inbox: a worker
is needed as long as one of them holds something. Metadata are those of KEDA's scalers (2.21).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

from ofevents.api.meta import ScaleOption
from ofevents.api.resolved import ResolvedBus, ResolvedSource, ResolvedTrigger
from ofevents.bus.dapr_components import Names
from ofevents.bus.dapr_options import DaprOptions
from ofevents.bus.layout import Layout, durable
from ofevents.bus.options import JetStreamOptions
from ofevents.controller.render.workload import Spec
from ofevents.ports import SourceIdentity
from ofevents.resolve.resolution import needs

_LAG: Final = "10"
_ENDPOINT: Final = "natsServerMonitoringEndpoint"
_SASL: Final = {
    "PLAIN": "plaintext",
    "SCRAM-SHA-256": "scram_sha256",
    "SCRAM-SHA-512": "scram_sha512",
}
_ALONE: Final = ("cron", "file", "kubernetes")


@dataclass(frozen=True)
class Lag:
    """What KEDA looks at: `logins` are credentials by its parameters' names."""

    type: str
    metadata: Mapping[str, str]
    logins: Mapping[str, str] = field(default_factory=dict)


def _as_given(lag: Lag, given: Mapping[str, str]) -> Mapping[str, str]:
    """What the user says goes to KEDA as it is; a URL of NATS's monitoring in KEDA's form."""
    if lag.type != "nats-jetstream" or "://" not in given.get(_ENDPOINT, ""):
        return given
    seen = _monitoring(given[_ENDPOINT])
    return {**seen, **given, _ENDPOINT: seen[_ENDPOINT]}


def lags(spec: Spec, scale: ScaleOption) -> tuple[list[Lag], str]:
    """What a worker is scaled by; or why there is nothing."""
    found, trouble = _found(spec, scale)
    given = scale.metadata or {}
    told = [{**each.metadata, **_as_given(each, given)} for each in found]
    return [replace(each, metadata=one) for each, one in zip(found, told, strict=True)], trouble


def by_clock(scale: ScaleOption) -> bool:
    """Whether it is asked for by the clock instead of the lag."""
    return {"start", "end", "timezone", "desiredReplicas"} <= set(scale.metadata or {})


def sees_all(spec: Spec, scale: ScaleOption) -> bool:
    """Whether KEDA sees all that a worker is needed for. What waits for a function on a dapr
    bus does so in the state store until it is due, and is no lag meanwhile."""
    on_dapr = isinstance(spec, ResolvedTrigger) and spec.bus.driver == "dapr"
    return by_clock(scale) or not on_dapr


def _found(spec: Spec, scale: ScaleOption) -> tuple[list[Lag], str]:
    threshold = scale.lag_threshold or _LAG
    given = scale.metadata or {}
    if by_clock(scale):
        return [Lag("cron", {})], ""  # by the clock, for any worker
    if isinstance(spec, ResolvedTrigger):
        return _trigger(spec, threshold, given)
    if spec.source in _ALONE:
        return [], f"one worker of a {spec.source} source works, others stand by"
    if spec.source == "kafka":
        return [_kafka(spec, threshold)], ""
    if spec.source == "rabbitmq":
        return [_rabbitmq(spec, threshold)], ""
    if spec.source == "redis":
        return _redis(spec, threshold)
    if spec.source == "nats":
        return _nats(spec, threshold, given)
    return [], f"no lag of a {spec.source} source can be seen; give scaleOption.metadata start, " \
               "end, timezone and desiredReplicas to scale it by the clock"  # fmt: skip


def _identity(spec: ResolvedSource) -> SourceIdentity:
    return SourceIdentity(spec.namespace, spec.name, spec.source, spec.entry)


def _pem(tls: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(tls[name]) for name in ("ca", "cert", "key") if tls.get(name)}


def _kafka(spec: ResolvedSource, threshold: str) -> Lag:
    own = spec.spec
    tls = own.get("tls")
    seen = {
        "bootstrapServers": own["brokers"],
        "consumerGroup": own.get("consumerGroup") or _identity(spec).group,
        "topic": own["topic"],
        "lagThreshold": threshold,
        "offsetResetPolicy": "latest" if own.get("initialOffset") == "newest" else "earliest",
    }
    logins: dict[str, str] = {}
    if tls is not None:
        seen["tls"] = "enable"
        if tls.get("insecureSkipVerify"):
            seen["unsafeSsl"] = "true"
        logins |= _pem(tls)
    if own.get("authRequired"):
        seen["sasl"] = _SASL[own.get("saslMechanism", "PLAIN")]
        logins |= {"username": own.get("saslUsername", ""), "password": own.get("saslPassword", "")}
    return Lag("kafka", seen, logins)


def _rabbitmq(spec: ResolvedSource, threshold: str) -> Lag:
    own = spec.spec
    seen = {"protocol": "amqp", "queueName": own["queue"], "mode": "QueueLength",
            "value": threshold}  # fmt: skip
    logins = {"host": own["url"]}
    if (tls := own.get("tls")) is not None:
        logins |= {"tls": "enable", **_pem(tls)}
        if tls.get("insecureSkipVerify"):
            seen["unsafeSsl"] = "true"
    return Lag("rabbitmq", seen, logins)


def _redis(spec: ResolvedSource, threshold: str) -> tuple[list[Lag], str]:
    own = spec.spec
    if own.get("channel"):
        return [], "a redis channel has no lag: every worker gets every message"
    type = "redis-streams"
    seen = {
        "addresses" if "," in own["redisHost"] else "address": own["redisHost"],
        "stream": own["stream"],
        "consumerGroup": own.get("consumerGroup") or _identity(spec).group,
        "databaseIndex": str(own.get("redisDB", 0)),
    }
    if own.get("failover"):
        type, seen["sentinelMaster"] = "redis-sentinel-streams", own.get("sentinelMasterName", "")
    elif own.get("redisType") == "cluster":
        type = "redis-cluster-streams"
    tls = own.get("tls") or {}
    if own.get("enableTLS") or own.get("tls") is not None:
        seen["enableTLS"] = "true"
        if tls.get("insecureSkipVerify"):
            seen["unsafeSsl"] = "true"
    logins = {"username": own.get("redisUsername"), "password": own.get("redisPassword")}
    held = {name: value for name, value in logins.items() if value} | _pem(tls)
    # What no worker has seen yet, and what a dead one has left: either needs one.
    return [
        Lag(type, {**seen, "lagCount": threshold, "activationLagCount": "0"}, held),
        Lag(type, {**seen, "pendingEntriesCount": threshold}, held),
    ], ""


def _nats(spec: ResolvedSource, threshold: str, given: Mapping[str, str]) -> tuple[list[Lag], str]:
    stream = spec.spec.get("jetstream")
    if not stream:
        return [], "core NATS keeps nothing, so there is no lag to scale by"
    if _ENDPOINT not in given:
        return [], "to see the lag, give scaleOption.metadata.natsServerMonitoringEndpoint"
    own = stream.get("durable") or durable(_identity(spec).group)
    seen = {"account": "$G", "stream": stream["stream"], "consumer": own,
            "lagThreshold": threshold}  # fmt: skip
    return [Lag("nats-jetstream", seen)], ""


def _trigger(
    spec: ResolvedTrigger, threshold: str, given: Mapping[str, str]
) -> tuple[list[Lag], str]:
    if spec.bus.driver == "jetstream":
        return _jetstream(spec, threshold, given)
    if spec.bus.driver == "dapr":
        return _dapr(spec, spec.bus, threshold)
    return [], f"no lag of a {spec.bus.driver} bus can be seen"


def _jetstream(
    spec: ResolvedTrigger, threshold: str, given: Mapping[str, str]
) -> tuple[list[Lag], str]:
    options = JetStreamOptions.model_validate(spec.bus.options)
    monitoring = options.monitoring or given.get(_ENDPOINT)
    if not monitoring:
        return [], f"to see the lag, give spec.jetstream.monitoring of EventBus {spec.bus.name}"
    seen = {"account": "$G", "lagThreshold": threshold, **_monitoring(monitoring)}
    layout = Layout(options)
    return [
        Lag("nats-jetstream", {**seen, "stream": stream, "consumer": durable(consumer.group)})
        for consumer in needs(spec).consumers
        for stream in layout.by_stream(consumer.topics)
    ], ""


def _monitoring(address: str) -> dict[str, str]:
    """Of a URL, or of host and port: KEDA puts a scheme before it, and wants none."""
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        port = parts.port or 8222
    except ValueError:
        return {_ENDPOINT: address}  # it is no address, and KEDA says so
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return {
        _ENDPOINT: f"{host}:{port}",
        "useHttps": "true" if parts.scheme == "https" else "false",
    }


def _dapr(spec: ResolvedTrigger, bus: ResolvedBus, threshold: str) -> tuple[list[Lag], str]:
    options = DaprOptions.model_validate(bus.options)
    if options.pubsub.type != "pubsub.kafka":
        return [], f"no lag of {options.pubsub.type} can be seen; with pubsub.kafka it can"
    settings = {name.lower(): value for name, value in options.pubsub.settings.items()}
    if settings.get("authtype", "none").lower() not in ("none", "password"):
        return [], f"KEDA cannot log in to Kafka by authType {settings['authtype']}"
    names = Names(options, bus.name)
    logins: dict[str, str] = {}
    seen = {"bootstrapServers": settings.get("brokers", ""), "lagThreshold": threshold,
            "offsetResetPolicy": "earliest"}  # fmt: skip
    if settings.get("authtype", "none").lower() == "password":
        seen["sasl"] = _SASL["PLAIN"]
        logins = {"username": settings.get("saslusername", ""),
                  "password": settings.get("saslpassword", "")}  # fmt: skip
        if settings.get("disabletls", "false").lower() != "true":
            seen["tls"] = "enable"
    return [
        Lag(
            "kafka",
            {
                **seen,
                "consumerGroup": names.group(consumer.group, topic),
                "topic": names.topic(topic),
            },
            logins,
        )
        for consumer in needs(spec).consumers
        for topic in consumer.topics
    ], ""
