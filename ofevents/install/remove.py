"""Uninstalling: what an installation made goes, and nothing else.

Called by `ofevents uninstall`. The CRDs go first, while a controller is there to take away
the finalizers of what goes with them; the namespace last, and only if it is ours and
nobody else uses it.
"""

from __future__ import annotations

from typing import Final

from ofevents.cluster.client import Api
from ofevents.cluster.kinds import CRD, DEPLOYMENT, LEASE, SECRET, WEBHOOK, Kind
from ofevents.controller.admission import NAME as ADMISSION
from ofevents.errors import ConfigError
from ofevents.install.apply import HELM, Report, Step, check_rights, delete, poll
from ofevents.install.kinds import NAMESPACE, kind_of, title
from ofevents.install.parts import Object
from ofevents.install.settings import LABEL, NAME
from ofevents.install.survey import absent, counted, installed, nothing_but_crds, resources

_LEFT: Final = ((SECRET, ADMISSION), (LEASE, NAME))
"""What the controller itself made in its namespace."""
_USED_BY: Final = (
    DEPLOYMENT,
    Kind("apps", "v1", "statefulsets", "StatefulSet"),
    Kind("apps", "v1", "daemonsets", "DaemonSet"),
    Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
)
"""What makes a namespace somebody else's too."""


async def find(api: Api, namespace: str, *, crds: bool) -> list[Object]:
    """What an uninstallation would look at.

    Raises:
        ConfigError: nothing is installed there, Helm has done it, or a right is missing.
    """
    found = await installed(api, namespace)
    if nothing_but_crds(found) and not (crds and found):
        raise await absent(api, namespace, left=found, counts=await resources(api))
    needed = {(kind_of(each), each["metadata"].get("namespace", ""), "delete") for each in found}
    await check_rights(api, needed, "have them uninstall it")
    for each in found:
        annotations = each["metadata"].get("annotations", {})
        if HELM in annotations and kind_of(each) != CRD:
            raise ConfigError(
                f"{title(each)} belongs to the Helm release {annotations[HELM]}: "
                f"helm uninstall {annotations[HELM]}"
            )
    return found


async def uninstall(
    api: Api, found: list[Object], report: Report, *, crds: bool, seconds: float
) -> None:
    """Delete what was found; the CRDs, and every resource with them, only with `crds`.

    Raises:
        ConfigError: resources were not gone within `seconds`; everything else is left then.
    """
    for each in found:
        if kind_of(each) == WEBHOOK:  # first: from now on nobody may answer it
            await _remove(api, each, report)
    definitions = [each for each in found if kind_of(each) == CRD]
    if crds:
        for each in definitions:
            await delete(api, each)
        await _gone(api, definitions, seconds)
        for each in definitions:
            report(Step("removed", each))
    for each in reversed(found):
        kind = kind_of(each)
        used = kind == NAMESPACE and await _used(api, each["metadata"]["name"])
        if used or (kind == CRD and not crds):
            report(Step("left alone", each))
        elif kind not in (CRD, WEBHOOK):
            await _remove(api, each, report)
        if kind == DEPLOYMENT:
            await _clear(api, each["metadata"]["namespace"])


def rehearse(found: list[Object], report: Report, *, crds: bool) -> None:
    """Report what `uninstall` would do, but for what else is in the namespace."""
    for each in reversed(found):
        report(Step("left alone" if kind_of(each) == CRD and not crds else "removed", each))


async def _remove(api: Api, found: Object, report: Report) -> None:
    await delete(api, found)
    report(Step("removed", found))


async def _clear(api: Api, namespace: str) -> None:
    for kind, name in _LEFT:
        found = await api.get(kind, namespace, name)
        if found is not None:
            await api.delete(kind, namespace, name, found["metadata"]["uid"])


async def _gone(api: Api, definitions: list[Object], seconds: float) -> None:

    async def look() -> str:
        there = [
            each["metadata"]["name"]
            for each in definitions
            if await api.get(CRD, "", each["metadata"]["name"]) is not None
        ]
        if not there:
            return ""
        counts = await resources(api)
        return (
            f"{counted(counts) or ', '.join(there)} still there; the controller takes away "
            "their finalizers: look at its log, or take them away by hand"
        )

    await poll(look, seconds)


async def _used(api: Api, namespace: str) -> bool:
    """Whether somebody has put something of their own into the namespace."""
    if await resources(api, namespace):
        return True
    for kind in _USED_BY:
        found, _ = await api.list_all(kind, namespace, {"labelSelector": f"!{LABEL}"})
        if found:
            return True
    return False
