"""How an EventSource or a Trigger is: its plan, what was done of it, and its workers.

Called by the reconciler; `busstatus` is the same for buses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ofevents.api.resolved import HttpTarget, ResolvedSource
from ofevents.cluster import kinds
from ofevents.cluster.cache import Object
from ofevents.cluster.caches import Caches
from ofevents.controller import pods as podstate
from ofevents.controller.plan import Plan
from ofevents.controller.render import child_name
from ofevents.controller.status import Facts, blocked, sentences
from ofevents.controller.workers import Workers


async def worker_facts(
    object: Object,
    planned: Plan,
    trouble: Sequence[tuple[str, str]],
    warnings: Sequence[tuple[str, str]],
    caches: Caches,
) -> tuple[Facts, bool]:
    """What its status is made of, and whether a Pod had to be asked: it tells no change by
    itself, as everything else does.

    Args:
        trouble: what has gone wrong on the way, (reason, sentence).
        warnings: what rendering has to say.
    """
    told = list(warnings)
    if plain := [one for one in planned.warnings if not one.blocks]:
        told.append(("Questionable", sentences(plain)))
    if planned.errors:
        reason = "NotAllowed" if planned.denied else "Invalid"
        trouble = [(reason, sentences(planned.errors)), *trouble]
    trouble = [*trouble, *blocked(planned.blocked)]
    workers, states, asked = Workers(caches), [], False
    for workload in planned.workloads:
        place = object["metadata"]["namespace"], child_name(workload.spec)
        deployment = caches[kinds.DEPLOYMENT].get(*place)
        pods = workers.pods(deployment) if deployment is not None else []
        silent = [pod for pod in pods if not podstate.ready(pod) and podstate.address(pod)]
        reports = await podstate.ask(silent)
        asked = asked or bool(silent)
        states.append(podstate.judge(_title(workload.spec), deployment, pods, reports))
        told += _refused(caches[kinds.HTTP_ROUTE].get(*place))
        told += _blind(caches[kinds.SCALED_OBJECT].get(*place))
    suspended = bool((object.get("spec") or {}).get("suspend"))
    facts = Facts(
        trouble,
        told,
        states,
        idle=("True", "NothingToRun", "it has no source"),
        sink=_sink(planned),
        suspended=suspended,
    )
    return facts, asked


def _refused(route: Object | None) -> list[tuple[str, str]]:
    """Why a Gateway does not serve a webhook's HTTPRoute."""
    found = []
    for parent in ((route or {}).get("status") or {}).get("parents") or ():
        for each in parent.get("conditions") or ():
            if each["type"] in ("Accepted", "ResolvedRefs") and each["status"] == "False":
                name = parent["parentRef"]["name"]
                sentence = f"Gateway {name} does not serve the HTTPRoute: {each.get('message', '')}"
                found.append(("RouteRefused", sentence))
    return found


def _blind(scaled: Object | None) -> list[tuple[str, str]]:
    """Why KEDA does not scale a worker, or cannot see what it scales by.

    What passes by itself is left out: only refused ScaledObjects, and errors that have lasted.
    """
    status = (scaled or {}).get("status") or {}
    found = {each["type"]: each for each in status.get("conditions") or ()}
    ready = found.get("Ready") or {}
    if ready.get("status") == "False" and ready.get("reason") == "ScaledObjectCheckFailed":
        return [("NotScaled", f"KEDA does not scale it: {ready.get('message', '')}")]
    if (found.get("Fallback") or {}).get("status") == "True":
        name = (scaled or {})["metadata"]["name"]
        text = "KEDA cannot see the lag, and runs one worker at least; why is told by "
        return [("LagUnknown", f"{text}`kubectl describe scaledobject {name}`")]
    return []


def _title(spec: Any) -> str:
    return f"{spec.source}/{spec.entry}" if isinstance(spec, ResolvedSource) else "trigger"


def _sink(planned: Plan) -> str | None:
    """Where an EventSource's events are delivered, without a login that the address may have."""
    for workload in planned.workloads:
        spec = workload.spec
        if isinstance(spec, ResolvedSource):
            target = spec.target
        else:
            target = spec.subscribers[0].target if spec.implicit else None
        if isinstance(target, HttpTarget):
            scheme, _, rest = target.uri.partition("://")
            return f"{scheme}://{rest.rpartition('@')[2]}"
    return None
