"""crds/ is what the models say, and what Kubernetes takes as a structural schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ofevents.api.schema import crds
from ofevents.cli.crds import rendered

FOLDER = Path(__file__).parents[2] / "crds"
TYPES = {"string": str, "integer": int, "boolean": bool, "object": dict, "array": list}
ALLOWED = {
    "description", "type", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength",
    "minItems", "maxItems", "minProperties", "default", "properties", "required", "items",
    "additionalProperties", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}  # fmt: skip


def test_the_files_are_fresh() -> None:
    expected = rendered()
    found = {each.name: each.read_text(encoding="utf-8") for each in FOLDER.glob("*")}
    assert sorted(found) == sorted(expected), "run `make crds`"
    stale = [name for name, text in expected.items() if found[name] != text]
    assert stale == [], "run `make crds`"


def _nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, each in schema.get("properties", {}).items():
        yield from _nodes(each, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in schema:
            yield from _nodes(schema[inner], f"{path}[]")


def _broken(schema: dict[str, Any]) -> list[str]:
    """The structural rules that a node breaks."""
    broken = [f"{key} is not allowed" for key in schema.keys() - ALLOWED]
    kind = schema.get("type")
    open_to_all = schema.get("x-kubernetes-preserve-unknown-fields") is True
    int_or_string = schema.get("x-kubernetes-int-or-string") is True
    if kind is None and not (open_to_all or int_or_string):
        broken.append("a node needs a type")
    if kind is not None and (int_or_string or kind not in TYPES):
        broken.append(f"the type {kind} is not possible here")
    if "properties" in schema and (kind != "object" or "additionalProperties" in schema):
        broken.append("properties need the type object, and exclude additionalProperties")
    if kind == "array" and "items" not in schema:
        broken.append("an array needs items")
    if "items" in schema and kind != "array":
        broken.append("items need the type array")
    if missing := set(schema.get("required", ())) - schema.get("properties", {}).keys():
        broken.append(f"required names unknown fields {missing}")
    if "default" in schema and kind and type(schema["default"]) is not TYPES[kind]:
        broken.append(f"the default {schema['default']!r} is no {kind}")
    if "enum" in schema and schema.get("default", schema["enum"][0]) not in schema["enum"]:
        broken.append("the default is not in the enum")
    if isinstance(schema.get("default"), str) and not re.search(
        schema.get("pattern", ""), schema["default"]
    ):
        broken.append("the default does not match the pattern")
    return broken


@pytest.mark.parametrize(("name", "definition"), list(crds()), ids=[name for name, _ in crds()])
def test_every_node_is_structural(name: str, definition: dict[str, Any]) -> None:
    [version] = definition["spec"]["versions"]
    root = version["schema"]["openAPIV3Schema"]
    assert root["type"] == "object"
    assert root["properties"]["metadata"] == {"type": "object"}
    broken = {path: found for path, node in _nodes(root) if (found := _broken(node))}
    assert broken == {}


def test_the_rules_find_what_kubernetes_refuses() -> None:
    assert _broken({"description": "no type"})
    assert _broken({"type": "object", "properties": {}, "additionalProperties": {}})
    assert _broken({"type": "string", "anyOf": []})
    assert _broken({"type": "array"})
    assert _broken({"type": "integer", "default": "5"})
    assert not _broken({"x-kubernetes-int-or-string": True})


def test_the_conditions_of_a_status_have_the_kubernetes_form() -> None:
    for _, definition in crds():
        root = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        condition = root["properties"]["status"]["properties"]["conditions"]["items"]
        assert set(condition["properties"]) == {
            "type",
            "status",
            "reason",
            "message",
            "lastTransitionTime",
            "observedGeneration",
        }
        assert condition["properties"]["status"]["enum"] == ["True", "False", "Unknown"]
