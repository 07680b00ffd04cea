"""What a worker is given: a resource with every reference and secret in place.

Made by `resolve` from resources (files or the API server), read by
`source.run(spec)` and `trigger.run(spec)` on a laptop as in a pod. It is
versioned, so that an old worker under a new controller, and the other way
round, know what they cannot read: a field more or less is another `VERSION`.
Durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1


DaprMode = Literal["sidecar", "standalone"]
"""Where a worker that needs Dapr has its daprd: in its own Pod, or in one of its own that
DAPR_HOST names to the worker. Read on the cluster only."""


class Resolved(BaseModel):
    """Strict and immutable: an unknown field is a version mismatch."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ResolvedBus(Resolved):
    """An EventBus driver and its options, as the driver's class takes them."""

    name: str = "default"
    driver: str
    """Entry point name in `ofevents.buses`: jetstream, memory, dapr."""
    options: dict[str, Any] = Field(default_factory=dict)
    """jetstream: url, credentials, tls, stream, replicas, storage, max_age,
    max_bytes, duplicate_window (seconds and bytes); without a url `embedded: true` and
    `sync`, which whoever starts the embedded server replaces by its url.
    dapr: pubsub and state (components); where the sidecar is (sidecar, app_port, resources)
    comes from whoever starts it, or from Dapr's environment variables."""


class HttpAuth(Resolved):
    """Credentials of an HTTP call; exactly one form."""

    bearer: str | None = None
    basic: tuple[str, str] | None = None
    oauth2: dict[str, str] | None = None
    """token_url, client_id, client_secret, scope."""


class HttpTarget(Resolved):
    """A function called over HTTP."""

    kind: Literal["http"] = "http"
    uri: str
    headers: dict[str, str] = Field(default_factory=dict)
    auth: HttpAuth | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    """PEM texts; `cert` and `key` for mutual TLS."""
    proxy: str | None = None


class TopicTarget(Resolved):
    """A topic of the bus, by its full name."""

    kind: Literal["topic"] = "topic"
    topic: str


class SinkTarget(Resolved):
    """A message broker that is written to without the bus."""

    kind: Literal["sink"] = "sink"
    sink: str
    """Entry point name in `ofevents.sinks`: kafka, nats, mqtt, rabbitmq, redis."""
    spec: dict[str, Any]
    """Its own fields, as its model in `ofevents.api.sink` takes them, but for `key`."""
    key: str | None = None
    """CEL for the ordering key; None: the event's partitionkey."""


Target = Annotated[HttpTarget | TopicTarget | SinkTarget, Field(discriminator="kind")]


class ResolvedDelivery(Resolved):
    """How a subscriber is called; limits are per worker."""

    timeout: float = 30.0
    retries: int = 5
    backoff: float = 1.0
    max_backoff: float = 60.0
    concurrency: int = 32
    rate: float | None = None
    """Calls per second, None without a limit."""
    ordered: bool = False
    format: Literal["binary", "structured", "raw"] = "binary"
    batch_size: int = 0
    """0: no batches."""
    batch_wait: float = 0.0
    deliver_after: float = 0.0


class ResolvedSubscriber(Resolved):
    """One subscriber of a Trigger."""

    name: str
    condition: str | None = None
    payload: str | None = None
    target: Target
    dead_letter: Target | None = None
    """None: the owner's own dead letters (`dead_topic`)."""
    delivery: ResolvedDelivery = ResolvedDelivery()
    on_error: Literal["skip", "deadLetter"] = "deadLetter"
    reply_topic: str | None = None
    inbox: str
    """Topic of its inbox."""


class ResolvedInput(Resolved):
    """One input of a Trigger."""

    name: str
    topic: str
    filter: str | None = None
    join_by: str | None = None


class ResolvedTrigger(Resolved):
    """A Trigger's worker."""

    version: Literal[1] = 1
    kind: Literal["Trigger"] = "Trigger"
    namespace: str
    name: str
    implicit: bool = False
    """Made of the EventSource of that name, which has both an eventBus and a sink; a
    Trigger of the same name is another one: see `owner`."""
    bus: ResolvedBus
    inputs: tuple[ResolvedInput, ...]
    window: float = 60.0
    subscribers: tuple[ResolvedSubscriber, ...]
    start: Literal["now", "earliest"] = "now"
    since: dict[str, float] = Field(default_factory=dict)
    """Topic -> seconds since the epoch: what `start: now` means, where it was declared before
    its first worker could tell the bus. Without it, that worker's start."""
    deletion_policy: Literal["Delete", "Retain"] = "Delete"
    suspend: bool = False
    log_level: str = "info"
    dapr_mode: DaprMode = "sidecar"
    group: str
    dead_topic: str
    in_flight: int = 1024
    """Messages in hand at most (promise 7)."""

    @property
    def owner(self) -> str:
        """Who it is among the Triggers of its namespace, as in the names of its topics.

        Of ids, store keys, health and metrics; no Trigger's name has a slash.
        """
        return f"source/{self.name}" if self.implicit else self.name


class ResolvedSource(Resolved):
    """One event entry of an EventSource: a worker of its own."""

    version: Literal[1] = 1
    kind: Literal["EventSource"] = "EventSource"
    namespace: str
    name: str
    source: str
    """Entry point name in `ofevents.sources`: kafka, cron, webhook, ..."""
    entry: str
    spec: dict[str, Any]
    """The kind's own fields, as its model in `ofevents.api` takes them."""
    bus: ResolvedBus | None = None
    topic: str = ""
    """What it publishes; "" without a bus."""
    filter: str | None = None
    on_error: Literal["skip", "deadLetter"] = "deadLetter"
    attributes: dict[str, str] = Field(default_factory=dict)
    """CloudEvents attribute -> CEL."""
    data_schema: dict[str, Any] | None = None
    target: Target | None = None
    """The sink that is called directly when there is no bus."""
    delivery: ResolvedDelivery = ResolvedDelivery()
    dead_letter: Target | None = None
    dead_topic: str = ""
    suspend: bool = False
    log_level: str = "info"
    dapr_mode: DaprMode = "sidecar"


ResolvedWorker = Annotated[ResolvedSource | ResolvedTrigger, Field(discriminator="kind")]
