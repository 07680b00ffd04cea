"""The Trigger: which events, decided how, are delivered to whom."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ofevents.api.eventsource import PodTemplate
from ofevents.api.meta import Metadata, Model, ScaleOption, Written
from ofevents.api.rules import ruled
from ofevents.api.scalars import Duration
from ofevents.api.sink import DeliverySettings, Sink


class Input(Model):
    """Events of an EventSource, or of a topic."""

    model_config = ruled(
        (
            "has(self.topic) || has(self.eventSource) && has(self.event)",
            "the input does not say what it reads; expected eventSource and event, or topic",
        ),
        (
            "!has(self.topic) || !has(self.eventSource) && !has(self.event)",
            "an input is a topic, or an event of an EventSource, not both",
        ),
    )

    event_source: str | None = Field(default=None, description="Name of the EventSource.")
    event: str | None = Field(default=None, description="Name of the event in it.")
    namespace: str | None = Field(
        default=None, description="Namespace of the EventSource. Default: the Trigger's own."
    )
    topic: str | None = Field(
        default=None, description="A topic that another Trigger or a function writes, instead."
    )
    filter: str | None = Field(
        default=None, description="CEL on `event`; what does not match is no event of this input."
    )
    join_by: str | None = Field(
        default=None, description="CEL on `event` for the key by which inputs are joined."
    )


class Subscriber(Model):
    """Who gets the events, and on which condition."""

    model_config = ruled(
        (
            "has(self.sink) || has(self.topic)",
            "the subscriber does not say who gets the events; expected sink or topic",
        )
    )

    name: str | None = Field(
        default=None,
        max_length=63,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        description="Its position, inbox and dead letters belong to this name. Default: derived "
        "from condition and target, so that an edit of either makes a new subscriber.",
    )
    condition: str | None = Field(
        default=None,
        description="CEL. Variables: each input's name (bool), `inputs` (by name), `event` (the "
        "one that just came), `events.<input>` (the latest of each). Default: every event.",
    )
    payload: str | None = Field(
        default=None, description="CEL for the data that is sent. Default: the event's, unchanged."
    )
    sink: Sink | None = Field(default=None, description="A function that is called.")
    topic: str | None = Field(
        default=None,
        min_length=1,
        description="A topic of the bus that an async function consumes.",
    )
    dead_letter_sink: Sink | None = Field(
        default=None, description="Where events go that it never takes. Default: the Trigger's own."
    )
    dead_letter_topic: str | None = Field(
        default=None, min_length=1, description="Topic of the bus for events that it never takes."
    )
    delivery: DeliverySettings | None = Field(default=None, description="How it is called.")
    on_error: Literal["skip", "deadLetter"] = Field(
        default="deadLetter",
        description="What becomes of an event on which condition or payload fails.",
    )
    reply: str | None = Field(
        default=None,
        min_length=1,
        description="Topic of the bus for the function's answers, as CloudEvents.",
    )


class TriggerSpec(Model):
    """Inputs from one EventBus, and the subscribers that get what matches."""

    event_bus: str = Field(
        description="The EventBus of this namespace, or else the ClusterEventBus, to read."
    )
    suspend: bool = Field(default=False, description="Stop consuming, and keep the position.")
    start_from: Literal["now", "earliest"] = Field(
        default="now",
        description="Where it begins at its first start; later it goes on where it was.",
    )
    deletion_policy: Literal["Delete", "Retain"] = Field(
        default="Delete",
        description="What becomes of position, inboxes and dead letters when deleted.",
    )
    inputs: dict[str, Input] = Field(min_length=1, description="Events that it reads, by name.")
    window: Duration = Field(
        default=60.0,
        description="How long an input counts as received, by the bus's time of storage.",
    )
    subscribers: list[Subscriber] = Field(
        min_length=1,
        max_length=1000,  # The API server reckons what its rules may cost.
        description="Who gets what.",
    )
    log_level: str | None = Field(
        default=None,
        pattern="^([0-9]+|debug|info|warning|error)$",
        description="debug, info, warning or error; or OpenFunction's numbers, above 1 is debug.",
    )
    template: PodTemplate | None = Field(
        default=None, description="What is added to the workers' Pods."
    )
    scale_option: ScaleOption | None = Field(
        default=None, description="How many workers run (KEDA)."
    )


class Trigger(Model):
    """Reads an EventBus, decides with CEL, and delivers to subscribers."""

    api_version: Literal["events.openfunction.io/v1alpha1"] = "events.openfunction.io/v1alpha1"
    kind: Literal["Trigger"] = "Trigger"
    metadata: Metadata
    spec: TriggerSpec
    status: Written | None = None
