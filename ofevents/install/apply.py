"""Installing: look whether it can be done, apply the objects, wait until they are up.

Called by `ofevents install`. Done again it changes what is different, and removes what the
options no longer ask for. An object that somebody else made is not touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ofevents.cluster.client import Api, Refused
from ofevents.cluster.kinds import CRD, DEPLOYMENT, Kind
from ofevents.errors import ConfigError
from ofevents.install.kinds import NAMESPACE, OPTIONAL, REVIEW, kind_of, title
from ofevents.install.objects import objects
from ofevents.install.parts import Object
from ofevents.install.settings import LABEL, NAME, Settings
from ofevents.install.survey import elsewhere, established, installed, rollout, together, troubles

MANAGER: Final = "ofevents-install"
"""The field manager of an installation; the controller's fields have another."""
HELM: Final = "meta.helm.sh/release-name"
_POLL: Final = 0.25

Outcome = Literal["created", "changed", "unchanged", "left alone", "removed"]


@dataclass(frozen=True, slots=True)
class Step:
    """What was done with an object."""

    outcome: Outcome
    object: Object


Report = Callable[[Step], None]


async def poll(look: Callable[[], Awaitable[str]], seconds: float) -> None:
    """Look, at least once, until there is nothing left to wait for.

    Raises:
        ConfigError: the time has passed; it says what `look` said last.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while left := await look():
        if loop.time() >= end:
            raise ConfigError(f"not done within {seconds:g} s: {left}")
        await asyncio.sleep(_POLL)


async def install(api: Api, settings: Settings, report: Report, *, take_over: bool = False) -> None:
    """Apply everything; `take_over` also objects that were there before.

    Raises:
        ConfigError: it cannot be done; nothing was changed when that was known before.
    """
    made = objects(settings)
    await _may(api, made)
    there = await _look(api, settings, made, take_over)
    for each in made:
        before = there[title(each)]
        if kind_of(each) == NAMESPACE and before is not None and _owner(before) is None:
            report(Step("left alone", each))
            continue
        now = await _apply(api, each)
        report(Step(_outcome(before, now), each))
    wanted = {title(each) for each in made}
    for each in await installed(api, settings.namespace):
        if title(each) not in wanted and kind_of(each) not in (CRD, NAMESPACE):
            await delete(api, each)
            report(Step("removed", each))


async def _apply(api: Api, made: Object) -> Object:
    try:
        return await api.apply(made, kind=kind_of(made), manager=MANAGER, strict=True)
    except Refused as error:
        if error.status == 403 and "attempting to grant" in str(error):
            raise ConfigError(
                f"{title(made)}: you can only give rights that you have yourself: {error}"
            ) from error
        raise


def _outcome(before: Object | None, now: Object) -> Outcome:
    if before is None:
        return "created"
    same = before["metadata"]["resourceVersion"] == now["metadata"]["resourceVersion"]
    return "unchanged" if same else "changed"


async def delete(api: Api, found: Object) -> None:
    """Exactly that object."""
    metadata = found["metadata"]
    await api.delete(
        kind_of(found), metadata.get("namespace", ""), metadata["name"], metadata["uid"]
    )


def _owner(found: Object) -> str | None:
    """The installation that an object says it is of."""
    owner: str | None = found["metadata"].get("labels", {}).get(LABEL)
    return owner


# -- before anything is changed ---------------------------------------------------------------


async def _may(api: Api, made: Sequence[Object]) -> None:
    """Raises ConfigError with every right that is missing."""
    asked = {
        (kind_of(each), each["metadata"].get("namespace", ""), verb)
        for each in made
        for verb in ("get", "patch")
    }
    await check_rights(api, asked, "have them apply what `ofevents install --dry-run` prints")


async def check_rights(api: Api, needed: set[tuple[Kind, str, str]], otherwise: str) -> None:
    """Ask whether this login has rights: a kind, a namespace and a verb each.

    Raises:
        ConfigError: it names every one that is missing.
    """
    asked = sorted(needed, key=lambda one: (one[0].plural, one[1], one[2]))

    async def allowed(kind: Kind, namespace: str, verb: str) -> bool:
        attributes = {"group": kind.group, "resource": kind.plural, "verb": verb}
        if namespace:
            attributes["namespace"] = namespace
        review = {
            "apiVersion": REVIEW.api_version,
            "kind": REVIEW.kind,
            "metadata": {},
            "spec": {"resourceAttributes": attributes},
        }
        answer = await api.create(REVIEW, review)
        return bool(answer["status"]["allowed"])

    answers = await together(allowed(*each) for each in asked)
    verbs: dict[str, list[str]] = {}
    for (kind, namespace, verb), may in zip(asked, answers, strict=True):
        if not may:
            where = f"{kind.plural}{f' in {namespace}' if namespace else ''}"
            verbs.setdefault(where, []).append(verb)
    if verbs:
        refused = "; ".join(f"{' and '.join(some)} {where}" for where, some in verbs.items())
        raise ConfigError(f"you may not {refused}. Log in as somebody who may, or {otherwise}")


async def _look(
    api: Api, settings: Settings, made: Sequence[Object], take_over: bool
) -> dict[str, Object | None]:
    """What is there of it now.

    Raises:
        ConfigError: something stands in the way.
    """
    if others := [name for name in await elsewhere(api) if name != settings.namespace]:
        raise ConfigError(
            f"ofevents is already installed in namespace {others[0]}; a cluster has one "
            f"installation: --namespace {others[0]}, or uninstall it first"
        )
    for name in settings.namespaces:
        if name != settings.namespace and await api.get(NAMESPACE, "", name) is None:
            raise ConfigError(f"there is no namespace {name} to look after: create it first")
    for kind in {kind_of(each) for each in made} & set(OPTIONAL):
        if await api.get(CRD, "", kind.crd) is None:
            raise ConfigError(
                f"there is no {kind.kind} in this cluster ({kind.crd}): install the Prometheus "
                "operator first, or leave its options out"
            )
    there: dict[str, Object | None] = {}
    for each in made:
        metadata = each["metadata"]
        found = await api.get(kind_of(each), metadata.get("namespace", ""), metadata["name"])
        there[title(each)] = found
        if found is not None:
            _can_take(each, found, settings, take_over)
    return there


def _can_take(made: Object, found: Object, settings: Settings, take_over: bool) -> None:
    metadata = found["metadata"]
    if metadata.get("deletionTimestamp"):
        raise ConfigError(f"{title(made)} is being removed: try again when it is gone")
    if release := metadata.get("annotations", {}).get(HELM):
        raise ConfigError(
            f"{title(made)} belongs to the Helm release {release}: change it with helm upgrade"
        )
    owner = _owner(found)
    # CRDs stay when an installation goes, and are the next one's wherever that is.
    ours = owner is not None if kind_of(made) == CRD else owner == settings.namespace
    if not ours and kind_of(made) != NAMESPACE and not take_over:
        raise ConfigError(
            f"{title(made)} is there already and is not of this installation; "
            "--take-over makes it so, and overwrites what is different"
        )


# -- after it -----------------------------------------------------------------------------------


async def wait(api: Api, settings: Settings, seconds: float) -> None:
    """Until the kinds are served and every replica of the controller is available.

    Raises:
        ConfigError: not within `seconds`; it says what is not.
    """

    async def look() -> str:
        crds, _ = await api.list_all(CRD, None, {"labelSelector": f"{LABEL}={settings.namespace}"})
        for each in crds:
            if not established(each):
                return f"{title(each)} is not established"
        found = await api.get(DEPLOYMENT, settings.namespace, NAME)
        if found is None:
            raise ConfigError(f"somebody has deleted Deployment {settings.namespace}/{NAME}")
        ready, wanted = rollout(found)
        if ready >= wanted:
            return ""
        why = await troubles(api, settings.namespace)
        return f"{ready} of {wanted} replicas of the controller are available: {why}"

    await poll(look, seconds)
