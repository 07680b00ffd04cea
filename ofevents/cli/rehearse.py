"""Builds every worker without starting it, for `ofevents validate`.

Adapters and the trigger's compiler check what only they know (two fields that
contradict each other, a condition whose inputs never meet) when they are built,
and building connects to nothing. What they refuse is shown as any other problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from ofevents import registry
from ofevents.api.eventsource import CUSTOM, SPECS
from ofevents.api.resolved import ResolvedSource, ResolvedTrigger
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
        if isinstance(worker, ResolvedTrigger) and worker.implicit:
            continue  # It has no expression of its own.
        document = by_name[worker.kind, worker.namespace, worker.name]
        if isinstance(worker, ResolvedTrigger):
            yield from _built(document, partial(_trigger, worker))
            continue
        try:
            registry.load("ofevents.sources", worker.source)
        except ConfigError as missing:
            kind = worker.source if worker.source in SPECS else CUSTOM
            path: Path = ("spec", kind, worker.entry)
            yield _problem(document, path, missing.message, blocks=True)
            continue
        yield from _built(document, partial(_source, worker))


def _source(worker: ResolvedSource) -> None:
    from ofevents.source.worker import build

    identity = SourceIdentity(worker.namespace, worker.name, worker.source, worker.entry)
    build(worker, identity, SystemClock())


def _trigger(worker: ResolvedTrigger) -> None:
    from ofevents.trigger.evaluator import Evaluator

    Evaluator(worker)


def _built(document: Loaded, build: Callable[[], None]) -> Iterator[Problem]:
    try:
        build()
    except ConfigError as error:
        yield _problem(document, _path(document, error.path), error.message)


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
