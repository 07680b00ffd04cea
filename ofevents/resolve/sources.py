"""An EventSource as its workers are given it: one for each entry, and one more

where it has both an eventBus and a sink: the implicit Trigger that calls the sink.
"""

from __future__ import annotations

from typing import Any, Final

from ofevents.api.cron import CronSpec
from ofevents.api.eventsource import (
    CUSTOM,
    SPECS,
    CustomSpec,
    EntryFields,
    EventSource,
    EventSourceSpec,
)
from ofevents.api.resolved import (
    ResolvedBus,
    ResolvedInput,
    ResolvedSource,
    ResolvedSubscriber,
    ResolvedTrigger,
    Target,
)
from ofevents.bus import topics
from ofevents.cel import STRING
from ofevents.errors import ConfigError
from ofevents.resolve.buses import check_trigger_bus
from ofevents.resolve.dataschema import data_validator
from ofevents.resolve.expressions import compile_filter, compile_value
from ofevents.resolve.problems import Path
from ofevents.resolve.scope import Scope
from ofevents.resolve.targets import resolve_dead_letter, resolve_delivery, resolve_sink
from ofevents.resolve.triggers import check_dapr_mode, dapr_mode, log_level, named_bus

_SPEC: Final[Path] = ("spec",)
_DEFAULT_TOPIC: Final = {"kafka": "topic", "redis": "stream", "rabbitmq": "queue"}
"""Fields whose default is the event's name."""


def owner_of(source: EventSource) -> str:
    """The name of an EventSource among the owners of dead letters and groups."""
    return f"source/{source.metadata.name}"


def check_source(scope: Scope, spec: EventSourceSpec) -> None:
    """What the schema cannot say of the EventSource as a whole."""
    if spec.event_bus is None and spec.sink is None:
        scope.error(_SPEC, "the EventSource has nowhere to send its events",
                    expected="eventBus or sink")  # fmt: skip
    if next(spec.entries(), None) is None:
        scope.warn(_SPEC, "the EventSource has no source; its events come from none")
    if spec.event_bus is None:
        _check_without_bus(scope, spec)
    if spec.sink is None:
        for field, value in (
            ("delivery", spec.delivery),
            ("deadLetterSink", spec.dead_letter_sink),
            ("deadLetterTopic", spec.dead_letter_topic),
        ):
            if value is not None:
                scope.warn((*_SPEC, field), f"{field} is about calling a sink, and there is none")


def _check_without_bus(scope: Scope, spec: EventSourceSpec) -> None:
    """A source that calls its sink itself has no topics, no store and no inbox."""
    if spec.dead_letter_topic is not None:
        scope.error(
            (*_SPEC, "deadLetterTopic"),
            "a topic needs an EventBus, and this EventSource has none; add eventBus, or use "
            "deadLetterSink",
        )
    delivery = spec.delivery
    if delivery is not None:
        held = (
            ("ordered", delivery.ordered),
            ("batch", delivery.batch is not None),
            ("deliverAfter", delivery.deliver_after > 0),
        )
        for field, given in held:
            if given:
                message = f"{field} needs an EventBus to keep the events on; add eventBus"
                scope.error((*_SPEC, "delivery", field), message)
    for kind, name, entry in spec.entries():
        if isinstance(entry, CronSpec) and entry.missed_runs != "skip":
            scope.error(
                (*_SPEC, kind, name, "missedRuns"),
                f"{entry.missed_runs} needs an EventBus to remember the last run; add eventBus",
            )


def _check_memory(scope: Scope, source: EventSource, bus: ResolvedBus | None) -> None:
    """What a source on a bus without a store cannot do."""
    if bus is None or bus.driver != "dapr" or "state" in bus.options:
        return
    for kind, name, entry in source.spec.entries():
        if isinstance(entry, CronSpec) and entry.missed_runs != "skip":
            scope.error(
                (*_SPEC, kind, name, "missedRuns"),
                f"{entry.missed_runs} needs a store to remember the last run, and EventBus "
                f"{bus.name} has none; give its spec.dapr.state a component",
            )


def resolve_source(scope: Scope, source: EventSource) -> list[tuple[str, ResolvedSource | None]]:
    """Each entry's name (`kafka/orders`) and its worker, None where it cannot run."""
    spec = source.spec
    check_dapr_mode(scope, source.metadata.annotations)
    bus: ResolvedBus | None = None
    target: Target | None = None
    dead_letter: Target | None = None
    runs = True
    if spec.event_bus is not None:
        bus = named_bus(scope, (*_SPEC, "eventBus"), spec.event_bus)
        runs = bus is not None
        _check_memory(scope, source, bus)
    elif spec.sink is not None:
        target = resolve_sink(scope, (*_SPEC, "sink"), spec.sink)
        dead_letter = resolve_dead_letter(scope, _SPEC, spec.dead_letter_sink, None)
        dead_missing = spec.dead_letter_sink is not None and dead_letter is None
        runs = target is not None and not dead_missing
    runs = runs and not scope.blocked(without=SPECS)
    way = {"bus": bus, "target": target, "dead_letter": dead_letter}
    workers: list[tuple[str, ResolvedSource | None]] = []
    for kind, name, entry in spec.entries():
        before = len(scope.problems)
        worker = _worker(scope, source, kind, name, entry, way)
        blocked = any(each.blocks for each in scope.problems[before:])
        workers.append((f"{kind}/{name}", worker if runs and not blocked else None))
    return workers


