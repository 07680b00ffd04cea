"""Builds every worker without starting it, for `ofevents validate` and admission.

Adapters, sinks and the trigger's compiler check what only they know (two fields that
contradict each other, a condition whose inputs never meet) when they are built, and
building connects to nothing. What they refuse is shown as any other problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from ofevents import registry
from ofevents.api.eventsource import CUSTOM, SPECS
from ofevents.api.resolved import (
    ResolvedSource,
    ResolvedTrigger,
    ResolvedWorker,
    SinkTarget,
    Target,
)
from ofevents.api.trigger import Trigger
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.ports import SourceIdentity
from ofevents.resolve import Documents, Loaded, Problem, Resolution
from ofevents.resolve.problems import Path, locate, show_path


def rehearse(documents: Documents, resolution: Resolution) -> Resolution:
    """The resolution, its problems completed by those of building its workers."""
    problems = [*resolution.problems, *_problems(documents, resolution)]
    order = {file: number for number, file in enumerate(documents.files)}
    problems.sort(key=lambda each: (order.get(each.file, -1), each.line, each.column))
    return replace(resolution, problems=tuple(problems))


def _problems(documents: Documents, resolution: Resolution) -> Iterator[Problem]:
    by_name = {(each.kind, each.namespace, each.name): each for each in documents.loaded}
    for worker in resolution.workers:
        kind = "EventSource" if worker.kind == "Trigger" and worker.implicit else worker.kind
        document = by_name[kind, worker.namespace, worker.name]
        for parent, target in _targets(document, worker):
            if isinstance(target, SinkTarget):
                yield from _built(document, partial(_sink, target), parent)
        if isinstance(worker, ResolvedTrigger) and worker.implicit:
            continue  # It has no expression of its own.
        if isinstance(worker, ResolvedTrigger):
            yield from _built(document, partial(_trigger, worker))
            continue
        try:
            registry.load("ofevents.sources", worker.source)
        except ConfigError as missing:
            field = worker.source if worker.source in SPECS else CUSTOM
            path: Path = ("spec", field, worker.entry)
            yield _problem(document, path, missing.message, blocks=True)
            continue
        yield from _built(document, partial(_source, worker))


def _targets(document: Loaded, worker: ResolvedWorker) -> Iterator[tuple[Path, Target | None]]:
    """The targets of sinks and deadLetterSinks, each with the path that its field has."""
    if isinstance(worker, ResolvedSource):
        yield ("spec", "sink"), worker.target
        yield ("spec", "deadLetterSink"), worker.dead_letter
        return
    if worker.implicit:
        yield ("spec", "sink"), worker.subscribers[0].target
        yield ("spec", "deadLetterSink"), worker.subscribers[0].dead_letter
        return
    assert isinstance(document.model, Trigger)
    subscribers = iter(worker.subscribers)
    for index, given in enumerate(document.model.spec.subscribers):
        path: Path = ("spec", "subscribers", index)
        # One that has both is two: the sink first, then the topic.
        made = [next(subscribers) for each in (given.sink, given.topic) if each is not None]
        yield (*path, "sink"), made[0].target
        yield (*path, "deadLetterSink"), made[0].dead_letter


def _sink(target: SinkTarget) -> None:
    from ofevents.subscriber import build_sink

    build_sink(target, clock=SystemClock())


def _source(worker: ResolvedSource) -> None:
    from ofevents.source.worker import build

    identity = SourceIdentity(worker.namespace, worker.name, worker.source, worker.entry)
    build(worker, identity, SystemClock())


def _trigger(worker: ResolvedTrigger) -> None:
    from ofevents.trigger.evaluator import Evaluator

    Evaluator(worker)


def _built(document: Loaded, build: Callable[[], None], parent: Path = ()) -> Iterator[Problem]:
    """Its problem; with a `parent`, the error's path begins with that one's last name."""
    try:
        build()
    except ConfigError as error:
        path = error.path
        if parent:
            path = ".".join([show_path(parent), *path.split(".")[1:]])
        yield _problem(document, _path(document, path), error.message)


def _path(document: Loaded, text: str) -> Path:
    """The path of the document that is written so; the longest beginning of it that is there."""
    found: Path = ()
    for path in document.positions:
        for shown in (show_path(path), ".".join(map(str, path))):
            begins = text == shown or text.startswith((f"{shown}.", f"{shown}["))
            if begins and len(path) > len(found):
                found = path
    return found


def _problem(document: Loaded, path: Path, message: str, *, blocks: bool = False) -> Problem:
    place = locate(document.positions, path)
    return Problem(
        "warning" if blocks else "error",
        message,
        document.file,
        place.line,
        place.column,
        document.resource,
        show_path(path),
        blocks=blocks,
    )
