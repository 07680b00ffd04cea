"""What a resource means now: its workers, what they need on the bus, and what is wrong.

Pure but for the look-up. The same `resolve` as on a laptop makes the specs; here is added
what only the cluster reads of a resource: pod templates and scaling.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ofevents.api.eventsource import CUSTOM, EventSource
from ofevents.api.resolved import ResolvedSource, ResolvedTrigger
from ofevents.api.secretref import marker, markers, replace
from ofevents.api.trigger import Trigger
from ofevents.cluster.cache import Object
from ofevents.cluster.lookup import ClusterLookUp, UsedSecret
from ofevents.controller.render import SecretUse, Workload
from ofevents.resolve import Blocked, BusPlan, Documents, Loaded, Problem, interpret, resolve
from ofevents.resolve.together import check_together


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for one resource.

    Attributes:
        workloads: what shall run.
        blocked: what cannot run as things are; what of it runs already is left alone.
        errors: of the resource; with any, nothing of it is changed.
        warnings: that a person should know.
        buses: what to ensure on which bus, with markers for the Secrets.
        secrets: marker -> value, of `buses`.
        denied: the resource may not read what it reads: nothing of it may run.
    """

    workloads: tuple[Workload, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    buses: tuple[BusPlan, ...] = ()
    secrets: Mapping[str, UsedSecret] | None = None
    denied: bool = False


def plan(object: Object, look_up: ClusterLookUp, readers: Iterable[Object] = ()) -> Plan:
    """The plan of an EventSource, Trigger or bus; never raises for what is in it.

    Args:
        readers: Triggers of other namespaces that read this EventSource.
    """
    loaded, problems = interpret(object)
    if loaded is None:
        return Plan(errors=tuple(problems))
    resolution = resolve(Documents((loaded,), tuple(problems)), look_up)
    warnings = [*resolution.warnings, *_together(loaded, readers)]
    workloads = tuple(_workloads(loaded, resolution.workers, look_up.secrets))
    return Plan(
        workloads=() if resolution.errors else workloads,
        blocked=resolution.blocked,
        errors=resolution.errors,
        warnings=tuple(warnings),
        buses=resolution.buses,
        secrets=look_up.secrets,
        denied=_denied(loaded, look_up),
    )


def _together(loaded: Loaded, readers: Iterable[Object]) -> list[Problem]:
    """What is only wrong together with others, said of this resource."""
    others = [other for other, _ in map(interpret, readers) if other is not None]
    if not others:
        return []
    found = check_together(Documents((loaded, *others), ()))
    return [each for each in found if each.resource == loaded.resource]


def _denied(loaded: Loaded, look_up: ClusterLookUp) -> bool:
    """Whether an EventSource of another namespace does not let this Trigger read it."""
    if not isinstance(loaded.model, Trigger):
        return False
    for given in loaded.model.spec.inputs.values():
        if given.event_source is None or given.namespace in (None, loaded.namespace):
            continue
        assert given.namespace is not None
        allowed = look_up.allowed(given.namespace, given.event_source)
        if allowed is not None and loaded.namespace not in allowed:
            return True
    return False


def _workloads(
    loaded: Loaded,
    workers: Iterable[ResolvedSource | ResolvedTrigger],
    secrets: Mapping[str, UsedSecret],
) -> Iterator[Workload]:
    model = loaded.model
    assert isinstance(model, (EventSource, Trigger)) or not list(workers)
    entries: dict[tuple[str, str], Any] = {}
    if isinstance(model, EventSource):
        entries = {(kind, name): entry for kind, name, entry in model.spec.entries()}
    for worker in workers:
        expose = None
        if isinstance(worker, ResolvedSource):
            kind = worker.source if (worker.source, worker.entry) in entries else CUSTOM
            entry = entries[kind, worker.entry]
            scale, expose = entry.scale_option, getattr(entry, "expose", None)
        else:
            scale = model.spec.scale_option if isinstance(model, Trigger) else None
        assert isinstance(model, (EventSource, Trigger))
        yield Workload(worker, model.spec.template, scale, _used(worker, secrets), expose)


def _used(
    worker: ResolvedSource | ResolvedTrigger, secrets: Mapping[str, UsedSecret]
) -> dict[str, SecretUse]:
    """The Secrets whose markers are in the worker's spec."""
    found = markers(worker.model_dump())
    return {
        mark: SecretUse(used.name, used.key, hashlib.sha256(used.value.encode()).hexdigest())
        for mark, used in secrets.items()
        if (used.name, used.key) in found
    }


def fill(value: Any, secrets: Mapping[str, UsedSecret]) -> Any:
    """A JSON value with each marker replaced by what it stands for; for our own use only."""

    def read(name: str, key: str) -> str:
        mark = marker(name, key)
        return secrets[mark].value if mark in secrets else mark

    return replace(value, read)
