"""The one place that names topics, consumer groups and store keys.

Called by resolve (names in a resolved spec), the bus drivers (which stream a
topic lives in) and the command line (what a person types). A topic is
`kind.part.part...`; each part is escaped, so two different resources never
share a name (in OpenFunction `a-b` + `c` and `a` + `b-c` do).

    event.<namespace>.<EventSource>.<event>      what an EventSource publishes
    topic.<namespace>.<name>                     what Triggers and functions write
    inbox.<namespace>.<Trigger>.<subscriber>     deliveries a subscriber is owed
    dead.<namespace>.<owner>                     a Trigger's or EventSource's dead letters
"""

from __future__ import annotations

import re
from typing import Final, Literal

from ofevents.errors import ConfigError

Kind = Literal["event", "topic", "inbox", "dead"]

_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_UNSAFE: Final = re.compile(rb"[^A-Za-z0-9_-]")
_KINDS: Final = ("event", "topic", "inbox", "dead")


def escape(part: str) -> str:
    """One part of a name: other bytes than letters, digits, `_`, `-` become `=XX`."""
    if _PLAIN.match(part):
        return part
    return _UNSAFE.sub(lambda m: b"=%02X" % m.group()[0], part.encode()).decode() or "="


def unescape(part: str) -> str:
    """The inverse of `escape`."""
    if part == "=":
        return ""
    raw = re.sub(rb"=([0-9A-F]{2})", lambda m: bytes([int(m.group(1), 16)]), part.encode())
    return raw.decode()


def name(kind: Kind, *parts: str) -> str:
    """A topic's name from its parts."""
    return ".".join((kind, *map(escape, parts)))


def split(topic: str) -> tuple[Kind, tuple[str, ...]]:
    """A topic's kind and its parts, unescaped."""
    kind, *parts = topic.split(".")
    if kind not in _KINDS:
        raise ConfigError(f"{topic!r} is no topic: it must begin with one of {', '.join(_KINDS)}")
    return kind, tuple(map(unescape, parts))  # type: ignore[return-value]


def event(namespace: str, source: str, entry: str) -> str:
    """What one event entry of an EventSource publishes."""
    return name("event", namespace, source, entry)


def user(namespace: str, topic: str) -> str:
    """A topic that a Trigger's subscriber, a reply or a function writes."""
    return name("topic", namespace, topic)


def inbox(namespace: str, trigger: str, subscriber: str) -> str:
    """A subscriber's durable queue of deliveries."""
    return name("inbox", namespace, trigger, subscriber)


def dead(namespace: str, owner: str) -> str:
    """The dead letters of a Trigger, or of an EventSource (`source/<name>`)."""
    return name("dead", namespace, owner)


def trigger_group(namespace: str, trigger: str) -> str:
    """The consumer group of a Trigger's workers."""
    return f"trigger.{escape(namespace)}.{escape(trigger)}"


def inbox_group(topic: str) -> str:
    """The consumer group that serves an inbox."""
    return topic


def parse(text: str, namespace: str = "default") -> str:
    """What a person types: a full name, `EventSource/event`, or a plain user topic.

    `shop/orders` is the event `orders` of EventSource `shop`, `metrics` the topic of
    that name, both in `namespace`.
    """
    if text.split(".")[0] in _KINDS and "." in text:
        return text
    match text.split("/"):
        case [topic]:
            return user(namespace, topic)
        case [source, entry]:
            return event(namespace, source, entry)
        case [other, source, entry]:
            return event(other, source, entry)
    raise ConfigError(
        f"{text!r} is no topic: write a topic's name, EventSource/event, or "
        "namespace/EventSource/event"
    )


def show(topic: str) -> str:
    """As a person reads it; the inverse of `parse` for event and user topics."""
    kind, parts = split(topic)
    readable = "/".join(parts)
    return readable if kind == "event" else f"{kind}:{readable}"
