"""A Trigger, or the implicit Trigger of an EventSource's sink, as its worker is given it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, get_args

from ofevents.api.eventsource import EventSource
from ofevents.api.resolved import (
    DaprMode,
    ResolvedBus,
    ResolvedInput,
    ResolvedSubscriber,
    ResolvedTrigger,
    Target,
)
from ofevents.api.trigger import Input, Subscriber, Trigger, TriggerSpec
from ofevents.bus import topics
from ofevents.resolve.buses import check_trigger_bus, resolve_bus
from ofevents.resolve.expressions import (
    RESERVED,
    compile_condition,
    compile_filter,
    compile_payload,
    compile_value,
)
from ofevents.resolve.lookup import NotFound
from ofevents.resolve.problems import Path, nearest
from ofevents.resolve.scope import Scope
from ofevents.resolve.targets import (
    derived_name,
    resolve_dead_letter,
    resolve_delivery,
    resolve_sink,
    topic_target,
)

DAPR_SERVICE_MODE: Final = "openfunction.io/dapr-service-mode"


def log_level(given: str | None) -> str:
    """Our word for a logLevel; OpenFunction's numbers above 1 are debug."""
    if given is None or not given.isdigit():
        return given or "info"
    return "debug" if int(given) > 1 else "info"


def dapr_mode(annotations: Mapping[str, str]) -> DaprMode:
    """What OpenFunction's annotation says; without it a sidecar, which scales with its worker.

    (OpenFunction's own default is one standalone Dapr proxy for all workers.)
    """
    return "standalone" if annotations.get(DAPR_SERVICE_MODE) == "standalone" else "sidecar"


def check_dapr_mode(scope: Scope, annotations: Mapping[str, str]) -> None:
    """The annotation of an EventSource or a Trigger."""
    given, modes = annotations.get(DAPR_SERVICE_MODE), get_args(DaprMode)
    if given is not None and given not in modes:
        path = ("metadata", "annotations", DAPR_SERVICE_MODE)
        message = f"{given!r} is no way to run Dapr"
        scope.error(path, message, expected=" or ".join(modes), near=nearest(given, modes))


def named_bus(scope: Scope, path: Path, name: str) -> ResolvedBus | None:
    """The bus that a resource names; None and a blocking warning when there is none."""
    found = scope.found(path, lambda: scope.look_up.bus(scope.namespace, name))
    return None if found is None else resolve_bus(scope, path, found)


def resolve_trigger(scope: Scope, trigger: Trigger) -> ResolvedTrigger | None:
    """Its worker; None where the scope's problems say why it cannot run."""
    spec, namespace = trigger.spec, scope.namespace
    check_dapr_mode(scope, trigger.metadata.annotations)
    bus = named_bus(scope, ("spec", "eventBus"), spec.event_bus)
    if bus is not None:
        ordered = any(one.delivery is not None and one.delivery.ordered for one in spec.subscribers)
        check_trigger_bus(scope, ("spec", "eventBus"), bus, ordered=ordered)
    inputs = [_input(scope, name, each, spec.event_bus) for name, each in spec.inputs.items()]
    owner = trigger.metadata.name
    subscribers = _subscribers(scope, spec.subscribers, owner, list(spec.inputs))
    _check_loops(scope, spec)
    if bus is None or None in inputs or None in subscribers or scope.blocked():
        return None
    return ResolvedTrigger(
        namespace=namespace,
        name=owner,
        bus=bus,
        inputs=tuple(each for each in inputs if each is not None),
        window=spec.window,
        subscribers=tuple(each for each in subscribers if each is not None),
        start=spec.start_from,
        deletion_policy=spec.deletion_policy,
        suspend=spec.suspend,
        log_level=log_level(spec.log_level),
        dapr_mode=dapr_mode(trigger.metadata.annotations),
        group=topics.trigger_group(namespace, owner),
        dead_topic=topics.dead(namespace, owner),
    )


def _check_loops(scope: Scope, spec: TriggerSpec) -> None:
    """A Trigger that writes a topic which it reads feeds itself."""
    read = {given.topic: name for name, given in spec.inputs.items() if given.topic is not None}
    for index, each in enumerate(spec.subscribers):
        for field, topic in (("topic", each.topic), ("reply", each.reply)):
            if topic in read:
                scope.warn(
                    ("spec", "subscribers", index, field),
                    f"the Trigger reads this topic too (input {read[topic]}): without a condition "
                    "that ends it, its events go round for ever",
                )


def _input(scope: Scope, name: str, given: Input, bus: str) -> ResolvedInput | None:
    path: Path = ("spec", "inputs", name)
    if name in RESERVED:
        scope.error(path, f"no input can be named {name}: the word has a meaning in CEL here")
    scope.expression((*path, "filter"), given.filter, compile_filter)
    scope.expression((*path, "joinBy"), given.join_by, compile_value)
    if given.topic is not None:
        if given.event_source is not None or given.event is not None:
            scope.error(path, "an input is a topic, or an event of an EventSource, not both")
        if given.namespace not in (None, scope.namespace):
            # An EventSource can allow it (allowNamespaces); a topic has nobody to ask.
            scope.error((*path, "namespace"), "a topic is read in its own namespace only")
        topic = topics.user(scope.namespace, given.topic)
    elif given.event_source is None or given.event is None:
        expected = "eventSource and event, or topic"
        scope.error(path, "the input does not say what it reads", expected=expected)
        return None
    else:
        namespace = given.namespace or scope.namespace
        topic = topics.event(namespace, given.event_source, given.event)
        _check_origin(scope, path, given.event_source, given.event, namespace, bus)
    return ResolvedInput(name=name, topic=topic, filter=given.filter, join_by=given.join_by)


