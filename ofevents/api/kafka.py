"""The `kafka` source: records of a Kafka topic become events.

`KafkaSpec` is what the adapter is given; the entry in an EventSource has the
fields of every source beside it (`eventsource.py`). Names are OpenFunction's
where it has one.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from ofevents.api.meta import SECRET_HINT, Model, ScaleOption, SecretText, Tls
from ofevents.api.scalars import ByteSize


def _brokers(value: str | list[str]) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ValueError("expected host:port addresses, as text separated by commas or as a list")
    brokers = [part.strip() for part in parts if part.strip()]
    if not brokers:
        raise ValueError("expected at least one address such as kafka:9092")
    return brokers


Brokers = Annotated[
    list[str],
    BeforeValidator(_brokers),
    PlainSerializer(",".join, return_type=str),
    # A structural schema has no "string or list".
    WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True}),
]
"""Addresses of brokers: text separated by commas, or a list; dumped as text."""


class SchemaRegistry(Model):
    """A schema registry with Confluent's REST API."""

    url: str = Field(
        description="Address such as https://registry:8081; several with commas. No credentials."
    )
    username: SecretText | None = Field(default=None, description=f"User. {SECRET_HINT}")
    password: SecretText | None = Field(
        default=None, repr=False, description=f"Password. {SECRET_HINT}"
    )
    tls: Tls | None = Field(
        default=None, description="Certificates for https:// addresses. Default: the system's CAs."
    )


class KafkaSpec(Model):
    """Reads one Kafka topic as a member of a consumer group."""

    brokers: Brokers = Field(
        description="Addresses host:port of the brokers: text separated by commas, or a list."
    )
    topic: str = Field(default="", description="The Kafka topic. Default: the event's name.")
    auth_required: bool = Field(
        default=False, description="Log in with SASL (saslUsername, saslPassword)."
    )
    sasl_username: SecretText | None = Field(default=None, description=f"SASL user. {SECRET_HINT}")
    sasl_password: SecretText | None = Field(
        default=None, repr=False, description=f"SASL password. {SECRET_HINT}"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="PLAIN", description="How to log in."
    )
    tls: Tls | None = Field(
        default=None, description="Connect with TLS; `tls: {}` trusts the system's CA certificates."
    )
    consumer_group: str = Field(
        default="",
        description="Kafka consumer group. Default: made from namespace, EventSource and event, "
        "so that no other event entry shares it.",
    )
    initial_offset: Literal["newest", "oldest"] = Field(
        default="oldest",
        description="Where a consumer group without a position begins. With `oldest` a new source "
        "misses nothing that the topic still holds.",
    )
    max_message_bytes: ByteSize | None = Field(
        default=None, description="Largest record that is fetched. Default: the client library's."
    )
    schema_registry: SchemaRegistry | None = Field(
        default=None,
        description="Decode values that were written with a schema registry (Avro, Protobuf, JSON "
        "Schema) into JSON data; a value that cannot be decoded is dead-lettered.",
    )
    config: dict[str, str] = Field(
        default_factory=dict,
        description="Further librdkafka consumer properties, passed on as they are; group.id, "
        "bootstrap.servers and the offset store's settings are ours.",
    )


class KafkaScaleOption(ScaleOption):
    """Scaling by the consumer group's lag."""

    consumer_group: str | None = Field(
        default=None, description="Accepted and ignored: the lag is that of the source's own group."
    )
    topic: str | None = Field(
        default=None, description="Accepted and ignored: the lag is that of the source's own topic."
    )
