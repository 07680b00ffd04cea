"""JSON Schemas of an event's data: checked when a resource is loaded, used per event.

`resolve` checks a `dataSchema`, a source's worker validates with the same object.
A schema refers only to itself: `$ref` never reaches the network or a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from ofevents.errors import ConfigError


def data_validator(schema: Mapping[str, Any]) -> Validator:
    """A validator of that schema; its draft is what `$schema` says, else 2020-12.

    Raises:
        ConfigError: the schema is none; `path` is inside the schema.
    """
    plain = dict(schema)
    form = validator_for(plain, default=Draft202012Validator)
    try:
        form.check_schema(plain)
    except SchemaError as error:
        path = ".".join(str(part) for part in error.absolute_path)
        raise ConfigError(f"not a JSON Schema: {error.message}", path=path) from None
    return form(plain, registry=Registry())


def unresolvable(validator: Validator, data: Any) -> str:
    """ "" when the schema's references lead somewhere, else the one that does not."""
    try:
        next(iter(validator.iter_errors(data)), None)
    except Unresolvable as error:
        return str(error.ref)
    return ""
