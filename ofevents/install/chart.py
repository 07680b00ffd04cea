"""The Helm chart, generated from the objects: a template is an object with marks in it.

The objects are made with settings that no one would choose (`MARKS`), written as YAML,
and the marks replaced by what Helm puts there. Made for all namespaces and for some, what
differs is put into both branches of an `if`. Called by `files`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ofevents import __version__
from ofevents.controller.admission import NAME as ADMISSION
from ofevents.install.chart_values import HELPERS, NOTES, SCHEMA, VALUES
from ofevents.install.objects import objects
from ofevents.install.parts import Object
from ofevents.install.settings import (
    IMAGE,
    NAME,
    NAMESPACE,
    RESOURCES,
    Admission,
    Monitoring,
    Settings,
)
from ofevents.install.text import as_yaml

_NAMESPACE: Final = "mark-namespace"
_EACH: Final = "mark-each"
_IMAGE: Final = "mark-image"
MARKS: Final = {
    _NAMESPACE: '{{ include "ofevents.namespace" $ }}',
    _IMAGE: "{{ $.Values.image }}",
    "mark-replicas": "{{ $.Values.replicas }}",
    "mark-resources": "{{ toJson $.Values.resources }}",
    "mark-policy": "{{ $.Values.admission.failurePolicy }}",
    _EACH: "{{ . }}",
}
"""What is in an object, and what is in the template instead."""

_WHEN: Final = {
    "Namespace": 'ne .Release.Namespace (include "ofevents.namespace" .)',
    "CustomResourceDefinition": ".Values.crds",
    "ValidatingWebhookConfiguration": ".Values.admission.enabled",
    "ServiceMonitor": ".Values.monitoring.serviceMonitor",
    "PodMonitor": ".Values.monitoring.serviceMonitor",
    "PrometheusRule": ".Values.monitoring.prometheusRule",
    "ConfigMap": ".Values.monitoring.dashboard",
    f"Service {ADMISSION}": ".Values.admission.enabled",
}
"""Kinds (or one object of a kind) that are not always there, and Helm's condition for them."""
_WHEN_LINE: Final = {"--admission-port=": ".Values.admission.enabled"}
"""The same for lines: what they begin with after a dash."""


def chart(groups: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """Path in the chart -> text; `groups` says which kinds are in which template."""
    about = {
        "apiVersion": "v2",
        "name": "ofevents",
        "description": "Declarative events: EventSources, EventBuses and Triggers",
        "type": "application",
        "version": __version__,
        "appVersion": __version__,
        "kubeVersion": ">=1.25.0-0",
    }
    resources = "".join(f"  {line}\n" for line in as_yaml(RESOURCES).splitlines())
    files = {
        "Chart.yaml": as_yaml(about),
        "values.schema.json": json.dumps(SCHEMA, indent=2) + "\n",
        "values.yaml": VALUES.format(image=IMAGE, namespace=NAMESPACE, resources=resources),
        "templates/_helpers.tpl": HELPERS % NAMESPACE,
        "templates/NOTES.txt": NOTES % NAME,
    }
    made = _templates()
    for group, kinds in groups.items():
        texts = [text for (kind, _, _), text in made.items() if kind in kinds]
        files[f"templates/{group}.yaml"] = "".join(texts)
    return files


def _templates() -> dict[tuple[str, str, str], str]:
    """The template of each object."""
    settings = Settings(
        namespace=_NAMESPACE,
        image=_IMAGE,
        resources="mark-resources",  # type: ignore[arg-type]
        admission=Admission(failure_policy="mark-policy"),  # type: ignore[arg-type]
        monitoring=Monitoring(True, True, True),
    )
    everywhere = {_key(each): each for each in objects(settings)}
    made = {}
    for scoped in objects(replace(settings, namespaces=(_EACH,))):
        key = _key(scoped)
        plain = everywhere.get(key)
        if plain is None:
            body = f"{{{{- range .Values.namespaces }}}}\n---\n{_text(scoped)}{{{{- end }}}}\n"
        elif plain == scoped:
            body = f"---\n{_text(plain)}"
        else:
            body = _either(_ranged(_text(scoped)), _text(plain))
        condition = _WHEN.get(f"{key[0]} {key[2]}") or _WHEN.get(key[0])
        made[key] = f"{{{{- if {condition} }}}}\n{body}{{{{- end }}}}\n" if condition else body
    return made


def _either(scoped: str, plain: str) -> str:
    """The lines at both ends that are equal are written once."""
    one, other = scoped.splitlines(keepends=True), plain.splitlines(keepends=True)
    head = 0
    while head < min(len(one), len(other)) and one[head] == other[head]:
        head += 1
    tail = 0
    while tail < min(len(one), len(other)) - head and one[-1 - tail] == other[-1 - tail]:
        tail += 1
    first, second = (each[head : len(each) - tail] for each in (one, other))
    parts = [*other[:head], "{{- if .Values.namespaces }}\n", *first]
    if second:
        parts += ["{{- else }}\n", *second]
    return "".join(["---\n", *parts, "{{- end }}\n", *other[len(other) - tail :]])


def _ranged(text: str) -> str:
    """A line with one of the chosen namespaces comes once for each of them."""
    begin, end = "{{- range $.Values.namespaces }}\n", "{{- end }}\n"
    each = MARKS[_EACH]
    return "".join(
        f"{begin}{line}{end}" if each in line else line for line in text.splitlines(keepends=True)
    )


def _key(made: Object) -> tuple[str, str, str]:
    metadata = made["metadata"]
    return made["kind"], metadata.get("namespace", ""), metadata["name"]


def _text(made: Object) -> str:
    """The object with marks replaced; what looks like a template in it is kept as it is."""
    if made["kind"] == "Deployment":
        made = {**made, "spec": {**made["spec"], "replicas": "mark-replicas"}}
    text = as_yaml(_escaped(made), width=10_000)
    for mark, template in MARKS.items():
        text = text.replace(mark, template)
    return "".join(map(_conditional, text.splitlines(keepends=True)))


def _conditional(line: str) -> str:
    for start, condition in _WHEN_LINE.items():
        if line.strip().startswith(f"- {start}"):
            return f"{{{{- if {condition} }}}}\n{line}{{{{- end }}}}\n"
    return line


def _escaped(value: Any) -> Any:
    """`{{` in a text, as Helm has to read it."""
    if isinstance(value, str):
        return value.replace("{{", "{{`{{`}}")
    if isinstance(value, dict):
        return {name: _escaped(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    return value
