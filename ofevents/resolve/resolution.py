"""Documents in, workers out: the whole of resolving, with every problem at once.

Pure but for the look-up that it is given. `ofevents run`, `validate` and the
controller call `resolve`; a worker calls `needs` for its own part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ofevents.api.eventbus import ClusterEventBus, EventBus
from ofevents.api.eventsource import EventSource
from ofevents.api.resolved import (
    ResolvedBus,
    ResolvedSource,
    ResolvedTrigger,
    Target,
    TopicTarget,
)
from ofevents.api.trigger import Trigger
from ofevents.bus import topics
from ofevents.ports import Consumer
from ofevents.resolve.buses import check_bus
from ofevents.resolve.documents import Documents, Loaded
from ofevents.resolve.lookup import FileLookUp, LookUp
from ofevents.resolve.problems import Problem
from ofevents.resolve.scope import Scope
from ofevents.resolve.sources import check_source, resolve_implicit, resolve_source
from ofevents.resolve.together import check_together
from ofevents.resolve.triggers import resolve_trigger

Worker = ResolvedSource | ResolvedTrigger


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be on a bus before a worker starts: the arguments of `Bus.ensure`."""

    topics: tuple[str, ...] = ()
    consumers: tuple[Consumer, ...] = ()


@dataclass(frozen=True, slots=True)
class BusPlan:
    """A bus that workers use, and what all of them together need there."""

    bus: ResolvedBus
    needs: Needs


@dataclass(frozen=True, slots=True)
class Blocked:
    """A worker that cannot run as things are, such as without a Secret that it names.

    `entry` is `kafka/orders` for an EventSource's, "" for a Trigger.
    """

    kind: str
    namespace: str
    name: str
    entry: str
    problems: tuple[Problem, ...]

    @property
    def reason(self) -> str:
        return "; ".join(problem.sentence for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the documents mean.

    Attributes:
        workers: each can be started as it is.
        blocked: workers that a dangling reference keeps from running.
        buses: the buses of `workers`, and what to ensure on each.
        problems: errors and warnings of files and resources, in order of place.
        files: the files they come from.
    """

    workers: tuple[Worker, ...]
    blocked: tuple[Blocked, ...]
    buses: tuple[BusPlan, ...]
    problems: tuple[Problem, ...]
    files: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(each for each in self.problems if each.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return tuple(each for each in self.problems if each.severity == "warning")


@dataclass(slots=True)
class _Found:
    workers: list[Worker] = field(default_factory=list)
    blocked: list[Blocked] = field(default_factory=list)

    def add(self, scope: Scope, kind: str, entry: str, worker: Worker | None) -> None:
        if any(problem.severity == "error" for problem in scope.problems):
            return
        if worker is not None:
            self.workers.append(worker)
            return
        reasons = tuple(problem for problem in scope.problems if problem.blocks)
        document = scope.document
        self.blocked.append(Blocked(kind, scope.namespace, document.name, entry, reasons))


def resolve(documents: Documents, look_up: LookUp | None = None) -> Resolution:
    """Workers, buses and problems of a set of documents. Never raises for what is in them.

    A document with an error has no workers; the others are resolved all the same.
    """
    look_up = look_up or FileLookUp(documents)
    problems = list(documents.problems)
    found = _Found()
    for document in documents.loaded:
        scope = Scope(document, look_up)
        _one(scope, document, found)
        problems += scope.problems
    for document in documents.refused:
        scope = Scope(document, look_up)
        _one(scope, document, _Found())
        # What else it lacks may lie in what was taken away; an expression's mistake does not.
        problems += [problem for problem in scope.problems if problem.inner is not None]
    problems += check_together(documents)
    order = {file: number for number, file in enumerate(documents.files)}
    problems.sort(key=lambda each: (order.get(each.file, -1), each.line, each.column))
    return Resolution(
        workers=tuple(found.workers),
        blocked=tuple(found.blocked),
        buses=_plans(found.workers),
        problems=tuple(problems),
        files=documents.files,
    )


def _one(scope: Scope, document: Loaded, found: _Found) -> None:
    model = document.model
    if isinstance(model, (EventBus, ClusterEventBus)):
        check_bus(scope, model.spec)
    elif isinstance(model, Trigger):
        worker = resolve_trigger(scope, model)
        found.add(scope, "Trigger", "", worker)
    elif isinstance(model, EventSource):
        check_source(scope, model.spec)
        sources = resolve_source(scope, model)
        implicit = resolve_implicit(scope, model)
        for entry, source in sources:
            found.add(scope, "EventSource", entry, source)
        if model.spec.event_bus is not None and model.spec.sink is not None and sources:
            found.add(scope, "Trigger", "sink", implicit)


def needs(worker: Worker) -> Needs:
    """What one worker needs on its bus; nothing without a bus."""
    if worker.bus is None:
        return Needs()
    if isinstance(worker, ResolvedSource):
        names = [worker.topic, worker.dead_topic, *_topics(worker.dead_letter)]
        return Needs(tuple(dict.fromkeys(names)))
    read = tuple(dict.fromkeys(each.topic for each in worker.inputs))
    written = [*read, worker.dead_topic]
    consumers = [Consumer(worker.group, read, worker.start, worker.since)]
    for subscriber in worker.subscribers:
        written += [subscriber.inbox, *_topics(subscriber.target, subscriber.dead_letter)]
        if subscriber.reply_topic is not None:
            written.append(subscriber.reply_topic)
        group = topics.inbox_group(subscriber.inbox)
        consumers.append(Consumer(group, (subscriber.inbox,), "earliest"))
    return Needs(tuple(dict.fromkeys(written)), tuple(consumers))


def _topics(*targets: Target | None) -> list[str]:
    return [each.topic for each in targets if isinstance(each, TopicTarget)]


def _plans(workers: Iterable[Worker]) -> tuple[BusPlan, ...]:
    buses: dict[str, ResolvedBus] = {}
    names: dict[str, dict[str, None]] = {}
    consumers: dict[str, list[Consumer]] = {}
    for worker in workers:
        if worker.bus is None:
            continue
        key = worker.bus.name
        own = needs(worker)
        buses.setdefault(key, worker.bus)
        names.setdefault(key, {}).update(dict.fromkeys(own.topics))
        consumers.setdefault(key, []).extend(own.consumers)
    return tuple(
        BusPlan(bus, Needs(tuple(names[key]), tuple(consumers[key]))) for key, bus in buses.items()
    )
