"""JSON Schemas of an event's data: checked when a resource is loaded, used per event.

`resolve` checks a `dataSchema`, a source's worker validates with the same object.
A schema refers only to itself: `$ref` never reaches the network or a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ofevents.errors import ConfigError

if TYPE_CHECKING:
    from jsonschema.protocols import Validator


def data_validator(schema: Mapping[str, Any]) -> Validator:
    """A validator of that schema; its draft is what `$schema` says, else 2020-12.

    Raises:
        ConfigError: the schema is none; `path` is inside the schema.
    """
    # jsonschema takes 0.1 s to import, and few sources have a schema.
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    plain = dict(schema)
    form = validator_for(plain, default=Draft202012Validator)
    try:
        form.check_schema(plain)
    except SchemaError as error:
        path = ".".join(str(part) for part in error.absolute_path)
        raise ConfigError(f"not a JSON Schema: {error.message}", path=path) from None
    _check_references(plain)
    return form(plain, registry=Registry())


def _check_references(schema: dict[str, Any]) -> None:
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    address = resource.id() or ""
    resolver = Registry().with_resource(address, resource).resolver(address)
    for path, ref in _references(schema, ""):
        try:
            resolver.lookup(ref)
        except Unresolvable:
            message = f"the $ref {ref} leads nowhere; a schema refers only to itself"
            raise ConfigError(message, path=path) from None


def _references(schema: Any, path: str) -> Iterator[tuple[str, str]]:
    """Each `$ref` and where it stands; none inside a part with an `$id` of its own."""
    if isinstance(schema, list):
        for index, each in enumerate(schema):
            yield from _references(each, f"{path}.{index}" if path else str(index))
    if not isinstance(schema, dict) or (path and "$id" in schema):
        return
    for key, each in schema.items():
        inner = f"{path}.{key}" if path else str(key)
        if key == "$ref" and isinstance(each, str):
            yield inner, each
        else:
            yield from _references(each, inner)