def _check_origin(
    scope: Scope, path: Path, name: str, event: str, namespace: str, bus: str
) -> None:
    """Whether the EventSource is there, publishes that event on our bus, and lets us read it."""
    look_up = scope.look_up
    try:
        source = look_up.event_source(namespace, name)
    except NotFound as missing:
        # Whether it lets this namespace read its events cannot be seen, so it is not read.
        scope.warn((*path, "eventSource"), missing.message, near=missing.near,
                   blocks=missing.unseen)  # fmt: skip
        return
    events = [entry for _, entry, _ in source.spec.entries()]
    if event not in events:
        message = f"EventSource {namespace}/{name} has no event {event}"
        scope.warn((*path, "event"), message, near=nearest(event, events))
    _check_same_bus(scope, path, source, namespace, bus)
    if namespace == scope.namespace:
        return
    allowed = source.spec.allow_namespaces
    if allowed is None:
        scope.warn(
            (*path, "namespace"),
            f"EventSource {namespace}/{name} lets every namespace read its events; "
            "spec.allowNamespaces there says which may",
        )
    elif scope.namespace not in allowed:
        scope.error(
            (*path, "namespace"),
            f"EventSource {namespace}/{name} does not let namespace {scope.namespace} read its "
            "events (spec.allowNamespaces)",
        )


def _check_same_bus(
    scope: Scope, path: Path, source: EventSource, namespace: str, bus: str
) -> None:
    name = source.metadata.name
    if source.spec.event_bus is None:
        message = f"EventSource {namespace}/{name} publishes on no EventBus: it has only a sink"
        scope.warn((*path, "eventSource"), message)
        return
    try:
        theirs = scope.look_up.bus(namespace, source.spec.event_bus).name
        ours = scope.look_up.bus(scope.namespace, bus).name
    except NotFound:
        return  # Said where the bus is named.
    if theirs != ours:
        message = f"EventSource {namespace}/{name} publishes on EventBus {theirs}, not on {ours}"
        scope.warn((*path, "eventSource"), message)


def _subscribers(
    scope: Scope, given: list[Subscriber], owner: str, inputs: list[str]
) -> list[ResolvedSubscriber | None]:
    unnamed = sum(each.name is None for each in given)
    if unnamed > 1:
        scope.warn(
            ("spec", "subscribers"),
            f"{unnamed} subscribers have no name: an edit of condition or target makes a new "
            "subscriber, and what the old one was owed goes to the dead letters",
        )
    taken = {each.name for each in given if each.name is not None}
    explicit: set[str] = set()
    resolved: list[ResolvedSubscriber | None] = []
    for index, each in enumerate(given):
        path: Path = ("spec", "subscribers", index)
        if each.name is None:
            name = _free(derived_name(each, each.condition), taken)
        else:
            name = each.name
            if name in explicit:
                scope.error((*path, "name"), f"two subscribers are named {name}")
            explicit.add(name)
        scope.expression(
            (*path, "condition"), each.condition, lambda text: compile_condition(text, inputs)
        )
        scope.expression(
            (*path, "payload"), each.payload, lambda text: compile_payload(text, inputs)
        )
        resolved += _subscriber(scope, path, each, name, owner, taken)
    return resolved


def _free(name: str, taken: set[str]) -> str:
    """The name, numbered if it is taken already."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    taken.add(free)
    return free


def _subscriber(
    scope: Scope, path: Path, given: Subscriber, name: str, owner: str, taken: set[str]
) -> Iterator[ResolvedSubscriber | None]:
    """One; two where it has both a sink and a topic, as OpenFunction's may."""
    if given.sink is None and given.topic is None:
        scope.error(
            path, "the subscriber does not say who gets the events", expected="sink or topic"
        )
        yield None
        return
    if given.dead_letter_sink is not None and given.dead_letter_topic is not None:
        message = "deadLetterSink wins over deadLetterTopic, which is not written"
        scope.warn((*path, "deadLetterTopic"), message)
    dead_letter = resolve_dead_letter(scope, path, given.dead_letter_sink, given.dead_letter_topic)
    dead_missing = given.dead_letter_sink is not None and dead_letter is None
    if given.reply is not None and given.sink is not None and given.sink.brokers:
        message = f"{given.sink.brokers[0]} gives no answer, so nothing is written to this topic"
        scope.warn((*path, "reply"), message)
    targets: list[tuple[str, Target | None]] = []
    if given.sink is not None:
        targets.append((name, resolve_sink(scope, (*path, "sink"), given.sink)))
    if given.topic is not None:
        second = name if given.sink is None else _free(f"{name}-topic", taken)
        targets.append((second, topic_target(scope, given.topic)))
    for each, target in targets:
        if target is None or dead_missing:
            yield None
            continue
        yield ResolvedSubscriber(
            name=each,
            condition=given.condition,
            payload=given.payload,
            target=target,
            dead_letter=dead_letter,
            delivery=resolve_delivery(given.delivery),
            on_error=given.on_error,
            reply_topic=topics.user(scope.namespace, given.reply) if given.reply else None,
            inbox=topics.inbox(scope.namespace, owner, each),
        )
