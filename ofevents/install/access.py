"""Who the controller is and what it may do: its account, Roles and bindings.

Called by `objects`. The rights come from `ofevents.controller.rights` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from ofevents.controller import rights
from ofevents.controller.rights import Right
from ofevents.install.parts import Object, metadata
from ofevents.install.settings import NAME, Settings

_RBAC: Final = "rbac.authorization.k8s.io"
HOME: Final = f"{NAME}-home"
"""The Role in the controller's own namespace."""


def account(settings: Settings) -> Object:
    """The controller's ServiceAccount; its token is mounted where the Pod asks for it."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(settings, NAME, settings.namespace),
        "automountServiceAccountToken": False,
    }


def roles(settings: Settings) -> Iterator[Object]:
    """Roles and bindings: in the whole cluster, or in the chosen namespaces only."""
    everywhere = () if settings.namespaces else rights.IN_NAMESPACES
    yield _role(settings, "ClusterRole", NAME, "", (*rights.IN_THE_CLUSTER, *everywhere))
    yield _binding(settings, "ClusterRole", NAME, "")
    yield _role(settings, "Role", HOME, settings.namespace, rights.AT_HOME)
    yield _binding(settings, "Role", HOME, settings.namespace)
    for namespace in settings.namespaces:
        yield _role(settings, "Role", NAME, namespace, rights.IN_NAMESPACES)
        yield _binding(settings, "Role", NAME, namespace)


def _role(
    settings: Settings, kind: str, name: str, namespace: str, allowed: Iterable[Right]
) -> Object:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": kind,
        "metadata": metadata(settings, name, namespace),
        "rules": [_rule(each) for each in allowed],
    }


def _rule(right: Right) -> dict[str, Any]:
    rule = {
        "apiGroups": [right.group],
        "resources": list(right.resources),
        "verbs": list(right.verbs),
    }
    return {**rule, "resourceNames": list(right.names)} if right.names else rule


def _binding(settings: Settings, role: str, name: str, namespace: str) -> Object:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": f"{role}Binding",
        "metadata": metadata(settings, name, namespace),
        "roleRef": {"apiGroup": _RBAC, "kind": role, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": settings.namespace}],
    }
