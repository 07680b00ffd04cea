"""What a structural schema cannot say, as CEL rules of the CRDs.

The API server refuses it by itself, also where no admission webhook is asked. Each message is
the sentence that `validate` has for the mistake. Rules see no field without a type, such as a
credential. Used by the models, whose schema takes them along.
"""

from __future__ import annotations

from pydantic import ConfigDict, JsonValue


def ruled(*rules: tuple[str, str]) -> ConfigDict:
    """The configuration of a model with these rules: CEL on `self`, and what is said else."""
    listed: list[JsonValue] = [{"rule": rule, "message": message} for rule, message in rules]
    return ConfigDict(json_schema_extra={"x-kubernetes-validations": listed})


def count(*fields: str) -> str:
    """CEL for how many of these fields are given."""
    return f"[{', '.join(f'has(self.{each})' for each in fields)}].filter(given, given).size()"
