"""The EventSource: where events come from, and where they go first.

An entry such as `spec.kafka.orders` is a workload of its own. Its model is the
kind's spec (what the adapter is given) and the fields that the engine reads for
every kind (`EntryFields`); `SPECS` maps the kind to the former.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from pydantic import Field

from ofevents.api.cron import CronSpec
from ofevents.api.kafka import KafkaScaleOption, KafkaSpec
from ofevents.api.messaging import MqttSpec, NatsSpec, RabbitmqSpec, RedisSpec
from ofevents.api.meta import SECRET_HINT, Anything, Metadata, Model, ScaleOption, Written
from ofevents.api.platform import DaprSpec, FileSpec, KubernetesSpec
from ofevents.api.rules import ruled
from ofevents.api.sink import DeliverySettings, Sink
from ofevents.api.webhook import Expose, WebhookSpec


class Attributes(Model):
    """CEL for the CloudEvent's attributes; each sees the event as it came."""

    type: str | None = Field(default=None, description="CEL for the type.")
    source: str | None = Field(default=None, description="CEL for the source.")
    subject: str | None = Field(default=None, description="CEL for the subject.")
    id: str | None = Field(
        default=None, description="CEL for the id; equal ids are one event for deduplication."
    )
    partitionkey: str | None = Field(
        default=None, alias="partitionkey", description="CEL for the key that orders events."
    )


class EntryFields(Model):
    """What the engine does with the events of one entry; the same for every kind."""

    filter: str | None = Field(
        default=None,
        description="CEL on `event`, before the bus; what does not match is not published.",
    )
    on_error: Literal["skip", "deadLetter"] = Field(
        default="deadLetter", description="What becomes of an event on which an expression fails."
    )
    attributes: Attributes | None = Field(
        default=None,
        description="CEL for attributes of the CloudEvent. Default: as the source sets them.",
    )
    data_schema: Anything | None = Field(
        default=None,
        description="JSON Schema of the data; events that violate it are dead-lettered.",
    )
    scale_option: ScaleOption | None = Field(
        default=None, description="How many workers run (KEDA)."
    )


class KafkaEntry(EntryFields, KafkaSpec):
    """Records of a Kafka topic."""

    scale_option: KafkaScaleOption | None = Field(
        default=None, description="How many workers run, by the consumer group's lag (KEDA)."
    )


class CronEntry(EntryFields, CronSpec):
    """Times of a schedule."""


class MqttEntry(EntryFields, MqttSpec):
    """Messages of MQTT topics."""

    scale_option: ScaleOption | None = Field(
        default=None,
        description="How many workers run (KEDA). More than one needs a topic that they share, "
        "`$share/GROUP/FILTER`: a session is one worker's.",
    )


class RedisEntry(EntryFields, RedisSpec):
    """Entries of a Redis stream, or messages of a channel."""


class NatsEntry(EntryFields, NatsSpec):
    """Messages of NATS subjects."""


class RabbitmqEntry(EntryFields, RabbitmqSpec):
    """Messages of a RabbitMQ queue."""

    scale_option: ScaleOption | None = Field(
        default=None, description="How many workers run, by the queue's length (KEDA)."
    )


class WebhookEntry(EntryFields, WebhookSpec):
    """HTTP requests."""

    expose: Expose | None = Field(
        default=None,
        description="Have an Ingress or an HTTPRoute made. Default: a Service alone, for callers "
        "in the cluster. Read on the cluster only.",
    )


class KubernetesEntry(EntryFields, KubernetesSpec):
    """Changes of Kubernetes objects."""


class FileEntry(EntryFields, FileSpec):
    """Appended lines or new files."""


class DaprEntry(EntryFields, DaprSpec):
    """A Dapr input binding or topic."""


class CustomSpec(Model):
    """A source of somebody else's package, found by the name under which it is registered."""

    source: str = Field(description="Name in the entry points `ofevents.sources`.")
    spec: Anything = Field(
        default_factory=dict,
        repr=False,
        description=f"Its own fields; each credential in them may be a reference. {SECRET_HINT}",
    )


class CustomEntry(EntryFields, CustomSpec):
    """Events of somebody else's source."""


CUSTOM: Final = "custom"
SPECS: Final[Mapping[str, type[Model]]] = {
    "kafka": KafkaSpec,
    "cron": CronSpec,
    "mqtt": MqttSpec,
    "redis": RedisSpec,
    "nats": NatsSpec,
    "rabbitmq": RabbitmqSpec,
    "webhook": WebhookSpec,
    "kubernetes": KubernetesSpec,
    "file": FileSpec,
    "dapr": DaprSpec,
    CUSTOM: CustomSpec,
}
"""Kind of source -> the model that its adapter is given."""


