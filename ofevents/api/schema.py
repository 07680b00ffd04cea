"""The models as the cluster's schemas: structural OpenAPI v3, and the CRDs of it.

Kubernetes takes a dialect: no references, a type on every node (but for
`x-kubernetes-int-or-string` and `x-kubernetes-preserve-unknown-fields`), no
`additionalProperties: false`. `ofevents crds` writes what `crds()` returns, the
controller installs it, and `resolve` reads `structural()` to say what was expected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from ofevents.api.documents import RESOURCES
from ofevents.api.meta import GROUP, VERSION, Model, Status
from ofevents.api.scalars import DURATION_PATTERN, format_duration

Schema = dict[str, Any]

_KEPT: Final = (
    "description",
    "type",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
)


@dataclass(frozen=True, slots=True)
class _Names:
    plural: str
    short: str
    scope: str
    columns: tuple[tuple[str, str, str], ...]


_READY: Final = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
    ("Age", "date", ".metadata.creationTimestamp"),
)
_BUS: Final = ("EventBus", "string", ".spec.eventBus")
_SINK: Final = ("Sink", "string", ".status.sink")

_NAMES: Final[Mapping[str, _Names]] = {
    "EventBus": _Names("eventbuses", "eb", "Namespaced", _READY),
    "ClusterEventBus": _Names("clustereventbuses", "ceb", "Cluster", _READY),
    "EventSource": _Names("eventsources", "es", "Namespaced", (_BUS, _SINK, *_READY)),
    "Trigger": _Names("triggers", "trg", "Namespaced", (_BUS, _SINK, *_READY)),
}


@cache
def structural(model: type[Model]) -> Schema:
    """A model's schema, self-contained. The caller must not change it."""
    raw = model.model_json_schema(by_alias=True)
    return _node(raw, raw.get("$defs", {}))


def _node(raw: Mapping[str, Any], defs: Mapping[str, Any]) -> Schema:
    """One node: references put in place, `or null` taken away, only known keywords kept."""
    if "$ref" in raw:
        return _node({**defs[raw["$ref"].rpartition("/")[2]], **_without(raw, "$ref")}, defs)
    if "anyOf" in raw:
        forms = [form for form in raw["anyOf"] if form.get("type") != "null"]
        if len(forms) != 1:
            raise TypeError(f"a structural schema has no unions: {raw}")
        return _node({**forms[0], **_without(raw, "anyOf")}, defs)
    schema: Schema = {key: raw[key] for key in _KEPT if key in raw}
    if "const" in raw:
        schema |= {"type": "string", "enum": [raw["const"]]}
    if (default := raw.get("default")) not in (None, "", [], {}):
        schema["default"] = _default(default, schema)
    if "properties" in raw:
        schema["properties"] = {key: _node(each, defs) for key, each in raw["properties"].items()}
        if raw.get("required"):
            schema["required"] = sorted(raw["required"])
    elif isinstance(raw.get("additionalProperties"), Mapping):
        schema["additionalProperties"] = _node(raw["additionalProperties"], defs)
    elif raw.get("type") == "object":
        schema["x-kubernetes-preserve-unknown-fields"] = True
    if "items" in raw:
        schema["items"] = _node(raw["items"], defs)
    return schema


def _without(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if name != key}


def _default(value: Any, schema: Schema) -> Any:
    return format_duration(value) if schema.get("pattern") == DURATION_PATTERN else value


def at(schema: Schema, path: Sequence[str | int]) -> Schema | None:
    """The schema of a place in a document, None where everything is allowed or nothing is known."""
    for part in path:
        found: Schema | None
        if isinstance(part, int):
            found = schema.get("items")
        else:
            found = schema.get("properties", {}).get(part) or schema.get("additionalProperties")
        if found is None:
            return None
        schema = found
    return schema


def _root(kind: str) -> Schema:
    """The schema of a whole resource, as the API server wants it."""
    model = RESOURCES[kind]
    return {
        "description": " ".join((model.__doc__ or "").split()),
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(model)["properties"]["spec"],
            "status": structural(Status),
        },
    }


def crd(kind: str) -> dict[str, Any]:
    """The CustomResourceDefinition of one of our kinds."""
    names = _NAMES[kind]
    columns = [{"name": name, "type": form, "jsonPath": path} for name, form, path in names.columns]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": names.scope,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": names.plural,
                "singular": kind.lower(),
                "shortNames": [names.short],
                "categories": ["ofevents"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": _root(kind)},
                }
            ],
        },
    }


def crds() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each kind in lower case, and its CustomResourceDefinition."""
    for kind in RESOURCES:
        yield kind.lower(), crd(kind)
