"""What Prometheus and Grafana are given: scraping, alerts, and a dashboard.

Called by `objects`. Metric names are those of `ofevents.telemetry`; a house test looks
for each of them there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ofevents.install.dashboard import dashboard
from ofevents.install.parts import Object, metadata
from ofevents.install.settings import NAME, SELECTOR, Settings

WORKERS: Final = {"app.kubernetes.io/managed-by": "ofevents"}
"""A label of every Pod that the controller has made."""
_API: Final = "monitoring.coreos.com/v1"


class Alert(NamedTuple):
    """One alert; `lasts` is how long it must be true."""

    name: str
    expression: str
    lasts: str
    severity: str
    summary: str
    description: str


ALERTS: Final = (
    Alert(
        "OfeventsSubscriberAway",
        "max by (namespace, name, subscriber) (ofevents_subscriber_away) == 1",
        "10m",
        "warning",
        "{{ $labels.namespace }}/{{ $labels.name }}: {{ $labels.subscriber }} is away",
        "Nothing gets through to the subscriber. Its events wait in its inbox; the status of "
        "the Trigger says what it answers.",
    ),
    Alert(
        "OfeventsDeadLetters",
        "sum by (namespace, name, subscriber, reason) "
        "(increase(ofevents_dead_lettered_total[15m])) > 0",
        "0m",
        "warning",
        "{{ $labels.namespace }}/{{ $labels.name }}: dead letters ({{ $labels.reason }})",
        "Events could not be delivered and are stored as dead letters.",
    ),
    Alert(
        "OfeventsExpired",
        "sum by (group) (increase(ofevents_bus_expired_total[15m])) > 0",
        "0m",
        "critical",
        "{{ $labels.group }}: messages reached maxAge unread",
        "The bus has thrown away what this consumer group has not read: events are lost. "
        "Raise maxAge, or find out why the group does not keep up.",
    ),
    Alert(
        "OfeventsLagGrows",
        "sum by (namespace, name, group) (ofevents_lag) > 1000 and "
        "sum by (namespace, name, group) (deriv(ofevents_lag[15m])) > 0",
        "30m",
        "warning",
        "{{ $labels.namespace }}/{{ $labels.name }}: {{ $labels.group }} does not keep up",
        "More events come than are read: add replicas, or look at what the subscribers take.",
    ),
    Alert(
        "OfeventsReconnects",
        "sum by (namespace, name, what) (increase(ofevents_reconnects_total[10m])) > 10",
        "5m",
        "warning",
        "{{ $labels.namespace }}/{{ $labels.name }}: loses its {{ $labels.what }} all the time",
        "The connection is made and lost again and again; the worker's log says why.",
    ),
    Alert(
        "OfeventsControllerBehind",
        "min_over_time(ofevents_controller_queued[15m]) > 0",
        "0m",
        "warning",
        "The controller of ofevents has not been done for 15 minutes",
        "Resources wait to be looked at: the Kubernetes API or a bus is slow or refuses; the "
        "controller's log and the resources' status say which.",
    ),
    Alert(
        "OfeventsControllerDown",
        f'absent(up{{service="{NAME}"}} == 1)',
        "5m",
        "critical",
        "No controller of ofevents is running",
        "Workers go on as they are. Nothing that is changed takes effect, and no status is new.",
    ),
)


def objects(settings: Settings) -> Iterator[Object]:
    """What is chosen of it."""
    if settings.monitoring.service_monitor:
        yield service_monitor(settings)
        yield pod_monitor(settings)
    if settings.monitoring.prometheus_rule:
        yield prometheus_rule(settings)
    if settings.monitoring.dashboard:
        yield dashboard_map(settings)


def service_monitor(settings: Settings) -> Object:
    """The controller is scraped."""
    return {
        "apiVersion": _API,
        "kind": "ServiceMonitor",
        "metadata": metadata(settings, NAME, settings.namespace),
        "spec": {
            "selector": {"matchLabels": dict(SELECTOR)},
            "endpoints": [{"port": "metrics", "path": "/metrics", "honorLabels": True}],
        },
    }


def pod_monitor(settings: Settings) -> Object:
    """The workers are scraped, by Pod: most of them have no Service.

    Their label `namespace` is the resource's, as the metric has it.
    """
    place = {"matchNames": list(settings.namespaces)} if settings.namespaces else {"any": True}
    return {
        "apiVersion": _API,
        "kind": "PodMonitor",
        "metadata": metadata(settings, "ofevents-workers", settings.namespace),
        "spec": {
            "namespaceSelector": place,
            "selector": {"matchLabels": dict(WORKERS)},
            "podMetricsEndpoints": [{"port": "probes", "path": "/metrics", "honorLabels": True}],
        },
    }


def prometheus_rule(settings: Settings) -> Object:
    """The alerts."""
    return {
        "apiVersion": _API,
        "kind": "PrometheusRule",
        "metadata": metadata(settings, NAME, settings.namespace),
        "spec": {"groups": [{"name": "ofevents", "rules": [_rule(each) for each in ALERTS]}]},
    }


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.lasts,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "description": alert.description},
    }


def dashboard_map(settings: Settings) -> Object:
    """The dashboard as Grafana's sidecar looks for it."""
    made = metadata(settings, "ofevents-dashboard", settings.namespace)
    made["labels"]["grafana_dashboard"] = "1"
    text = json.dumps(dashboard(), indent=1) + "\n"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": made,
        "data": {"ofevents.json": text},
    }
