"""The specs of message brokers as sources: `mqtt`, `redis`, `nats`, `rabbitmq`.

Each is what its adapter is given; the entry in an EventSource has the fields of
every source beside it (`eventsource.py`). Names are OpenFunction's where it has one.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ofevents.api.meta import SECRET_HINT, Model, SecretText, Tls
from ofevents.api.scalars import Duration

_IGNORED = "OpenFunction's; accepted and not needed here."


class MqttSpec(Model):
    """Subscribes to MQTT topics; a message is acknowledged when the event is stored."""

    url: SecretText = Field(
        repr=False,
        description="Address of the broker such as tcp://user:password@mosquitto:1883, mqtts:// "
        f"(or ssl://) for TLS. {SECRET_HINT}",
    )
    topic: str = Field(
        description="Topic filter; `+` and `#` are wildcards. `$share/GROUP/FILTER` (MQTT 5) lets "
        "several workers share it; without a consumerID each has a session of its own, and what "
        "it has in hand when it ends is lost."
    )
    consumer_id: str | None = Field(
        default=None,
        alias="consumerID",
        description="MQTT client id, whose session one worker at a time can have. Default: made "
        "from namespace, EventSource and event.",
    )
    qos: int = Field(default=1, ge=0, le=2, description="Quality of service; 0 may lose events.")
    retain: bool = Field(
        default=False,
        description="Also take the messages that the broker retained before a worker starts.",
    )
    clean_session: bool = Field(
        default=False,
        description="Forget the session when disconnected; events in between are lost.",
    )
    protocol: Literal["3.1.1", "5"] = Field(default="3.1.1", description="Version of MQTT.")
    username: SecretText | None = Field(
        default=None, description=f"User, when not in the url. {SECRET_HINT}"
    )
    password: SecretText | None = Field(
        default=None, repr=False, description=f"Password, when not in the url. {SECRET_HINT}"
    )
    ca_cert: SecretText | None = Field(
        default=None,
        repr=False,
        description="CA certificates for an mqtts:// address, PEM. Default: the system's. "
        f"{SECRET_HINT}",
    )
    client_cert: SecretText | None = Field(
        default=None, repr=False, description=f"Client certificate, PEM. {SECRET_HINT}"
    )
    client_key: SecretText | None = Field(
        default=None, repr=False, description=f"Key of the client certificate, PEM. {SECRET_HINT}"
    )
    insecure_skip_verify: bool = Field(
        default=False, description="Accept any server certificate. For tests only."
    )


class RedisSpec(Model):
    """Reads a Redis stream as a consumer group, or a pub/sub channel (at most once)."""

    redis_host: str = Field(
        description="Address host:port; with commas several, of Sentinels or of a cluster."
    )
    redis_username: SecretText | None = Field(default=None, description=f"ACL user. {SECRET_HINT}")
    redis_password: SecretText | None = Field(
        default=None, repr=False, description=f"Password. {SECRET_HINT}"
    )
    stream: str | None = Field(
        default=None, description="Stream to read. Default: the event's name."
    )
    channel: str | None = Field(
        default=None, description="Pub/sub channel to read instead of a stream; it may lose events."
    )
    consumer_group: str | None = Field(
        default=None, description="Group. Default: made from namespace, EventSource and event."
    )
    initial_id: str = Field(
        default="0",
        description="Where a new group begins: 0 for all entries, $ for new ones, or after an "
        "entry's id. A group that is deleted is made again, and begins there too.",
    )
    enable_tls: bool = Field(default=False, alias="enableTLS", description="Connect with TLS.")
    tls: Tls | None = Field(default=None, description="Certificates for TLS.")
    failover: bool = Field(default=False, description="redisHost names Sentinels.")
    sentinel_master_name: str | None = Field(default=None, description="Master's name in Sentinel.")
    redis_type: str | None = Field(default=None, description="`node` or `cluster`.")
    redis_db: int = Field(default=0, ge=0, alias="redisDB", description="Number of the database.")
    redeliver_interval: str | None = Field(
        default=None,
        description="How often entries of dead workers are looked for, such as 15s, which is the "
        "default.",
    )
    processing_timeout: str | None = Field(
        default=None,
        description="After how long an entry of a worker that has died is taken over; while a "
        "worker has it in hand, it is touched. At least 1s. Default: 60s.",
    )
    redis_max_retries: int | None = Field(default=None, description=_IGNORED)
    redis_min_retry_interval: str | None = Field(default=None, description=_IGNORED)
    redis_max_retry_interval: str | None = Field(default=None, description=_IGNORED)
    dial_timeout: str | None = Field(
        default=None, description="Longest time to connect, such as 5s."
    )
    read_timeout: str | None = Field(
        default=None, description="Longest wait for an answer, such as 3s."
    )
    write_timeout: str | None = Field(default=None, description=_IGNORED)
    pool_size: int | None = Field(default=None, description=_IGNORED)
    pool_timeout: str | None = Field(default=None, description=_IGNORED)
    max_conn_age: str | None = Field(default=None, description=_IGNORED)
    min_idle_conns: int | None = Field(default=None, description=_IGNORED)
    idle_check_frequency: str | None = Field(default=None, description=_IGNORED)
    idle_timeout: str | None = Field(default=None, description=_IGNORED)


class NatsCredentials(Model):
    """How to log in to a NATS server; one form."""

    username: SecretText | None = Field(default=None, description=f"User. {SECRET_HINT}")
    password: SecretText | None = Field(
        default=None, repr=False, description=f"Password. {SECRET_HINT}"
    )
    token: SecretText | None = Field(default=None, repr=False, description=f"Token. {SECRET_HINT}")
    nkey: SecretText | None = Field(
        default=None, repr=False, description=f"Seed of an NKey, beginning with SU. {SECRET_HINT}"
    )
    creds: SecretText | None = Field(
        default=None, repr=False, description=f"Contents of a .creds file. {SECRET_HINT}"
    )


class NatsStream(Model):
    """Read through JetStream: a durable position, at least once."""

    stream: str = Field(description="Name of the stream; it has to exist.")
    durable: str | None = Field(
        default=None,
        description="Durable pull consumer. One that exists is used as it is; otherwise it is "
        "made. Default: made from namespace, EventSource and event.",
    )
    start: Literal["all", "new"] = Field(
        default="all",
        description="Where a consumer that we make begins: with all that the stream holds, or "
        "with what comes from then on. Afterwards it goes on where it was.",
    )
    ack_wait: Duration = Field(
        default=30.0,
        description="After how long a message comes again when its worker has died; while a "
        "worker has it in hand, it is extended. At least 1s.",
    )
    max_ack_pending: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Messages in hand at most, of all workers together. With 1 the events come "
        "in the stream's order, also after a failure.",
    )


class NatsSpec(Model):
    """Reads NATS subjects: core NATS (at most once), or a JetStream stream."""

    url: str = Field(
        description="Addresses such as nats://nats:4222, separated by commas; tls:// for TLS."
    )
    subject: str | None = Field(
        default=None,
        description="Subject; `*` and `>` are wildcards. With jetstream neither subject nor "
        "subjects is needed: all of the stream.",
    )
    subjects: list[str] = Field(
        default_factory=list, description="Several subjects, in place of subject."
    )
    queue: str | None = Field(
        default=None,
        description="Queue group of core NATS, whose members share the messages. Default: made "
        "from namespace, EventSource and event.",
    )
    jetstream: NatsStream | None = Field(default=None, description="Read through JetStream.")
    credentials: NatsCredentials | None = Field(default=None, description="How to log in.")
    tls: Tls | None = Field(
        default=None,
        description="Connect with TLS; `tls: {}` trusts the system's CA certificates.",
    )


class RabbitmqSpec(Model):
    """Consumes a RabbitMQ queue; a message is acknowledged when the event is stored."""

    url: SecretText = Field(
        repr=False,
        description="Address such as amqp://user:password@rabbitmq:5672/vhost, amqps:// for TLS. "
        f"{SECRET_HINT}",
    )
    queue: str = Field(
        default="",
        description="Queue; one that exists is used as it is. Default: the event's name.",
    )
    exchange: str | None = Field(default=None, description="Exchange that the queue is bound to.")
    exchange_type: Literal["direct", "fanout", "topic", "headers"] = Field(
        default="topic", description="Type of the exchange, when it must be declared."
    )
    routing_key: str = Field(default="#", description="Routing key of the binding.")
    declare: bool = Field(
        default=True, description="Declare queue, exchange and binding (durable)."
    )
    prefetch: int = Field(default=100, ge=1, le=65535, description="Messages in hand at most.")
    tls: Tls | None = Field(default=None, description="Certificates for an amqps:// address.")
