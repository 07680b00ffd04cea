"""What all resources share: the strict model, metadata, secrets, TLS, scaling.

Every field's description is the CRD's: it is written for the person who runs
`kubectl explain` (see `schema.py`). Field names are snake_case in Python and
camelCase in documents.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, WithJsonSchema
from pydantic.alias_generators import to_camel

from ofevents.errors import ConfigError

GROUP: Final = "events.openfunction.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

Anything = Annotated[
    dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
]
"""An object that is passed on as it is, such as a part of a Pod."""


class Model(BaseModel):
    """Immutable and strict: no unknown field, no silent conversion ("8080" is no port)."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        populate_by_name=True,
        alias_generator=to_camel,
        hide_input_in_errors=True,
    )


class SecretKeyRef(Model):
    """A key of a Secret in the resource's namespace."""

    name: str = Field(description="Name of the Secret.")
    key: str = Field(description="Key inside the Secret's data.")


class ValueFrom(Model):
    """Where a credential is kept."""

    secret_key_ref: SecretKeyRef = Field(description="Key of a Secret in the same namespace.")


class SecretValue(Model):
    """A credential that is not written in the resource."""

    value_from: ValueFrom = Field(description="Where the value is kept.")


def _form(value: Any) -> str:
    return "@from" if isinstance(value, (dict, SecretValue)) else "@text"


SecretText = Annotated[
    Annotated[str, Tag("@text")] | Annotated[SecretValue, Tag("@from")],
    Discriminator(_form),
    # A structural schema has no "string or object"; our own check says the rest.
    WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True}),
]
"""Text, or `valueFrom: {secretKeyRef: {name, key}}`. Declare with `repr=False`."""

SECRET_HINT: Final = "Text, or `valueFrom: {secretKeyRef: {name, key}}`."


def reveal(value: str | SecretValue | None) -> str | None:
    """The text of a credential in a resolved spec, where every reference is in place.

    Raises:
        ConfigError: it is still a reference; the spec did not go through resolve.
    """
    if isinstance(value, SecretValue):
        ref = value.value_from.secret_key_ref
        raise ConfigError(f"key {ref.key} of Secret {ref.name} has not been looked up")
    return value


class Tls(Model):
    """TLS of a client: whom to trust, and who we are."""

    ca: SecretText | None = Field(
        default=None,
        repr=False,
        description=f"CA certificates, PEM. {SECRET_HINT} Default: the system's.",
    )
    cert: SecretText | None = Field(
        default=None,
        repr=False,
        description=f"Client certificate for mutual TLS, PEM. {SECRET_HINT}",
    )
    key: SecretText | None = Field(
        default=None,
        repr=False,
        description=f"Private key of the client certificate, PEM. {SECRET_HINT}",
    )
    insecure_skip_verify: bool = Field(
        default=False, description="Accept any server certificate. For tests only."
    )


class Basic(Model):
    """User name and password."""

    username: SecretText = Field(description=f"User name. {SECRET_HINT}")
    password: SecretText = Field(repr=False, description=f"Password. {SECRET_HINT}")


class ScaleOption(Model):
    """How many workers run, by lag (KEDA); read on the cluster only."""

    min_replica_count: int | None = Field(
        default=None, ge=0, description="Fewest workers; 0 allows none."
    )
    max_replica_count: int | None = Field(default=None, ge=1, description="Most workers.")
    polling_interval: int | None = Field(
        default=None, ge=1, description="Seconds between two looks at the lag."
    )
    cooldown_period: int | None = Field(
        default=None, ge=0, description="Seconds without lag before the last worker is ended."
    )
    lag_threshold: str | None = Field(
        default=None, description="Lag that one worker should have at most, a number as text."
    )
    metadata: dict[str, str] | None = Field(
        default=None, description="Passed on to the KEDA trigger as it is."
    )
    advanced: Anything | None = Field(
        default=None, description="Passed on as `advanced` of the ScaledObject."
    )
    auth_ref: Anything | None = Field(
        default=None, description="Passed on as `authenticationRef` of the KEDA trigger."
    )


class Metadata(Model):
    """Kubernetes' object metadata; what the API server adds is accepted, to read it back."""

    name: str = Field(
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="Lower-case letters, digits, `-` and `.`.",
    )
    namespace: str | None = Field(
        default=None,
        max_length=63,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        description="Lower-case letters, digits and `-`.",
    )
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    generate_name: str | None = None
    self_link: str | None = None
    finalizers: list[str] | None = None
    owner_references: list[dict[str, Any]] | None = None
    managed_fields: list[dict[str, Any]] | None = None


class Condition(Model):
    """One condition of a status, in the Kubernetes form."""

    type: str = Field(description="Ready, Stalled or Warning.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(default="", description="One CamelCase word for programs.")
    message: str = Field(default="", description="A sentence for people.")
    last_transition_time: str | None = Field(
        default=None, description="When status last changed (RFC 3339)."
    )
    observed_generation: int | None = Field(
        default=None, description="The generation of the resource that it speaks of."
    )


Written = dict[str, Any]
"""A status in a document: the controller's to write, so nothing in it is refused."""


class Status(Model):
    """What the controller saw; merged by condition type, never appended."""

    conditions: list[Condition] = Field(
        default_factory=list, description="One per type: Ready, Stalled, Warning."
    )
    observed_generation: int | None = Field(
        default=None, description="The last generation that the controller acted on."
    )
    sink: str | None = Field(
        default=None,
        description="Where events are delivered, as `kubectl get` shows it; no credentials.",
    )
