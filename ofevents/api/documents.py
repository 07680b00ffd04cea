"""Every kind of document that is read: our resources, and what they refer to.

`resolve` asks `find` which model a document has; the CRDs are made of `RESOURCES`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from pydantic import Field, field_validator

from ofevents.api.eventbus import ClusterEventBus, EventBus
from ofevents.api.eventsource import EventSource
from ofevents.api.meta import API_VERSION, Anything, Metadata, Model
from ofevents.api.trigger import Trigger

URL_ANNOTATION: Final = "events.openfunction.io/url"
"""On a Service or Function document: where it can be reached in a local run."""


class Secret(Model):
    """A core v1 Secret; `data` in base64, `stringData` as text, which wins."""

    api_version: Literal["v1"] = "v1"
    kind: Literal["Secret"] = "Secret"
    metadata: Metadata
    type: str | None = None
    immutable: bool | None = None
    data: dict[str, str] = Field(default_factory=dict, repr=False)
    string_data: dict[str, str] = Field(default_factory=dict, repr=False)

    @field_validator("data")
    @classmethod
    def _base64(cls, data: dict[str, str]) -> dict[str, str]:
        for key, value in data.items():
            try:
                base64.b64decode("".join(value.split()), validate=True)
            except binascii.Error:
                raise ValueError(
                    f"the key {key} is not base64; write plain text under stringData"
                ) from None
        return data

    def value(self, key: str) -> str | None:
        """The text under that key, None when there is none.

        Raises:
            UnicodeDecodeError: what is there is not text.
        """
        if key in self.string_data:
            return self.string_data[key]
        if key in self.data:
            return base64.b64decode(self.data[key]).decode()
        return None


class _Referent(Model):
    metadata: Metadata
    spec: Anything | None = None
    status: Anything | None = None

    @property
    def url(self) -> str | None:
        """Where it says that it can be reached: our annotation, or its status."""
        if found := self.metadata.annotations.get(URL_ANNOTATION):
            return found
        status: Mapping[str, Any] = self.status or {}
        for address in status.get("addresses") or ():
            if isinstance(address, dict) and address.get("type") == "Internal":
                return str(address["value"]) if address.get("value") else None
        return str(status["url"]) if status.get("url") else None


class Service(_Referent):
    """A core v1 Service, as the target of a sink's ref."""

    api_version: Literal["v1"] = "v1"
    kind: Literal["Service"] = "Service"


class KnativeService(_Referent):
    """A Knative Service, as the target of a sink's ref."""

    api_version: Literal["serving.knative.dev/v1"] = "serving.knative.dev/v1"
    kind: Literal["Service"] = "Service"


class Function(_Referent):
    """An OpenFunction Function, as the target of a sink's ref."""

    api_version: Literal["core.openfunction.io/v1beta1", "core.openfunction.io/v1beta2"] = (
        "core.openfunction.io/v1beta2"
    )
    kind: Literal["Function"] = "Function"


Resource: TypeAlias = EventBus | ClusterEventBus | EventSource | Trigger
Referent: TypeAlias = Service | KnativeService | Function
Document: TypeAlias = Resource | Secret | Referent

RESOURCES: Final[Mapping[str, type[Resource]]] = {
    "EventBus": EventBus,
    "ClusterEventBus": ClusterEventBus,
    "EventSource": EventSource,
    "Trigger": Trigger,
}
"""Our own kinds, group events.openfunction.io/v1alpha1."""

_MODELS: Final[Mapping[tuple[str, str], type[Document]]] = {
    **{(API_VERSION, kind): model for kind, model in RESOURCES.items()},
    ("v1", "Secret"): Secret,
    ("v1", "Service"): Service,
    ("serving.knative.dev/v1", "Service"): KnativeService,
    ("core.openfunction.io/v1beta1", "Function"): Function,
    ("core.openfunction.io/v1beta2", "Function"): Function,
}


def find(api_version: str, kind: str) -> type[Document] | None:
    """The model of a document, None for one that is not ours to read."""
    return _MODELS.get((api_version, kind))
