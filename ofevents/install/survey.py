"""What of an installation is in the cluster, and how it is. Reads only.

Called by `apply` and `remove` to know what is there, and by `ofevents status`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from ofevents.cluster.client import Api, Refused
from ofevents.cluster.kinds import CRD, DEPLOYMENT, LEASE, OWN, POD, WEBHOOK, Kind
from ofevents.errors import ConfigError, Disconnected
from ofevents.install.kinds import KINDS, NAMESPACE, OPTIONAL, kind_of, title
from ofevents.install.objects import objects
from ofevents.install.parts import Object
from ofevents.install.settings import LABEL, NAME, SELECTOR, Admission, Settings

T = TypeVar("T")
_ATTEMPTS: Final = 20
_AGAIN: Final = 0.25


@dataclass(frozen=True, slots=True)
class Row:
    """An object of the installation; `ok` is None for one without a state of its own."""

    kind: str
    namespace: str
    name: str
    ok: bool | None
    state: str


@dataclass(frozen=True, slots=True)
class Survey:
    """An installation as `ofevents status` shows it.

    Attributes:
        image: of the controller, "" without one.
        active: the controller that holds the lease, "" when nobody does.
    """

    namespace: str
    rows: tuple[Row, ...]
    image: str
    active: str

    @property
    def ok(self) -> bool:
        """Everything is there, and the controller is up."""
        return bool(self.rows) and all(row.ok is not False for row in self.rows)


async def installed(api: Api, namespace: str) -> list[Object]:
    """Every object that says it is of that installation, in the order of `KINDS`."""
    query = {"labelSelector": f"{LABEL}={namespace}"}
    found = await together(_listed(api, kind, query) for kind in KINDS)
    return [each for some in found for each in some]


async def together(asked: Iterable[Awaitable[T]]) -> list[T]:
    """Ask side by side; an error is raised once every answer is there, so that none is pending."""
    answers = await asyncio.gather(*asked, return_exceptions=True)
    found: list[T] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        found.append(answer)
    return found


async def _listed(api: Api, kind: Kind, query: dict[str, str]) -> list[Object]:
    if kind in OPTIONAL and await api.get(CRD, "", kind.crd) is None:
        return []
    listed, _ = await api.list_all(kind, None, query)
    return list(listed)


async def elsewhere(api: Api) -> list[str]:
    """The namespaces that other controllers of ofevents are in."""
    found, _ = await api.list_all(DEPLOYMENT, None, {"labelSelector": LABEL})
    return sorted({each["metadata"]["labels"][LABEL] for each in found})


async def resources(api: Api, namespace: str | None = None) -> dict[str, int]:
    """How many of our resources there are by kind; kinds without any are left out."""
    counts = {}
    for kind in OWN:
        if namespace is not None and not kind.namespaced:
            continue
        if number := await _count(api, kind, namespace):
            counts[kind.kind] = number
    return counts


async def _count(api: Api, kind: Kind, namespace: str | None) -> int:
    """How many; while a CRD is coming or going the server asks to be asked again."""
    for attempt in range(_ATTEMPTS):
        try:
            if await api.get(CRD, "", kind.crd) is None:
                return 0
            found, _ = await api.list_all(kind, namespace, {})
            return len(found)
        except Refused as error:
            if error.status != 404:  # gone since the question before
                raise
        except Disconnected as error:
            if not error.delay or attempt == _ATTEMPTS - 1:
                raise
        await asyncio.sleep(_AGAIN)
    return 0


def counted(counts: dict[str, int]) -> str:
    """`3 EventSources and 1 Trigger`."""
    plural = {"EventBus": "EventBuses", "ClusterEventBus": "ClusterEventBuses"}
    parts = [
        f"{number} {kind if number == 1 else plural.get(kind, kind + 's')}"
        for kind, number in counts.items()
    ]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


async def survey(api: Api, namespace: str) -> Survey:
    """What is there, and what should be and is not.

    Raises:
        ConfigError: nothing is installed there.
    """
    found = await installed(api, namespace)
    counts = await resources(api)
    if nothing_but_crds(found):
        raise await absent(api, namespace, left=found, counts=counts)
    rows = [await _why(api, _row(each, counts)) for each in found]
    [*deployments] = [each for each in found if each["kind"] == DEPLOYMENT.kind]
    rows += _missing(namespace, found, deployments)
    leases: list[Object] = []
    if await api.get(NAMESPACE, "", namespace) is not None:
        leases, _ = await api.list_all(LEASE, namespace, {})
    active = next((text for each in leases if (text := each["spec"].get("holderIdentity"))), "")
    return Survey(namespace, tuple(rows), _image(deployments), active)


def nothing_but_crds(found: list[Object]) -> bool:
    """Whether what there is was left by an uninstallation, or is on its way out."""
    return all(kind_of(each) == CRD or each["metadata"].get("deletionTimestamp") for each in found)


async def absent(
    api: Api, namespace: str, *, left: list[Object], counts: dict[str, int]
) -> ConfigError:
    """The sentence for a namespace without a controller."""
    others = await elsewhere(api)
    if others:
        hint = f"; it is in {', '.join(others)}: --namespace {others[0]}"
    elif left:
        stored = counted(counts) or "no resource"
        hint = f"; its CRDs are there, with {stored}: `ofevents uninstall --crds` removes them"
    else:
        hint = ""
    return ConfigError(f"ofevents is not installed in namespace {namespace}{hint}")


def _image(deployments: list[Object]) -> str:
    for each in deployments:
        return str(each["spec"]["template"]["spec"]["containers"][0]["image"])
    return ""


def _missing(namespace: str, found: list[Object], deployments: list[Object]) -> list[Row]:
    """What the same options would install, and is not there."""
    scope: tuple[str, ...] = ()
    for each in deployments:
        arguments = each["spec"]["template"]["spec"]["containers"][0].get("args", ())
        names = [one.partition("=")[2] for one in arguments if one.startswith("--namespace=")]
        scope = tuple(names)
    there = {title(each) for each in found}
    least = Settings(namespace=namespace, namespaces=scope, admission=Admission(enabled=False))
    # The namespace may be somebody else's.
    needed = [each for each in objects(least) if kind_of(each) != NAMESPACE]
    return [
        Row(each["kind"], metadata.get("namespace", ""), metadata["name"], False, "missing")
        for each in needed
        if title(each) not in there
        for metadata in [each["metadata"]]
    ]


def _row(found: Object, counts: dict[str, int]) -> Row:
    ok, state = _state(found, counts)
    metadata = found["metadata"]
    if metadata.get("deletionTimestamp"):
        ok, state = False, "being removed"
    return Row(found["kind"], metadata.get("namespace", ""), metadata["name"], ok, state)


async def _why(api: Api, row: Row) -> Row:
    """With what the controller's Pods say, where they are not up."""
    if row.kind != DEPLOYMENT.kind or row.ok is not False:
        return row
    return replace(row, state=f"{row.state}: {await troubles(api, row.namespace)}")


