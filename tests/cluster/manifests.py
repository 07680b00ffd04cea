"""Manifests as users write them, as text for `kubectl apply -f -`; used by the flows."""

from __future__ import annotations

import textwrap
import uuid

from tests.servers.kube_ofevents import IMAGE

EVENTS = "events.openfunction.io/v1alpha1"
SCALE = "minReplicaCount: 0, maxReplicaCount: 3, pollingInterval: 1, cooldownPeriod: 5"
"""What a `scaleOption` holds, for KEDA to be quick."""


def bus(
    url: str,
    kind: str = "EventBus",
    name: str = "default",
    stream: str = "",
    monitoring: str = "",
) -> str:
    """A bus on JetStream, in streams of its own, whose names begin with `stream`.

    They stay on the server when the EventBus goes, so each takes little of its room.
    """
    seen = f'\n    monitoring: "{monitoring}"' if monitoring else ""
    return f"""
apiVersion: {EVENTS}
kind: {kind}
metadata: {{name: {name}}}
spec:
  jetstream:
    url: "{url}"
    stream: "{stream or uuid.uuid4().hex[:8]}"
    maxBytes: 64Mi{seen}
---"""


def webhook(name: str, sink: str, more: str = "") -> str:
    """A webhook that calls a function; `more` are further fields of its event, as in JSON."""
    fields = f"path: /, {more}" if more else "path: /"
    return f"""
apiVersion: {EVENTS}
kind: EventSource
metadata: {{name: {name}}}
spec:
  sink: {{uri: "{sink}"}}
  webhook:
    hook: {{{fields}}}
"""


def function(name: str, source: str) -> str:
    """A function of the framework: its code in a ConfigMap, a Pod, and a Service."""
    code = textwrap.indent(textwrap.dedent(source).strip(), "    ")
    return f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}}}
data:
  function.py: |
{code}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 2
      securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: function
        image: {IMAGE.name}
        imagePullPolicy: Never
        command: [python3, /function/function.py]
        securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
        env:
        - {{name: HOST, value: 0.0.0.0}}
        - {{name: PORT, value: "8080"}}
        readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
        volumeMounts: [{{name: code, mountPath: /function}}]
      volumes: [{{name: code, configMap: {{name: {name}}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{port: 80, targetPort: 8080}}]
---"""
