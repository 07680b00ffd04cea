"""Where events go and how: sinks, their credentials, and delivery settings.

Used by EventSources (a sink called directly, or an implicit Trigger) and by the
subscribers of a Trigger.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, model_validator

from ofevents.api.kafka import Brokers
from ofevents.api.messaging import NatsCredentials
from ofevents.api.meta import SECRET_HINT, Basic, Model, SecretText, Tls
from ofevents.api.platform import DaprComponent
from ofevents.api.rules import count, ruled
from ofevents.api.scalars import ADDRESS_PATTERN, Duration, Rate


class Ref(Model):
    """A function or service by name."""

    api_version: str = Field(
        description="v1 or serving.knative.dev/v1 for a Service, core.openfunction.io/v1beta1 or "
        "v1beta2 for a Function."
    )
    kind: str = Field(description="Service or Function.")
    name: str = Field(description="Its name.")
    namespace: str | None = Field(
        default=None, description="Its namespace. Default: the resource's own."
    )


class OAuth2(Model):
    """Client credentials grant: a token is fetched and renewed."""

    token_url: str = Field(pattern=ADDRESS_PATTERN, description="Where tokens are fetched.")
    client_id: SecretText = Field(description=f"Client id. {SECRET_HINT}")
    client_secret: SecretText = Field(repr=False, description=f"Client secret. {SECRET_HINT}")
    scope: str | None = Field(default=None, description="Scopes, separated by spaces.")


class SinkAuth(Model):
    """Credentials of an HTTP call; exactly one form."""

    bearer: SecretText | None = Field(
        default=None, repr=False, description=f"Bearer token. {SECRET_HINT}"
    )
    basic: Basic | None = Field(default=None, description="User name and password.")
    oauth2: OAuth2 | None = Field(default=None, description="OAuth 2.0 client credentials.")

    @model_validator(mode="after")
    def _one(self) -> SinkAuth:
        if sum(form is not None for form in (self.bearer, self.basic, self.oauth2)) != 1:
            raise ValueError("expected exactly one of bearer, basic, oauth2")
        return self


class KafkaSink(Model):
    """Writes to a Kafka topic."""

    brokers: Brokers = Field(description="Addresses host:port, as text with commas or a list.")
    topic: str = Field(description="The Kafka topic.")
    key: str | None = Field(
        default=None, description="CEL for the record's key. Default: the event's partitionkey."
    )
    sasl_username: SecretText | None = Field(default=None, description=f"SASL user. {SECRET_HINT}")
    sasl_password: SecretText | None = Field(
        default=None, repr=False, description=f"SASL password. {SECRET_HINT}"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="PLAIN", description="How to log in."
    )
    tls: Tls | None = Field(default=None, description="Connect with TLS.")
    config: dict[str, str] = Field(
        default_factory=dict, description="Further librdkafka producer properties."
    )


class NatsSink(Model):
    """Publishes on a NATS subject."""

    url: str = Field(description="Addresses such as nats://nats:4222, separated by commas.")
    subject: str = Field(description="The subject.")
    jetstream: bool = Field(default=True, description="Wait until a stream has stored it.")
    credentials: NatsCredentials | None = Field(default=None, description="How to log in.")
    tls: Tls | None = Field(default=None, description="Connect with TLS.")


class MqttSink(Model):
    """Publishes on an MQTT topic."""

    url: SecretText = Field(
        repr=False,
        description="Address of the broker such as tcp://user:password@mosquitto:1883, mqtts:// "
        f"for TLS. {SECRET_HINT}",
    )
    topic: str = Field(description="The topic.")
    qos: int = Field(
        default=1,
        ge=0,
        le=2,
        description="Quality of service; with 0 the broker confirms nothing.",
    )
    retain: bool = Field(default=False, description="Ask the broker to retain it.")
    protocol: Literal["3.1.1", "5"] = Field(
        default="5",
        description="Version of MQTT. 3.1.1 has no place for attributes, so that events are "
        "structured where `binary` is asked for, and its brokers drop in silence what they do "
        "not allow.",
    )
    tls: Tls | None = Field(default=None, description="Certificates; connect with TLS.")


class RabbitmqSink(Model):
    """Publishes to a RabbitMQ exchange, confirmed by the broker."""

    url: SecretText = Field(
        repr=False,
        description="Address such as amqp://user:password@rabbitmq:5672/vhost, amqps:// for TLS. "
        f"{SECRET_HINT}",
    )
    exchange: str = Field(default="", description="The exchange; empty is the default exchange.")
    routing_key: str = Field(
        description="The routing key, or a queue's name. A queue must be bound for it."
    )
    tls: Tls | None = Field(default=None, description="Certificates for an amqps:// address.")


class RedisSink(Model):
    """Appends to a Redis stream."""

    redis_host: str = Field(description="Address host:port.")
    redis_username: SecretText | None = Field(default=None, description=f"ACL user. {SECRET_HINT}")
    redis_password: SecretText | None = Field(
        default=None, repr=False, description=f"Password. {SECRET_HINT}"
    )
    stream: str = Field(description="The stream.")
    max_length: int | None = Field(
        default=None, ge=1, description="Trim the stream to about this length."
    )
    tls: Tls | None = Field(default=None, description="Connect with TLS.")


_DAPR_ONE: Final = "expected appId and method, or a component and its operation"
_DAPR_BINDING: Final = "an output binding needs operation, and has no method"
_DAPR_APP: Final = "an app needs method, and has no operation"
_BINDING: Final = "(has(self.component) || has(self.componentName))"


class DaprSink(Model):
    """Invokes an app through Dapr, or an output binding."""

    model_config = ruled(
        (f"has(self.appId) != {_BINDING}", _DAPR_ONE),
        (f"!{_BINDING} || has(self.operation) && !has(self.method)", _DAPR_BINDING),
        ("!has(self.appId) || has(self.method) && !has(self.operation)", _DAPR_APP),
    )

    app_id: str | None = Field(
        default=None, pattern=r"^[^/?#\s]+$", description="Dapr app to invoke."
    )
    method: str | None = Field(
        default=None, pattern=r"^[^?#\s]+$", description="Its method, such as orders/paid."
    )
    component: DaprComponent | None = Field(
        default=None, description="Output binding, written here."
    )
    component_name: str | None = Field(
        default=None,
        description="Name of the output binding in Dapr; alone, of one that exists already.",
    )
    operation: str | None = Field(
        default=None, description="Operation of the binding, such as create."
    )
    metadata: dict[str, str] = Field(
        default_factory=dict,
        description="Metadata of each call of a binding, or headers of each invocation.",
    )
    sidecar: str | None = Field(
        default=None,
        pattern=r"^[^\s/]+:[0-9]+$",
        description="Address host:port of the sidecar: its gRPC API for a binding, its HTTP API "
        "for an app. Default: what Dapr tells its apps (DAPR_GRPC_PORT, DAPR_HTTP_PORT); "
        "`ofevents run` starts a sidecar for a `component` written here.",
    )

    @model_validator(mode="after")
    def _form(self) -> DaprSink:
        binding = self.component is not None or self.component_name is not None
        if (self.app_id is None) == (not binding):
            raise ValueError(_DAPR_ONE)
        if binding and (self.operation is None or self.method is not None):
            raise ValueError(_DAPR_BINDING)
        if not binding and (self.method is None or self.operation is not None):
            raise ValueError(_DAPR_APP)
        return self


SINKS: Final[dict[str, type[Model]]] = {
    "kafka": KafkaSink,
    "nats": NatsSink,
    "mqtt": MqttSink,
    "rabbitmq": RabbitmqSink,
    "redis": RedisSink,
    "dapr": DaprSink,
}
"""The fields of each destination that is neither uri nor ref."""
_SINK_NONE: Final = f"expected one of uri, ref, {', '.join(SINKS)}"
_SINK_SEVERAL: Final = "a sink has one destination; use a subscriber for each"


class Sink(Model):
    """Where events are delivered: an address, a function by name, or a broker."""

    model_config = ruled(
        (f"{count('uri', 'ref', *SINKS)} > 0", _SINK_NONE),
        (f"{count(*SINKS)} + (has(self.uri) || has(self.ref) ? 1 : 0) <= 1", _SINK_SEVERAL),
    )

    uri: str | None = Field(
        default=None, pattern=ADDRESS_PATTERN, description="Address to POST to. It wins over `ref`."
    )
    ref: Ref | None = Field(default=None, description="A function or service by name.")
    headers: dict[str, SecretText] = Field(
        default_factory=dict, repr=False, description=f"Headers of each call. {SECRET_HINT}"
    )
    auth: SinkAuth | None = Field(default=None, description="Credentials of each call.")
    tls: Tls | None = Field(default=None, description="Certificates of each call.")
    proxy: str | None = Field(default=None, description="HTTP proxy, such as http://proxy:3128.")
    kafka: KafkaSink | None = Field(default=None, description="Write to a Kafka topic.")
    nats: NatsSink | None = Field(default=None, description="Publish on a NATS subject.")
    mqtt: MqttSink | None = Field(default=None, description="Publish on an MQTT topic.")
    rabbitmq: RabbitmqSink | None = Field(
        default=None, description="Publish to a RabbitMQ exchange."
    )
    redis: RedisSink | None = Field(default=None, description="Append to a Redis stream.")
    dapr: DaprSink | None = Field(default=None, description="Invoke through Dapr.")

    @model_validator(mode="after")
    def _one(self) -> Sink:
        given = self.brokers
        if self.uri is None and self.ref is None and not given:
            raise ValueError(_SINK_NONE)
        if len(given) > 1 or (given and (self.uri is not None or self.ref is not None)):
            raise ValueError(_SINK_SEVERAL)
        return self

    @property
    def brokers(self) -> tuple[str, ...]:
        """Names of the destinations that are neither uri nor ref."""
        return tuple(name for name in SINKS if getattr(self, name) is not None)


class Batch(Model):
    """Several events in one call."""

    size: int = Field(ge=2, le=10000, description="Events in a batch at most.")
    wait: Duration = Field(default=1.0, description="How long the first event of a batch waits.")


class DeliverySettings(Model):
    """How a subscriber is called; limits are per worker."""

    timeout: Duration = Field(default=30.0, description="Longest time of one call.")
    retries: int = Field(
        default=5, ge=0, description="Calls after the first, before an event is dead-lettered."
    )
    backoff: Duration = Field(
        default=1.0, description="Wait before the first retry; doubled each time."
    )
    max_backoff: Duration = Field(default=60.0, description="Longest wait between retries.")
    concurrency: int = Field(default=32, ge=1, description="Calls at the same time.")
    rate_limit: Rate | None = Field(default=None, description="Calls per time, such as 100/s.")
    ordered: bool = Field(
        default=False, description="Keep the order of events that share a partitionkey."
    )
    format: Literal["binary", "structured", "raw"] = Field(
        default="binary",
        description="CloudEvents over HTTP: binary or structured; raw sends data alone.",
    )
    batch: Batch | None = Field(default=None, description="Send several events in one call.")
    deliver_after: Duration = Field(default=0.0, description="Keep each delivery back that long.")
