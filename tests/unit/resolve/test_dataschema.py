"""A dataSchema is checked when it is loaded, and reaches for nothing outside itself."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.errors import ConfigError
from ofevents.resolve.dataschema import data_validator


def test_a_schema_judges_data() -> None:
    schema = {"$defs": {"id": {"type": "integer"}}, "properties": {"id": {"$ref": "#/$defs/id"}}}
    validator = data_validator(schema)
    assert validator.is_valid({"id": 1})
    [error] = validator.iter_errors({"id": "x"})
    assert error.json_path == "$.id"


def test_the_draft_is_what_the_schema_says() -> None:
    old = {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 5,
           "exclusiveMinimum": True}  # fmt: skip
    assert not data_validator(old).is_valid(5)
    with pytest.raises(ConfigError, match="not a JSON Schema"):
        data_validator({"minimum": 5, "exclusiveMinimum": True})


@pytest.mark.parametrize(
    ("schema", "path", "message"),
    [
        ({"properties": {"a": {"type": "objectt"}}}, "properties.a.type", "not a JSON Schema"),
        ({"$ref": "#/$defs/missing"}, "$ref", "leads nowhere"),
        ({"allOf": [{"$ref": "https://example.test/a.json"}]}, "allOf.0.$ref", "only to itself"),
        ({"items": {"$ref": "file:///etc/passwd"}}, "items.$ref", "only to itself"),
    ],
)
def test_a_bad_schema_is_refused(schema: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        data_validator(schema)
    assert caught.value.path == path


def test_a_schema_with_an_address_of_its_own_may_refer_to_it() -> None:
    schema = {"$id": "https://example.test/a", "$defs": {"b": {"type": "null"}},
              "items": {"$ref": "https://example.test/a#/$defs/b"}}  # fmt: skip
    assert not data_validator(schema).is_valid([1])
