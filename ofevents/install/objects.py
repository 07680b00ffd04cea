"""Everything an installation is made of, in the order in which it is applied.

Called by `cluster` (install), `files` (kustomize base, Helm chart), and the tests that
compare them. Pure: the same settings give the same objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ofevents.api.schema import crds
from ofevents.install import access, admission, monitoring, workload
from ofevents.install.parts import Object, labels
from ofevents.install.settings import Settings

KEEP: Final = {"helm.sh/resource-policy": "keep"}
"""On the CRDs: with them every EventSource and Trigger would go, so Helm leaves them too."""


def objects(settings: Settings) -> list[Object]:
    """The objects of an installation: nothing comes before what it needs."""
    made = [
        workload.namespace(settings),
        *definitions(settings),
        access.account(settings),
        *access.roles(settings),
        workload.network_policy(settings),
        workload.service(settings),
        workload.disruption_budget(settings),
        workload.deployment(settings),
    ]
    if settings.admission.enabled:
        made += [admission.service(settings), admission.webhook(settings)]
    return [*made, *monitoring.objects(settings)]


def definitions(settings: Settings) -> Iterator[Object]:
    """The CRDs, with the labels that `uninstall --crds` finds them by."""
    for _, crd in crds():
        metadata = {**crd["metadata"], "labels": labels(settings), "annotations": dict(KEEP)}
        yield {**crd, "metadata": metadata}
