"""The Grafana dashboard: a table of panels, and the JSON that Grafana makes of it.

Called by `monitoring`. One row per step of the data's way.
"""

from __future__ import annotations

from itertools import count
from typing import Any, Final, NamedTuple

_OF: Final = '{namespace=~"$namespace", name=~"$name"}'
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH: Final = 24
_HEIGHT: Final = 8


class Panel(NamedTuple):
    """One graph; `queries` are expression and legend, `unit` is Grafana's."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def _rate(metric: str, by: str, legend: str) -> tuple[str, str]:
    return f"sum by ({by}) (rate({metric}{_OF}[$__rate_interval]))", legend


def _sum(metric: str, by: str, legend: str) -> tuple[str, str]:
    return f"sum by ({by}) ({metric}{_OF})", legend


def _quantile(metric: str, share: float) -> tuple[str, str]:
    by = "le, namespace, name, subscriber"
    rate = f"sum by ({by}) (rate({metric}_bucket{_OF}[$__rate_interval]))"
    legend = f"p{share * 100:.0f} {{{{namespace}}}}/{{{{name}}}} {{{{subscriber}}}}"
    return f"histogram_quantile({share}, {rate})", legend


_WHO: Final = "{{namespace}}/{{name}}"
_SUBSCRIBER: Final = f"{_WHO} {{{{subscriber}}}}"
_BY: Final = "namespace, name"
_BY_SUBSCRIBER: Final = "namespace, name, subscriber"

ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Sources": (
        Panel(
            "Received and published",
            "ops",
            (
                _rate("ofevents_source_received_total", _BY, f"received {_WHO}"),
                _rate("ofevents_source_published_total", _BY, f"published {_WHO}"),
            ),
        ),
        Panel(
            "Filtered",
            "ops",
            (
                _rate(
                    "ofevents_filtered_total",
                    f"{_BY}, step, reason",
                    f"{_WHO} {{{{step}}}} {{{{reason}}}}",
                ),
            ),
        ),
    ),
    "Triggers": (
        Panel(
            "Received",
            "ops",
            (
                _rate("ofevents_trigger_received_total", _BY, _WHO),
                _rate("ofevents_trigger_waiting_total", _BY_SUBSCRIBER, f"put aside {_SUBSCRIBER}"),
            ),
        ),
        Panel(
            "Lag and in flight",
            "short",
            (
                _sum("ofevents_lag", f"{_BY}, group", f"lag {_WHO} {{{{group}}}}"),
                _sum("ofevents_in_flight", _BY, f"in flight {_WHO}"),
            ),
        ),
    ),
    "Subscribers": (
        Panel(
            "Delivered", "ops", (_rate("ofevents_delivered_total", _BY_SUBSCRIBER, _SUBSCRIBER),)
        ),
        Panel(
            "Not delivered at once",
            "ops",
            (
                _rate(
                    "ofevents_retried_total",
                    f"{_BY_SUBSCRIBER}, reason",
                    f"retried {_SUBSCRIBER} {{{{reason}}}}",
                ),
                _rate(
                    "ofevents_inboxed_total",
                    f"{_BY_SUBSCRIBER}, reason",
                    f"inbox {_SUBSCRIBER} {{{{reason}}}}",
                ),
                _rate(
                    "ofevents_dead_lettered_total",
                    f"{_BY_SUBSCRIBER}, reason",
                    f"dead letter {_SUBSCRIBER} {{{{reason}}}}",
                ),
            ),
        ),
        Panel(
            "Age of an event at its delivery",
            "s",
            (
                _quantile("ofevents_event_age_seconds", 0.5),
                _quantile("ofevents_event_age_seconds", 0.99),
            ),
        ),
        Panel(
            "Time of a call",
            "s",
            (_quantile("ofevents_call_seconds", 0.5), _quantile("ofevents_call_seconds", 0.99)),
        ),
    ),
    "Controller": (
        Panel(
            "Looked at, and to be looked at",
            "short",
            (
                (
                    "sum by (kind) (rate(ofevents_controller_reconciled_total[$__rate_interval]))",
                    "{{kind}}/s",
                ),
                ("max(ofevents_controller_queued)", "waiting"),
            ),
        ),
        Panel(
            "Requests to the Kubernetes API",
            "reqps",
            (
                (
                    "sum by (verb) (rate(ofevents_kubernetes_requests_total[$__rate_interval]))",
                    "{{verb}}",
                ),
            ),
        ),
    ),
    "What a person should look at": (
        Panel(
            "Subscribers that are away",
            "short",
            (_sum("ofevents_subscriber_away", _BY_SUBSCRIBER, _SUBSCRIBER),),
        ),
        Panel(
            "Connections lost, messages expired",
            "ops",
            (
                _rate("ofevents_reconnects_total", f"{_BY}, what", f"{_WHO} {{{{what}}}}"),
                (
                    "sum by (group) (rate(ofevents_bus_expired_total[$__rate_interval]))",
                    "expired {{group}}",
                ),
            ),
        ),
        Panel(
            "Since the last step of a worker",
            "s",
            (
                (
                    f"time() - max by ({_BY}, worker) "
                    f"(ofevents_last_progress_timestamp_seconds{_OF})",
                    f"{_WHO} {{{{worker}}}}",
                ),
            ),
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """As Grafana imports it."""
    return {
        "uid": "ofevents",
        "title": "ofevents",
        "tags": ["ofevents"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": _panels(),
    }


def _panels() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    identity, top = count(1), 0
    for row, panels in ROWS.items():
        at = {"x": 0, "y": top, "w": _WIDTH, "h": 1}
        made.append(
            {"id": next(identity), "type": "row", "title": row, "gridPos": at, "panels": []}
        )
        top += 1
        width = _WIDTH // min(len(panels), 3)
        per_line = _WIDTH // width
        for number, panel in enumerate(panels):
            place = {
                "x": number % per_line * width,
                "y": top + number // per_line * _HEIGHT,
                "w": width,
                "h": _HEIGHT,
            }
            made.append({"id": next(identity), "gridPos": place, **_graph(panel)})
        top += -(-len(panels) // per_line) * _HEIGHT
    return made


def _graph(panel: Panel) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "datasource": dict(_DATASOURCE),
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "expr": expression, "legendFormat": legend}
            for number, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _variables() -> list[dict[str, Any]]:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    metric = "ofevents_last_progress_timestamp_seconds"
    several = {
        "type": "query",
        "datasource": dict(_DATASOURCE),
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }
    return [
        source,
        {"name": "namespace", "query": f"label_values({metric}, namespace)", **several},
        {
            "name": "name",
            "query": f'label_values({metric}{{namespace=~"$namespace"}}, name)',
            **several,
        },
    ]
