"""How a worker is: from its Deployment, its Pods, and what a Pod says of itself.

A Pod is ready while its `/readyz` says so, and the kubelet tells the API; only of one that
is not ready is `/status` asked, for the reason. Pure but for `ask`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import aiohttp

from ofevents.cluster.cache import Object

State = Literal["ready", "starting", "stalled"]
_PORTS: Final = ("probes", "metrics", "http-probes", "admin")
_PORT: Final = 9090
_ANSWER: Final = 2.0
_STARTING: Final = ("ContainerCreating", "PodInitializing")


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One worker: `reason` is a CamelCase word, `message` a sentence."""

    name: str
    state: State
    reason: str
    message: str = ""


def ready(pod: Object) -> bool:
    """Its Ready condition."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def judge(
    name: str,
    deployment: Object | None,
    pods: Sequence[Object],
    reports: Mapping[str, Mapping[str, Any]],
) -> WorkerState:
    """The worker's state.

    Args:
        deployment: None while it is not there.
        reports: what `/status` said, by the Pods' names.
    """
    if deployment is None:
        return WorkerState(name, "starting", "Starting", "its Deployment is not there yet")
    wanted = deployment["spec"].get("replicas", 1)
    if wanted == 0:
        return WorkerState(name, "ready", "ScaledToZero", "no worker runs while there is no lag")
    status = deployment.get("status") or {}
    known = status.get("observedGeneration") == deployment["metadata"].get("generation")
    updated = status.get("updatedReplicas", 0)
    # While Pods of before are there, it is them who may be available.
    whole = known and wanted <= updated == status.get("replicas", 0)
    if whole and status.get("availableReplicas", 0) >= wanted:
        return WorkerState(name, "ready", "Running")
    for pod in pods:
        if not ready(pod) and (found := _trouble(pod, reports.get(pod["metadata"]["name"]))):
            return WorkerState(name, "stalled", *found)
    for condition in status.get("conditions") or ():
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return WorkerState(name, "stalled", condition["reason"], condition.get("message", ""))
    if status.get("availableReplicas", 0) and known:
        return WorkerState(name, "ready", "Updating" if not whole else "Scaling",
                           "some of its Pods are not ready yet")  # fmt: skip
    return WorkerState(name, "starting", "Starting", "its Pod is not ready yet")


def _trouble(pod: Object, report: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """Why that Pod is not ready, where it is more than that it starts."""
    status = pod.get("status") or {}
    for each in status.get("containerStatuses") or ():
        waiting = (each.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in _STARTING:
            text = waiting.get("message", "")
            if waiting["reason"] == "CrashLoopBackOff":  # its own message is about the waiting
                text = _last_words(each) or text
            return str(waiting["reason"]), str(text)
    for each in status.get("conditions") or ():
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return str(each.get("reason") or "Unschedulable"), str(each.get("message", ""))
    for worker in (report or {}).get("workers") or ():
        if worker.get("state") == "stalled":
            return str(worker["reason"]), str(worker["message"])
    return None


def _last_words(container: Mapping[str, Any]) -> str:
    """How it ended: the last line that it wrote, where it has written one."""
    ended = (container.get("lastState") or {}).get("terminated") or {}
    if not ended:
        return ""
    why = f"exit code {ended.get('exitCode')}"
    if ended.get("reason") not in (None, "Error"):
        why = f"{ended['reason']}, {why}"
    said = str(ended.get("message") or "").strip().splitlines()
    return f"it ended ({why})" + (f": {said[-1]}" if said else "")


def address(pod: Object) -> str:
    """Where it can be asked, "" while it has no address."""
    return str((pod.get("status") or {}).get("podIP") or "")


async def ask(pods: Iterable[Object]) -> dict[str, Mapping[str, Any]]:
    """What `/status` of each of these Pods says; one that does not answer is left out."""
    asked = [pod for pod in pods if address(pod)]
    if not asked:
        return {}
    timeout = aiohttp.ClientTimeout(total=_ANSWER)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        found = await asyncio.gather(*(_ask(session, pod) for pod in asked))
    return {pod["metadata"]["name"]: one for pod, one in zip(asked, found, strict=True) if one}


async def _ask(session: aiohttp.ClientSession, pod: Object) -> Mapping[str, Any]:
    host = f"[{address(pod)}]" if ":" in address(pod) else address(pod)
    try:
        async with session.get(f"http://{host}:{_port(pod)}/status") as answer:
            found = await answer.json()
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _port(pod: Object) -> int:
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if port.get("name") in _PORTS:
                return int(port["containerPort"])
    return _PORT
