"""Who the controller is and what it may do: its account, Roles and bindings.

Called by `objects`. The rights come from `ofevents.controller.rights` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ofevents.controller.rights import RIGHTS, Right
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
    everywhere = () if settings.namespaces else allowed("watched")
    yield _role(settings, "ClusterRole", NAME, "", (*allowed("cluster"), *everywhere))
    yield _binding(settings, "ClusterRole", NAME, "")
    yield _role(settings, "Role", HOME, settings.namespace, allowed("own"))
    yield _binding(settings, "Role", HOME, settings.namespace)
    for namespace in settings.namespaces:
        yield _role(settings, "Role", NAME, namespace, allowed("watched"))
        yield _binding(settings, "Role", NAME, namespace)


def allowed(where: str) -> tuple[Right, ...]:
    """The rights of one of the places that `Right.where` names."""
    return tuple(right for right in RIGHTS if right.where == where)


def _role(
    settings: Settings, kind: str, name: str, namespace: str, granted: Iterable[Right]
) -> Object:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": kind,
        "metadata": metadata(settings, name, namespace),
        "rules": [right.rule() for right in granted],
    }


def _binding(settings: Settings, role: str, name: str, namespace: str) -> Object:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": f"{role}Binding",
        "metadata": metadata(settings, name, namespace),
        "roleRef": {"apiGroup": _RBAC, "kind": role, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": settings.namespace}],
    }
