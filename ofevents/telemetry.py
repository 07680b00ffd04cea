"""Every metric and log-event name of ofevents, with a sentence each.

All layers count and log through this module, so that what an operator sees has
one vocabulary; a house test compares the README's table with it. This is the
only module that imports prometheus_client and structlog.

Labels are bounded: resources by name, never an event's id, topic key or URL.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Final, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY: Final = CollectorRegistry()

_RESOURCE: Final = ("namespace", "name")
_SUBSCRIBER: Final = ("namespace", "name", "subscriber")

RECEIVED: Final = Counter(
    "ofevents_source_received",
    "Events an adapter handed to its EventSource.",
    (*_RESOURCE, "event"),
    registry=REGISTRY,
)
PUBLISHED: Final = Counter(
    "ofevents_source_published",
    "Events the bus has stored for an EventSource.",
    (*_RESOURCE, "event"),
    registry=REGISTRY,
)
FILTERED: Final = Counter(
    "ofevents_filtered",
    "Events that went no further, by step (source, input, condition) and reason.",
    (*_RESOURCE, "step", "reason"),
    registry=REGISTRY,
)
CONSUMED: Final = Counter(
    "ofevents_trigger_received",
    "Events a Trigger took from the bus, redeliveries included.",
    _RESOURCE,
    registry=REGISTRY,
)
WAITING: Final = Counter(
    "ofevents_trigger_waiting",
    "Events put aside for a condition over several inputs that is not met yet.",
    _SUBSCRIBER,
    registry=REGISTRY,
)
DELIVERED: Final = Counter(
    "ofevents_delivered",
    "Deliveries that a subscriber accepted.",
    _SUBSCRIBER,
    registry=REGISTRY,
)
RETRIED: Final = Counter(
    "ofevents_retried",
    "Calls to a subscriber that failed and will be made again, by reason.",
    (*_SUBSCRIBER, "reason"),
    registry=REGISTRY,
)
INBOXED: Final = Counter(
    "ofevents_inboxed",
    "Deliveries moved to a subscriber's inbox, by reason.",
    (*_SUBSCRIBER, "reason"),
    registry=REGISTRY,
)
DEAD_LETTERED: Final = Counter(
    "ofevents_dead_lettered",
    "Deliveries (or events at a source) stored as dead letters, by reason.",
    (*_SUBSCRIBER, "reason"),
    registry=REGISTRY,
)
AWAY: Final = Gauge(
    "ofevents_subscriber_away",
    "1 while a subscriber is away or misconfigured and only probes are called, else 0.",
    _SUBSCRIBER,
    registry=REGISTRY,
)
LAG: Final = Gauge(
    "ofevents_lag",
    "Messages a consumer group has not yet been handed, by group.",
    (*_RESOURCE, "group"),
    registry=REGISTRY,
)
IN_FLIGHT: Final = Gauge(
    "ofevents_in_flight",
    "Messages in hand and not yet settled.",
    _RESOURCE,
    registry=REGISTRY,
)
EVENT_AGE: Final = Histogram(
    "ofevents_event_age_seconds",
    "From the bus's storing of an event to its delivery.",
    _SUBSCRIBER,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600),
    registry=REGISTRY,
)
CALL_TIME: Final = Histogram(
    "ofevents_call_seconds",
    "One call to a subscriber, by outcome (ok, retry, rejected).",
    (*_SUBSCRIBER, "outcome"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
RECONNECTS: Final = Counter(
    "ofevents_reconnects",
    "Times a connection was lost and is being made again, by what (bus, source).",
    (*_RESOURCE, "what"),
    registry=REGISTRY,
)
PROGRESS: Final = Gauge(
    "ofevents_last_progress_timestamp_seconds",
    "When a step of a worker's loops last ended (Unix seconds).",
    (*_RESOURCE, "worker"),
    registry=REGISTRY,
)
EXPIRED: Final = Counter(
    "ofevents_bus_expired",
    "Messages that reached maxAge before a consumer group read them, by group.",
    ("group",),
    registry=REGISTRY,
)

RECONCILED: Final = Counter(
    "ofevents_controller_reconciled",
    "Resources that the controller has looked at, by kind.",
    ("kind",),
    registry=REGISTRY,
)
QUEUED: Final = Gauge(
    "ofevents_controller_queued",
    "Resources that the controller is to look at, or looks at now.",
    registry=REGISTRY,
)
KUBERNETES_REQUESTS: Final = Counter(
    "ofevents_kubernetes_requests",
    "Requests of the controller to the Kubernetes API, by verb.",
    ("verb",),
    registry=REGISTRY,
)

LogEvent = Literal[
    "started",  # a source, trigger or server is live; `address` says where
    "stopped",  # it ended as asked; `in_flight` says what was unfinished
    "waiting",  # an outside server cannot be reached yet; `reason` says why
    "reconnecting",  # a connection was lost; `delay` is the backoff in seconds
    "published",  # an event is stored on the bus (debug)
    "filtered",  # an event went no further; `reason` says which expression (debug)
    "matched",  # a condition fired (debug)
    "delivered",  # a subscriber accepted a delivery
    "retrying",  # a call failed and will be made again
    "away",  # a subscriber is away or misconfigured: its inbox takes over
    "returned",  # it accepts calls again
    "inboxed",  # a delivery waits in the subscriber's inbox
    "dead-lettered",  # a delivery or an event is stored as a dead letter
    "refused",  # a request or an event was refused at the door; `reason` says why
    "stalled",  # no progress although there is work; `reason` says on what
    "reloaded",  # `--watch` applied a changed file
    "kept",  # `--watch` kept the last good state; `reason` lists the problems
    "purged",  # settled events were removed to make room
    "expired",  # messages reached maxAge unread
    "leading",  # this controller holds the lease: it writes
    "standby",  # another controller holds the lease: this one waits
    "failed",  # a defect of ours: the controller goes on with the other resources
    "applied",  # the controller changed what a resource is made of
    "removed",  # a Trigger has taken what it had on its bus away
]
"""Every log-event name; the key `event` of a log line."""


def configure_logging(level: str = "info", *, json: bool = False) -> None:
    """Send structured logs to stderr: JSON for programs, key=value for people.

    `level` is the resource's logLevel: debug, info, warning or error.
    """
    numeric = getattr(logging, level.upper(), logging.INFO)
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            _drop_quiet,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


_QUIET: ContextVar[int] = ContextVar("ofevents log level", default=0)


def log_from(level: str) -> None:
    """Let the current task, and those it starts, log from that level on.

    For a process that runs resources of several logLevels; `configure_logging` has
    the last word, with the lowest of them.
    """
    _QUIET.set(getattr(logging, level.upper(), logging.INFO))


def _drop_quiet(_: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if getattr(logging, method.upper(), logging.INFO) < _QUIET.get():
        raise structlog.DropEvent
    return event


class Log:
    """A logger bound to a resource; its methods take only known event names."""

    __slots__ = ("_logger",)

    def __init__(self, **bound: str) -> None:
        self._logger = structlog.get_logger().bind(**bound)

    def debug(self, event: LogEvent, **fields: object) -> None:
        self._logger.debug(event, **fields)

    def info(self, event: LogEvent, **fields: object) -> None:
        self._logger.info(event, **fields)

    def warning(self, event: LogEvent, **fields: object) -> None:
        self._logger.warning(event, **fields)

    def error(self, event: LogEvent, **fields: object) -> None:
        self._logger.error(event, **fields)


def exposition() -> bytes:
    """All metrics in the Prometheus text format, for `/metrics`."""
    return generate_latest(REGISTRY)
