"""From `DaprSpec` to what is read, where the sidecar is, and where it calls us.

Called by `dapr` when the source is built, so that a contradiction in the spec, or a
setting that loses events, is found before anything connects, by `ofevents validate` too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ofevents.api import dapr
from ofevents.api.platform import DaprComponent, DaprSpec
from ofevents.errors import ConfigError
from ofevents.ports import SourceFeatures, SourceIdentity

PORT: Final = 50001
"""Where a sidecar's gRPC API is unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a source of this spec does.

    Attributes:
        component: its name in the sidecar.
        written: whether the spec has the component itself.
        topic: None for an input binding.
        metadata: of the subscription.
        kind: what reading it promises.
        sidecar: `host:port` of its gRPC API.
        app_host, app_port: where we listen for its calls; port None for a stream.
        path: of the entry in the document, for errors.
    """

    component: str
    written: bool
    topic: str | None
    metadata: Mapping[str, str]
    kind: dapr.Kind
    sidecar: str
    app_host: str
    app_port: int | None
    path: str

    @property
    def shown(self) -> str:
        """For people: what is read, and through which sidecar."""
        what = f"topic {self.topic} of {self.component}" if self.topic else self.component
        return f"{what} at daprd {self.sidecar}"

    @property
    def features(self) -> SourceFeatures:
        """Where an event stands in its origin comes with a call, not over a stream."""
        return SourceFeatures(
            guarantee=self.kind.guarantee,
            stable_ids=self.kind.positions and self.app_port is not None,
            ordered=self.kind.ordered,
            scales=self.kind.scales,
        )


def settings(spec: DaprSpec, identity: SourceIdentity) -> Settings:
    """Read the spec.

    Raises:
        ConfigError: a field is wrong, two contradict each other, or a setting loses events.
    """
    path = f"spec.dapr.{identity.entry}"
    if (spec.component is None) == (spec.component_name is None):
        raise ConfigError("expected either component or componentName", path=path)
    type = None if spec.component is None else spec.component.type
    kind = dapr.kind_of(type, topic=spec.topic is not None)
    if spec.component is not None:
        _check(spec, spec.component, kind, path)
    app_port = spec.app_port or _port_of("APP_PORT")
    derived = dapr.name_of(identity.namespace, identity.name, identity.entry)
    return Settings(
        component=spec.component_name or derived,
        written=spec.component is not None,
        topic=spec.topic,
        metadata=_metadata(spec, path),
        kind=kind,
        sidecar=address(spec.sidecar),
        app_host="0.0.0.0" if os.environ.get("DAPR_HOST") else "127.0.0.1",
        app_port=app_port,
        path=path,
    )


def address(given: str | None) -> str:
    """Of the sidecar's gRPC API: as given, or as Dapr tells its apps.

    DAPR_HOST is where a sidecar is that is not beside its app (`dapr-service-mode:
    standalone`).
    """
    if given:
        return given
    if endpoint := os.environ.get("DAPR_GRPC_ENDPOINT", ""):
        return endpoint.rpartition("://")[2]
    host = os.environ.get("DAPR_HOST") or "127.0.0.1"
    return f"{host}:{_port_of('DAPR_GRPC_PORT') or PORT}"


def _port_of(variable: str) -> int | None:
    value = os.environ.get(variable, "")
    return int(value) if value.isdecimal() and 0 < int(value) < 65536 else None


def _check(spec: DaprSpec, component: DaprComponent, kind: dapr.Kind, path: str) -> None:
    if not dapr.is_pubsub(component.type) and not dapr.is_binding(component.type):
        raise ConfigError(
            f"{component.type} is nothing to read from; expected pubsub.<name> or bindings.<name>",
            path=f"{path}.component.type",
        )
    if dapr.is_pubsub(component.type) and spec.topic is None:
        raise ConfigError(f"{component.type} needs a topic", path=path)
    if dapr.is_binding(component.type) and spec.topic is not None:
        raise ConfigError(
            f"{component.type} is an input binding, which has no topic here; where it reads is "
            "in the component's metadata",
            path=f"{path}.topic",
        )
    for index, sentence in dapr.mistakes(component, kind):
        raise ConfigError(sentence, path=f"{path}.component.metadata.{index}.value")


def _metadata(spec: DaprSpec, path: str) -> dict[str, str]:
    """What the user gives, and rawPayload: the events as they are at the broker."""
    given = {name: dapr.text(value) for name, value in (spec.metadata or {}).items()}
    if given and spec.topic is None:
        raise ConfigError(
            "metadata is of a subscription, and an input binding has none; its settings are the "
            "component's",
            path=f"{path}.metadata",
        )
    if given.pop("rawPayload", "true").lower() != "true":
        raise ConfigError(
            "rawPayload is always true: otherwise Dapr writes the events anew, and loses numbers' "
            "precision and data without a datacontenttype",
            path=f"{path}.metadata.rawPayload",
        )
    return {**given, "rawPayload": "true"}