def _worker(
    scope: Scope,
    source: EventSource,
    kind: str,
    name: str,
    entry: EntryFields,
    way: dict[str, Any],
) -> ResolvedSource:
    """One entry's worker; `way` is where its events go, the same for all entries."""
    spec, owner, path = source.spec, source.metadata.name, (*_SPEC, kind, name)
    on_bus = spec.event_bus is not None
    _check_entry(scope, path, entry)
    return ResolvedSource(
        namespace=scope.namespace,
        name=owner,
        source=entry.source if isinstance(entry, CustomSpec) else kind,
        entry=name,
        spec=_own_fields(scope, path, source, kind, name, entry),
        topic=topics.event(scope.namespace, owner, name) if on_bus else "",
        filter=entry.filter,
        on_error=entry.on_error,
        attributes=_attributes(entry),
        data_schema=entry.data_schema,
        delivery=resolve_delivery(spec.delivery),
        dead_topic=topics.dead(scope.namespace, owner_of(source)) if on_bus else "",
        suspend=spec.suspend,
        log_level=log_level(spec.log_level),
        dapr_mode=dapr_mode(source.metadata.annotations),
        **way,
    )


def _own_fields(
    scope: Scope, path: Path, source: EventSource, kind: str, name: str, entry: EntryFields
) -> dict[str, Any]:
    """The kind's own fields, with secrets and the defaults that depend on names."""
    own = scope.dump(path, entry, set(SPECS[kind].model_fields))
    if kind == CUSTOM:
        return dict(own["spec"])
    if (field := _DEFAULT_TOPIC.get(kind)) and not own.get(field) and "channel" not in own:
        own[field] = name
    if kind == "webhook" and not own["path"]:
        own["path"] = f"/{source.metadata.name}/{name}"
    if kind == "kubernetes":
        own.setdefault("namespace", scope.namespace)
    return own


def _attributes(entry: EntryFields) -> dict[str, str]:
    return entry.attributes.model_dump(exclude_none=True) if entry.attributes else {}


def _check_entry(scope: Scope, path: Path, entry: EntryFields) -> None:
    scope.expression((*path, "filter"), entry.filter, compile_filter)
    for attribute, text in _attributes(entry).items():
        scope.expression(
            (*path, "attributes", attribute), text, lambda text: compile_value(text, STRING)
        )
    if entry.data_schema is not None:
        try:
            data_validator(entry.data_schema)
        except ConfigError as error:
            inner = tuple(error.path.split(".")) if error.path else ()
            scope.error((*path, "dataSchema", *inner), error.message)


def resolve_implicit(scope: Scope, source: EventSource) -> ResolvedTrigger | None:
    """The Trigger that an eventBus together with a sink stands for."""
    spec, namespace, owner = source.spec, scope.namespace, owner_of(source)
    if spec.event_bus is None or spec.sink is None:
        return None
    bus = named_bus(scope, (*_SPEC, "eventBus"), spec.event_bus)
    if bus is not None:
        ordered = spec.delivery is not None and spec.delivery.ordered
        check_trigger_bus(scope, (*_SPEC, "eventBus"), bus, ordered=ordered)
    target = resolve_sink(scope, (*_SPEC, "sink"), spec.sink)
    if spec.dead_letter_sink is not None and spec.dead_letter_topic is not None:
        message = "deadLetterSink wins over deadLetterTopic, which is not written"
        scope.warn((*_SPEC, "deadLetterTopic"), message)
    dead_letter = resolve_dead_letter(scope, _SPEC, spec.dead_letter_sink, spec.dead_letter_topic)
    if bus is None or target is None or (spec.dead_letter_sink is not None and not dead_letter):
        return None
    entries = dict.fromkeys(name for _, name, _ in spec.entries())
    if not entries or scope.blocked(without=SPECS):
        return None
    name = source.metadata.name
    subscriber = ResolvedSubscriber(
        name="sink",
        target=target,
        dead_letter=dead_letter,
        delivery=resolve_delivery(spec.delivery),
        inbox=topics.inbox(namespace, owner, "sink"),
    )
    return ResolvedTrigger(
        namespace=namespace,
        name=name,
        implicit=True,
        bus=bus,
        inputs=tuple(
            ResolvedInput(name=entry, topic=topics.event(namespace, name, entry))
            for entry in entries
        ),
        subscribers=(subscriber,),
        log_level=log_level(spec.log_level),
        dapr_mode=dapr_mode(source.metadata.annotations),
        suspend=spec.suspend,
        group=topics.trigger_group(namespace, owner),
        dead_topic=topics.dead(namespace, owner),
    )
