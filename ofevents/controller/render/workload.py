"""What rendering takes and returns; made by `controller.plan`, read by all of `render`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ofevents.api.eventsource import PodTemplate
from ofevents.api.meta import ScaleOption
from ofevents.api.resolved import ResolvedSource, ResolvedTrigger
from ofevents.api.webhook import Expose

Manifest = dict[str, Any]
Spec = ResolvedSource | ResolvedTrigger
PORT: Final = 9090
"""Where a worker serves probes, metrics and its status."""


@dataclass(frozen=True)
class SecretUse:
    """A key of a Secret that a worker reads; `digest` is a hash of its value now."""

    name: str
    key: str
    digest: str


@dataclass(frozen=True)
class Workload:
    """One worker: what becomes one Deployment.

    Attributes:
        template: what the resource adds to the Pods.
        scale: how many Pods run, by lag.
        secrets: marker -> the Secret's key that it stands for.
        expose: the ways to a webhook from outside the cluster.
    """

    spec: Spec
    template: PodTemplate | None = None
    scale: ScaleOption | None = None
    secrets: Mapping[str, SecretUse] = field(default_factory=dict)
    expose: Expose | None = None


@dataclass(frozen=True)
class Owner:
    """The resource that its children belong to, and go away with."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    generation: int


@dataclass(frozen=True)
class Platform:
    """What the cluster has, and what the operator was told.

    Attributes:
        image: of the workers.
        keda, dapr, gateway: whether their CRDs are there.
    """

    image: str
    pull_policy: str = "IfNotPresent"
    keda: bool = False
    dapr: bool = False
    gateway: bool = False


@dataclass(frozen=True)
class Rendered:
    """The manifests, in the order in which they are applied, and what a person should know:
    (reason, sentence)."""

    manifests: tuple[Manifest, ...]
    warnings: tuple[tuple[str, str], ...] = ()
