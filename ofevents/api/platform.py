"""The specs of sources around the machine: `kubernetes`, `file`, `dapr`.

Each is what its adapter is given; the entry in an EventSource has the fields of
every source beside it (`eventsource.py`). `DaprComponent` is also the bus's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from ofevents.api.meta import Anything, Model, SecretKeyRef
from ofevents.api.scalars import Duration

AnyValue = Annotated[Any, WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True})]


class KubernetesSpec(Model):
    """Watches objects of one kind in the Kubernetes API."""

    api_version: str = Field(description="apiVersion of the watched kind, such as apps/v1.")
    kind: str = Field(description="The watched kind, such as Deployment.")
    namespace: str | None = Field(
        default=None, description="Namespace to watch; `*` for all. Default: the EventSource's own."
    )
    label_selector: str = Field(default="", description="Label selector, such as app=shop.")
    field_selector: str = Field(
        default="", description="Field selector, such as metadata.name=shop."
    )
    event_types: list[Literal["ADDED", "MODIFIED", "DELETED"]] = Field(
        default=["ADDED", "MODIFIED", "DELETED"], min_length=1, description="Which changes count."
    )


class FileSpec(Model):
    """Follows files: appended lines, or whole new files."""

    path: str = Field(description="Path or glob pattern, such as /var/log/shop/*.log.")
    mode: Literal["lines", "files"] = Field(
        default="lines",
        description="An event for each appended line, or for each new file. A new file is whole "
        "when it was not changed for a pollingInterval.",
    )
    start: Literal["beginning", "end"] = Field(
        default="beginning",
        description="Where to begin in files that are there when the source is first started.",
    )
    format: Literal["json", "text", "binary"] = Field(
        default="text",
        description="What a line or file is; one that is not goes to the dead letters.",
    )
    polling_interval: Duration = Field(
        default=1.0,
        description="How often to look where the system tells no changes. At least 50ms.",
    )


class DaprMetadata(Model):
    """One setting of a Dapr component."""

    name: str = Field(description="Name of the setting.")
    value: AnyValue = Field(default=None, description="Its value.")
    secret_key_ref: SecretKeyRef | None = Field(
        default=None, description="A Secret that holds the value."
    )


class DaprComponent(Model):
    """A Dapr component, verbatim."""

    type: str = Field(description="Type such as pubsub.kafka or bindings.kafka.")
    version: str = Field(default="v1", description="Version of the component.")
    metadata: list[DaprMetadata] = Field(default=[], description="Its settings.")


class DaprSpec(Model):
    """Any Dapr input binding, or a topic of any Dapr pub/sub component."""

    component: DaprComponent | None = Field(
        default=None, description="The component, written here."
    )
    component_name: str | None = Field(
        default=None,
        description="Name of a component that exists already, instead of one written here.",
    )
    topic: str | None = Field(
        default=None, description="Topic of a pub/sub component; leave it out for an input binding."
    )
    metadata: Anything | None = Field(default=None, description="Metadata of the subscription.")
    sidecar: str | None = Field(
        default=None,
        pattern=r"^[^\s/]+:[0-9]+$",
        description="Address host:port of the sidecar's gRPC API. Default: what Dapr tells its "
        "apps (DAPR_GRPC_ENDPOINT, DAPR_GRPC_PORT), else 127.0.0.1:50001; `ofevents run` starts "
        "a sidecar for a `component` written here.",
    )
    app_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port where the sidecar calls the worker (its app port; app protocol grpc). "
        "Default: APP_PORT, as Dapr sets it. Without one a topic is read over a stream; an input "
        "binding needs one.",
    )
