"""EventBus and ClusterEventBus: what carries events between sources and Triggers."""

from __future__ import annotations

from itertools import combinations
from typing import Final, Literal

from pydantic import Field

from ofevents.api.messaging import NatsCredentials
from ofevents.api.meta import Metadata, Model, ScaleOption, Tls, Written
from ofevents.api.platform import DaprComponent, DaprMetadata
from ofevents.api.rules import count, ruled
from ofevents.api.scalars import ByteSize, Duration

_IGNORED = "OpenFunction's; accepted and not needed here."
_STORAGE: Final = (
    "self.storage == oldSelf.storage || self.stream != oldSelf.stream || "
    "(has(self.url) ? self.url : '') != (has(oldSelf.url) ? oldSelf.url : '')",
    "the storage of streams that exist cannot change: give other streams a name "
    "(stream), or another server (url)",
)
"""The servers would keep them where they are, and nobody would know."""
_SYNC: Final = (
    "!has(self.url) || !has(self.sync)",
    "sync is a setting of the server that ofevents runs itself; with url it is that "
    "server's own setting (sync_interval)",
)


class JetStreamSpec(Model):
    """NATS JetStream; without a url, a server that ofevents runs itself."""

    model_config = ruled(_STORAGE, _SYNC)

    url: str | None = Field(
        default=None,
        description="Addresses such as nats://nats:4222, separated by commas. Without it "
        "`ofevents run` starts a server of its own; on the cluster it is required.",
    )
    monitoring: str | None = Field(
        default=None, description="Monitoring address such as http://nats:8222, for scaling by lag."
    )
    credentials: NatsCredentials | None = Field(default=None, description="How to log in.")
    tls: Tls | None = Field(default=None, description="Connect with TLS.")
    stream: str = Field(
        default="ofevents", description="Prefix of the names of streams and buckets."
    )
    replicas: int = Field(default=1, ge=1, le=5, description="Copies that the servers keep.")
    storage: Literal["file", "memory"] = Field(
        default="file", description="Where the servers keep them."
    )
    max_age: Duration = Field(default=604800.0, description="How long events are kept at most.")
    max_bytes: ByteSize | None = Field(
        default=None,
        description="How many bytes of events are kept at most; user topics take up to half as "
        "much beside them, inboxes as much, dead letters a quarter. Default: by the free space "
        "of the disk.",
    )
    duplicate_window: Duration = Field(
        default=120.0, description="How long a repeated publish is recognised."
    )
    sync: Literal["default", "always"] | None = Field(
        default=None,
        description="`always` writes each message through to the disk; only for the server that "
        "ofevents runs itself (with `url` it is a setting of that server).",
    )


class DaprBusSpec(Model):
    """Any Dapr pub/sub component. Its fields may stand directly under `dapr`."""

    pubsub: DaprComponent | None = Field(
        default=None, description="The pub/sub component, verbatim."
    )
    state: DaprComponent | None = Field(
        default=None, description="A state component for joins, leases and positions."
    )
    type: str | None = Field(default=None, description="Short for pubsub.type.")
    version: str | None = Field(default=None, description="Short for pubsub.version.")
    metadata: list[DaprMetadata] | None = Field(
        default=None, description="Short for pubsub.metadata."
    )


class NatsStreamingScaleOption(ScaleOption):
    """OpenFunction's scaling by NATS Streaming's lag."""

    nats_server_monitoring_endpoint: str | None = Field(
        default=None, description="Read as jetstream.monitoring."
    )
    queue_group: str | None = Field(default=None, description=_IGNORED)
    durable_name: str | None = Field(default=None, description=_IGNORED)
    subject: str | None = Field(default=None, description=_IGNORED)


class NatsStreamingSpec(Model):
    """OpenFunction's bus. NATS Streaming has ended: it is read as jetstream on natsURL."""

    nats_url: str = Field(alias="natsURL", description="Read as jetstream.url.")
    nats_streaming_cluster_id: str | None = Field(
        default=None, alias="natsStreamingClusterID", description=_IGNORED
    )
    subscription_type: str | None = Field(default=None, description=_IGNORED)
    durable_subscription_name: str | None = Field(default=None, description=_IGNORED)
    ack_wait_time: str | None = Field(default=None, description=_IGNORED)
    max_in_flight: int | None = Field(default=None, description=_IGNORED)
    deliver_new: bool | None = Field(default=None, description=_IGNORED)
    start_at_sequence: int | None = Field(default=None, description=_IGNORED)
    start_with_last_received: bool | None = Field(default=None, description=_IGNORED)
    deliver_all: bool | None = Field(default=None, description=_IGNORED)
    start_at_time_delta: str | None = Field(default=None, description=_IGNORED)
    start_at_time: str | None = Field(default=None, description=_IGNORED)
    start_at_time_format: str | None = Field(default=None, description=_IGNORED)
    consumer_id: str | None = Field(default=None, alias="consumerID", description=_IGNORED)
    scale_option: NatsStreamingScaleOption | None = Field(
        default=None, description="Scaling of the Triggers on this bus (KEDA)."
    )


DRIVERS: Final = ("jetstream", "dapr", "natsStreaming")
"""Fields of EventBusSpec of which exactly one is given."""


class EventBusSpec(Model):
    """Exactly one of jetstream, dapr and natsStreaming."""

    model_config = ruled(
        (
            f"{count(*DRIVERS)} > 0",
            "an EventBus needs a driver; expected one of jetstream, dapr; `jetstream: {}` is a "
            "server that ofevents runs itself",
        ),
        *(
            (f"{count(*two)} < 2", f"an EventBus has one driver, this one has {' and '.join(two)}")
            for two in combinations(DRIVERS, 2)
        ),
    )

    jetstream: JetStreamSpec | None = Field(default=None, description="NATS JetStream.")
    dapr: DaprBusSpec | None = Field(default=None, description="A Dapr pub/sub component.")
    nats_streaming: NatsStreamingSpec | None = Field(
        default=None, description="OpenFunction's; read as jetstream on natsURL."
    )
    topic: str | None = Field(default=None, description="OpenFunction's; accepted and not needed.")


class EventBus(Model):
    """Carries events from EventSources to Triggers, within a namespace."""

    api_version: Literal["events.openfunction.io/v1alpha1"] = "events.openfunction.io/v1alpha1"
    kind: Literal["EventBus"] = "EventBus"
    metadata: Metadata
    spec: EventBusSpec
    status: Written | None = None


class ClusterEventBus(Model):
    """An EventBus for every namespace that has none of that name."""

    api_version: Literal["events.openfunction.io/v1alpha1"] = "events.openfunction.io/v1alpha1"
    kind: Literal["ClusterEventBus"] = "ClusterEventBus"
    metadata: Metadata
    spec: EventBusSpec
    status: Written | None = None