class PodTemplate(Model):
    """What is added to the Pods of a worker; read on the cluster only."""

    labels: dict[str, str] = Field(default_factory=dict, description="Labels of the Pods.")
    annotations: dict[str, str] = Field(
        default_factory=dict, description="Annotations of the Pods."
    )
    resources: Anything | None = Field(
        default=None, description="Requests and limits of the container."
    )
    affinity: Anything | None = Field(default=None, description="Affinity of the Pods.")
    node_selector: dict[str, str] | None = Field(
        default=None, description="Nodes that may run them."
    )
    tolerations: list[Anything] | None = Field(default=None, description="Tolerations of the Pods.")
    topology_spread_constraints: list[Anything] | None = Field(
        default=None, description="How the Pods are spread."
    )
    service_account_name: str | None = Field(
        default=None, description="Service account of the Pods."
    )
    image_pull_secrets: list[Anything] | None = Field(
        default=None, description="Secrets to pull the image with."
    )
    priority_class_name: str | None = Field(default=None, description="Priority class of the Pods.")


class EventSourceSpec(Model):
    """Sources of events by kind and event name; at least one of eventBus and sink is needed."""

    model_config = ruled(
        (
            "has(self.eventBus) || has(self.sink)",
            "the EventSource has nowhere to send its events; expected eventBus or sink",
        ),
        (
            "has(self.eventBus) || !has(self.deadLetterTopic)",
            "a topic needs an EventBus, and this EventSource has none; add eventBus, or use "
            "deadLetterSink",
        ),
    )

    event_bus: str | None = Field(
        default=None,
        description="The EventBus to publish on, in this namespace, or else the ClusterEventBus "
        "of that name. Without it, the sink is called directly.",
    )
    sink: Sink | None = Field(
        default=None,
        description="Where events are delivered. With an eventBus it is a subscriber on the bus, "
        "alone it is called directly.",
    )
    delivery: DeliverySettings | None = Field(default=None, description="How the sink is called.")
    dead_letter_sink: Sink | None = Field(
        default=None, description="Where events go that the sink never takes."
    )
    dead_letter_topic: str | None = Field(
        default=None, description="Topic of the bus for events that the sink never takes."
    )
    allow_namespaces: list[str] | None = Field(
        default=None,
        description="Namespaces whose Triggers may read these events, beside its own; [] allows "
        "no other. Without it any namespace on the same bus may.",
    )
    suspend: bool = Field(default=False, description="Stop reading, and keep the position.")
    template: PodTemplate | None = Field(
        default=None, description="What is added to the workers' Pods."
    )
    log_level: str | None = Field(
        default=None,
        pattern="^([0-9]+|debug|info|warning|error)$",
        description="debug, info, warning or error; or OpenFunction's numbers, above 1 is debug.",
    )
    build: Anything | None = Field(
        default=None, description="OpenFunction's; accepted and not needed."
    )
    kafka: dict[str, KafkaEntry] | None = Field(
        default=None, description="Kafka topics, by event name."
    )
    cron: dict[str, CronEntry] | None = Field(default=None, description="Schedules, by event name.")
    mqtt: dict[str, MqttEntry] | None = Field(
        default=None, description="MQTT topics, by event name."
    )
    redis: dict[str, RedisEntry] | None = Field(
        default=None, description="Redis streams, by event name."
    )
    nats: dict[str, NatsEntry] | None = Field(
        default=None, description="NATS subjects, by event name."
    )
    rabbitmq: dict[str, RabbitmqEntry] | None = Field(
        default=None, description="RabbitMQ queues, by event name."
    )
    webhook: dict[str, WebhookEntry] | None = Field(
        default=None, description="HTTP endpoints, by event name."
    )
    kubernetes: dict[str, KubernetesEntry] | None = Field(
        default=None, description="Watched Kubernetes objects, by event name."
    )
    file: dict[str, FileEntry] | None = Field(default=None, description="Files, by event name.")
    dapr: dict[str, DaprEntry] | None = Field(
        default=None, description="Dapr bindings and topics, by event name."
    )
    custom: dict[str, CustomEntry] | None = Field(
        default=None, description="Sources of other packages, by event name."
    )

    def entries(self) -> Iterator[tuple[str, str, EntryFields]]:
        """Each (kind, event name, entry), kinds in the order of `SPECS`."""
        for kind in SPECS:
            for name, entry in (getattr(self, kind) or {}).items():
                yield kind, name, entry


class EventSource(Model):
    """Brings events from outside systems to an EventBus, or straight to a function."""

    api_version: Literal["events.openfunction.io/v1alpha1"] = "events.openfunction.io/v1alpha1"
    kind: Literal["EventSource"] = "EventSource"
    metadata: Metadata
    spec: EventSourceSpec
    status: Written | None = None
