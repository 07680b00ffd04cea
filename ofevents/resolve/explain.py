"""pydantic's errors as sentences: where, what was expected, the nearest known name.

Called by `documents.py` for a document that its model refuses. What was found is
named by its type and never shown, because it may be a credential written in the
wrong place; the exceptions are words from a list and our own parsers' messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ofevents.api.meta import Model, SecretValue
from ofevents.api.scalars import (
    ADDRESS_EXPECTED,
    ADDRESS_PATTERN,
    DURATION_EXPECTED,
    DURATION_PATTERN,
    PATH_EXPECTED,
    PATH_PATTERN,
    RATE_EXPECTED,
    RATE_PATTERN,
    SIZE_EXPECTED,
    SIZE_PATTERN,
)
from ofevents.api.schema import Schema, at, structural
from ofevents.resolve.problems import Path, nearest

_FORMS: Final = ("@text", "@from")
"""How pydantic calls the forms of a credential; no document contains these words."""

_PATTERNS: Final = {
    DURATION_PATTERN: DURATION_EXPECTED,
    RATE_PATTERN: RATE_EXPECTED,
    SIZE_PATTERN: SIZE_EXPECTED,
    ADDRESS_PATTERN: ADDRESS_EXPECTED,
    PATH_PATTERN: PATH_EXPECTED,
}
_TYPES: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a mapping",
    "array": "a list",
}
_FOUND: Final[Mapping[type, str]] = {
    type(None): "nothing (null)",
    bool: "true or false",
    str: "text",
    int: "a number",
    float: "a number",
    dict: "a mapping",
    list: "a list",
}


def explain(error: ValidationError, model: type[Model]) -> list[tuple[Path, str, str, str]]:
    """Each mistake as (path, message, expected, nearest name)."""
    schema = structural(model)
    return [_one(detail, schema) for detail in error.errors(include_url=False)]


def path_of(detail: ErrorDetails) -> Path:
    """Where in the document an error stands."""
    return tuple(part for part in detail["loc"] if part not in _FORMS)


def _one(detail: ErrorDetails, schema: Schema) -> tuple[Path, str, str, str]:
    path = inside = path_of(detail)
    if "@from" in detail["loc"]:
        # The cluster's schema leaves a credential open; its second form has one of its own.
        schema = structural(SecretValue)
        inside = detail["loc"][detail["loc"].index("@from") + 1 :]
    kind, context = detail["type"], detail.get("ctx", {})
    name = str(path[-1]) if path else "the document"
    place = at(schema, inside)
    found = _FOUND.get(type(detail["input"]), "something else")
    if kind == "missing":
        return path, f"{name} is missing", describe(place), ""
    if kind == "extra_forbidden":
        known = sorted((at(schema, inside[:-1]) or {}).get("properties", {}))
        near = nearest(name, known)
        return path, f"unknown field {name}", _words(known) if not near else "", near
    if kind == "literal_error":
        words = [str(word) for word in (place or {}).get("enum", [])]
        shown = repr(detail["input"]) if isinstance(detail["input"], str) else found
        near = nearest(str(detail["input"]), words)
        return path, f"{name} cannot be {shown}", describe(place), near
    if kind == "value_error":
        return path, str(context["error"]), "", ""
    if kind == "string_pattern_mismatch":
        return path, f"{name} is not written as it must be", describe(place), ""
    if kind.startswith(("greater_than", "less_than", "too_", "string_too_")):
        return path, f"{name} is out of bounds: {_lower(detail['msg'])}", "", ""
    if kind.endswith(("_type", "_parsing", "_from_float")):
        return path, f"{name} cannot be {found}{_quote(place, found)}", describe(place), ""
    return path, f"{name}: {_lower(detail['msg'])}", "", ""


def _quote(schema: Schema | None, found: str) -> str:
    unquoted = found in ("a number", "true or false")
    return " (put it in quotes)" if unquoted and (schema or {}).get("type") == "string" else ""


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def describe(schema: Schema | None) -> str:
    """What a schema takes, as a noun."""
    if schema is None:
        return ""
    if "enum" in schema:
        return _words([str(word) for word in schema["enum"]])
    if known := _PATTERNS.get(schema.get("pattern", "")):
        return known
    if "x-kubernetes-int-or-string" in schema:
        return "a whole number or text"
    if schema.get("type") == "object" and (known_fields := schema.get("properties")):
        needed = schema.get("required") or sorted(known_fields)
        return f"a mapping with {_words(list(needed), 'and')}"
    noun = _TYPES.get(schema.get("type", ""), "")
    about = schema.get("description", "").rstrip(".")
    if noun and about:
        return f"{noun}: {about}"
    return noun or about


def _words(words: Sequence[str], last: str = "or") -> str:
    shown = list(words[:12])
    if len(words) > 12:
        return ", ".join(shown) + ", ..."
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} {last} {shown[-1]}"
