"""The texts of the Helm chart that no object is made from: values, their schema, notes.

Called by `chart`. The names of the values are those of `Settings`.
"""

from __future__ import annotations

from typing import Any, Final

HELPERS: Final = """\
{{- /* Where the controller is: `namespace`, else the release's; a release in `default` gets its own. */ -}}
{{- define "ofevents.namespace" -}}
{{- $release := ternary "%s" .Release.Namespace (eq .Release.Namespace "default") -}}
{{- default $release .Values.namespace -}}
{{- end -}}
"""  # noqa: E501

VALUES: Final = """\
# Image of the controller, and of every worker that it starts.
image: {image}

# Controllers: one is active, the others wait for its lease and take over when it is gone.
replicas: 2

# Where the controller is. Default: the release's namespace, or {namespace} for a release
# in `default`; the chart makes it unless it is the release's.
namespace: ""

# What it looks after; empty is all. With names its rights end there: Roles in each of them,
# and a ClusterRole for what has no namespace.
namespaces: []

# Of one controller. It has no CPU limit: a throttled one would lose its lease.
resources:
{resources}
# The CustomResourceDefinitions. They are kept when the release goes: with them every
# EventSource and Trigger would go.
crds: true

admission:
  # Resources are checked before they are stored.
  enabled: true
  # Ignore: stored unchecked while no controller answers; the status then says what is wrong.
  # Fail: every change of our resources is refused meanwhile.
  failurePolicy: Ignore

# For Prometheus (the CRDs of its operator must be there) and Grafana.
monitoring:
  prometheusRule: false
  serviceMonitor: false
  dashboard: false
"""

NOTES: Final = """\
ofevents is in namespace {{ include "ofevents.namespace" . }}.

  kubectl -n {{ include "ofevents.namespace" . }} rollout status deployment/%s
  kubectl apply -f deploy/samples/quickstart
  kubectl get ofevents -A
"""

_SWITCH: Final = {"type": "boolean"}


def _values(**properties: Any) -> dict[str, Any]:
    """An object with these values and no others: a misspelt one is refused."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


_NAME: Final = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
SCHEMA: Final = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    **_values(
        image={"type": "string", "minLength": 1},
        replicas={"type": "integer", "minimum": 1},
        namespace={"anyOf": [{"const": ""}, _NAME]},
        namespaces={"type": "array", "items": _NAME},
        resources={"type": "object"},
        crds=_SWITCH,
        admission=_values(
            enabled=_SWITCH, failurePolicy={"type": "string", "enum": ["Ignore", "Fail"]}
        ),
        monitoring=_values(prometheusRule=_SWITCH, serviceMonitor=_SWITCH, dashboard=_SWITCH),
        **{"global": {"type": "object"}},  # Helm adds it to the values of a subchart
    ),
}
