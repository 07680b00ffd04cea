"""The Dapr resources that a bus needs: a pure function of its spec and its consumers.

Dapr keeps the consumer group in the component, so each consumer group needs
components of its own, copies of the user's with the group's name in them, and what is
consumed in batches needs a Subscription for each. The driver names them by the same
rules and says which are missing; `ofevents run` writes them as files for its daprd,
and a controller as resources of the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ofevents.bus.dapr_options import Component, DaprOptions
from ofevents.event import digest
from ofevents.ports import Consumer

BATCH: Final = 200
"""Messages that daprd hands over at once, where it does so in batches."""
AWAIT_MS: Final = 20
"""How long it waits for a batch to fill."""
_TIMEOUT: Final = "DefaultPubsubComponentInboundTimeoutPolicy"
"""Dapr's reserved name: it counts for every pub/sub component without one of its own."""
_UNSAFE: Final = re.compile(r"[^a-z0-9]+")

Manifest = dict[str, Any]


class Names:
    """What a bus's components, groups and topics are called in Dapr and on the broker."""

    def __init__(self, options: DaprOptions, bus: str) -> None:
        self._options = options
        readable = _UNSAFE.sub("-", bus.lower()).strip("-")[:30] or "bus"
        self._shared = f"ofe-{readable}-{digest(bus, options.prefix)[:6]}"
        self.base = self._shared
        if options.scope:
            self.base = f"ofe-{readable}-{digest(bus, options.prefix, options.scope)[:12]}"

    @property
    def pubsub(self) -> str:
        """The component that is published on."""
        return f"{self.base}-bus"

    @property
    def state(self) -> str:
        return f"{self.base}-store"

    @property
    def keys(self) -> str:
        """What stands before each key of the state: the same for all workers of a bus."""
        return f"{self._shared}-store"

    def topic(self, topic: str) -> str:
        """A topic's name on the broker. Kafka has no `=`, and topics no empty part."""
        escaped = topic if self._options.pubsub.type != "pubsub.kafka" else topic.replace("=", "..")
        return self._options.prefix + escaped

    def lanes(self, group: str, topic: str) -> list[str]:
        """The components over which a group gets a topic."""
        kind = self._options.kind
        if kind.group is None:
            return [self.pubsub]
        served = (group, topic) if kind.apart else (group,)
        own = f"{self.base}-{digest(*served)[:12]}"
        return [f"{own}-{lane}" for lane in range(self._options.components)]

    def group(self, group: str, topic: str) -> str:
        """The consumer group's name on the broker."""
        kind = self._options.kind
        named = self._options.prefix + group
        # A JetStream durable has no dots and one subject.
        return f"ofe-{digest(named, topic)}" if kind.apart else named


def base(options: DaprOptions, names: Names) -> list[Manifest]:
    """What the bus needs before there is any consumer."""
    found = [_component(names.pubsub, options.pubsub, {})]
    if options.state is not None:
        # Dapr would put the app's id before each key: then no two workers share an entry.
        found.append(
            _component(
                names.state, options.state, {"keyPrefix": names.keys if options.scope else "name"}
            )
        )
    if not options.bulk:
        found.append(_resiliency(options, names))
    return found


def consumer(
    options: DaprOptions, names: Names, group: str, topics: Sequence[str]
) -> list[Manifest]:
    """The components of one consumer group."""
    return list(_consumer(options, names, group, topics))


def _consumer(
    options: DaprOptions, names: Names, group: str, topics: Sequence[str]
) -> Iterator[Manifest]:
    kind = options.kind
    if kind.group is None:
        return
    for topic in topics if kind.apart else topics[:1]:
        named = names.group(group, topic)
        own = {kind.group: named}
        if kind.group == "durableName":
            own["queueGroupName"] = named
        for setting, value in kind.given.items():
            own[setting] = value(options.ack_wait, options.components)
        for name in names.lanes(group, topic):
            yield _component(name, options.pubsub, own)


def subscriptions(
    options: DaprOptions, names: Names, group: str, topics: Sequence[str]
) -> list[Manifest]:
    """What has daprd hand a group's topics to the app's port, in batches."""
    if not options.bulk:
        return []
    return [
        {
            "apiVersion": "dapr.io/v2alpha1",
            "kind": "Subscription",
            "metadata": {"name": f"{lane}-{digest(topic)[:8]}"},
            "spec": {
                "pubsubname": lane,
                "topic": names.topic(topic),
                "routes": {"default": "/"},
                "metadata": {"rawPayload": "true"},
                "bulkSubscribe": {
                    "enabled": True,
                    "maxMessagesCount": BATCH,
                    "maxAwaitDurationMs": AWAIT_MS,
                },
            },
        }
        for topic in topics
        for lane in names.lanes(group, topic)
    ]


def manifests(options: DaprOptions, bus: str, consumers: Sequence[Consumer]) -> list[Manifest]:
    """All of a bus's: for whoever writes them, a controller for example."""
    names = Names(options, bus)
    found = base(options, names)
    for one in consumers:
        found += consumer(options, names, one.group, one.topics)
        found += subscriptions(options, names, one.group, one.topics)
    return found


def _component(name: str, user: Component, own: dict[str, str]) -> Manifest:
    """The user's component under our name; what the user gives is kept, `own` is added."""
    given = {setting.lower() for setting in user.settings}
    settings = {**user.settings, **{k: v for k, v in own.items() if k.lower() not in given}}
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": name},
        "spec": {
            "type": user.type,
            "version": user.version,
            "metadata": [{"name": key, "value": value} for key, value in settings.items()],
        },
    }


def _resiliency(options: DaprOptions, names: Names) -> Manifest:
    """An end to daprd's waiting for a verdict.

    Without it a message whose consumer died with the stream open is waited for for ever,
    and daprd hands nothing more to its lane (1.14, 1.15).
    """
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Resiliency",
        "metadata": {"name": names.base},
        "spec": {
            "policies": {"timeouts": {_TIMEOUT: f"{options.ack_wait:g}s"}},
            "targets": {},
        },
    }