def _state(found: Object, counts: dict[str, int]) -> tuple[bool | None, str]:
    kind = kind_of(found)
    if kind == DEPLOYMENT:
        ready, wanted = rollout(found)
        return ready >= wanted, f"{ready} of {wanted} replicas are available"
    if kind == CRD:
        if not established(found):
            return False, "not established"
        number = counts.get(found["spec"]["names"]["kind"], 0)
        return True, f"established, {number} stored"
    if kind == WEBHOOK:
        ready_hooks = [hook["clientConfig"].get("caBundle") for hook in found.get("webhooks", ())]
        if not all(ready_hooks):
            return None, "waits for the controller's certificate"
        return True, f"failurePolicy {found['webhooks'][0]['failurePolicy']}"
    return None, "there"


def established(crd: Object) -> bool:
    """Whether the API server serves the kind."""
    conditions = crd.get("status", {}).get("conditions", ())
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def rollout(deployment: Object) -> tuple[int, int]:
    """Replicas that are up with what was applied last, and those that are wanted."""
    wanted = int(deployment["spec"]["replicas"])
    status = deployment.get("status", {})
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return 0, wanted
    updated = status.get("updatedReplicas", 0)
    old = status.get("replicas", 0) - updated  # which may be all that are available
    return min(updated, max(0, status.get("availableReplicas", 0) - old)), wanted


async def troubles(api: Api, namespace: str) -> str:
    """Why the controller's Pods do not start, as far as they say it."""
    selector = ",".join(f"{name}={value}" for name, value in SELECTOR.items())
    pods, _ = await api.list_all(POD, namespace, {"labelSelector": selector})
    if not pods:
        return f"there is no Pod of {NAME} yet"
    said = []
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses", ()):
            waiting = status.get("state", {}).get("waiting")
            if waiting:
                detail = f": {waiting['message']}" if waiting.get("message") else ""
                said.append(f"{pod['metadata']['name']}: {waiting.get('reason')}{detail}")
    return "; ".join(said) or f"{len(pods)} Pods are there and not ready"
