"""What can be chosen of an installation; the same names are in the Helm chart's values.

Read by everything in this package. Values only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ofevents import __version__
from ofevents.errors import ConfigError

NAME: Final = "ofevents-controller"
"""The name of every object of an installation that needs only one."""
NAMESPACE: Final = "ofevents-system"
IMAGE: Final = f"ofevents:{__version__}"
PORT: Final = 9090
"""Of the probes and the metrics."""
ADMISSION_PORT: Final = 9443
LABEL: Final = "events.openfunction.io/installation"
"""On every object of an installation; its value is the namespace of the controller."""
SELECTOR: Final = {
    "app.kubernetes.io/name": "ofevents",
    "app.kubernetes.io/component": "controller",
}
"""The labels that the controller's Pods are found by; they never change."""
RESOURCES: Final = {
    "requests": {"cpu": "100m", "memory": "128Mi"},
    "limits": {"memory": "512Mi"},
}
"""No CPU limit: a throttled controller would lose its lease."""
_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Admission:
    """The check of resources before they are stored.

    Attributes:
        failure_policy: `Ignore` stores them unchecked while no controller answers (its
            status then says what is wrong); `Fail` refuses every change meanwhile.
    """

    enabled: bool = True
    failure_policy: Literal["Ignore", "Fail"] = "Ignore"


@dataclass(frozen=True, slots=True)
class Monitoring:
    """What is added for Prometheus (its operator's CRDs must be there) and Grafana.

    Attributes:
        prometheus_rule: alerts.
        service_monitor: the controller and the workers are scraped.
        dashboard: a ConfigMap that Grafana's sidecar finds by its label.
    """

    prometheus_rule: bool = False
    service_monitor: bool = False
    dashboard: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """An installation.

    Attributes:
        namespace: where the controller and its lease are.
        image: of the controller and of every worker it starts.
        replicas: of the controller: one works, the others wait for its lease.
        namespaces: what it looks after; empty is all.
        resources: of one replica, as in a Pod.

    Raises:
        ConfigError: a namespace that cannot be one, no image, or no replica.
    """

    namespace: str = NAMESPACE
    image: str = IMAGE
    replicas: int = 2
    namespaces: tuple[str, ...] = ()
    resources: dict[str, Any] = field(default_factory=lambda: dict(RESOURCES))
    admission: Admission = Admission()
    monitoring: Monitoring = Monitoring()

    def __post_init__(self) -> None:
        for name in (self.namespace, *self.namespaces):
            if not _DNS_LABEL.fullmatch(name):
                raise ConfigError(
                    f"{name!r} cannot be a namespace: expected lower-case letters, digits and "
                    "dashes, 63 at most"
                )
        if not self.image or any(each.isspace() for each in self.image):
            raise ConfigError(f"{self.image!r} is no image: expected such as {IMAGE}")
        if self.replicas < 1:
            raise ConfigError(f"{self.replicas} replicas: expected at least 1")
