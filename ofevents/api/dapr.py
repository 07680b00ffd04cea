"""Components of Dapr as a source or a sink needs them: a pure function of the spec.

Read by the adapters (what a type promises), by `ofevents run` (the files for the
daprd that it starts) and by whoever renders resources for a cluster. What a type's
own defaults would lose is set here, with the reason; what the user sets to lose
events is refused. Measured with daprd 1.14, see the table of types.

Nothing here connects to anything, or needs Dapr's client library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import quote

from ofevents.api.platform import DaprComponent
from ofevents.api.sink import DaprSink
from ofevents.event import digest

Manifest = dict[str, Any]
"""A resource of Dapr, as it stands in a file or on a cluster."""

_UNSAFE: Final = re.compile(r"[^a-z0-9]+")
_SWITCHED_OFF: Final = re.compile(r"-?\d*[.]?\d*[a-z]*\Z")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A setting that may not be just anything: `value`, or longer than 0 where that is None."""

    value: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Kind:
    """What is read through one type of component.

    Attributes:
        guarantee: whether an event comes again that was handed over and not acknowledged.
        ordered: one event of a partition comes after the other.
        scales: several workers share the work, if they have the same group.
        positions: the metadata tells where in its origin an event stands.
        bulk: the component hands over real batches.
        group: the settings that name who shares the work; they get the entry's own name.
        given: what is set where the user sets nothing.
        wanted: what may not be set otherwise.
        loses: for people: when an event is lost, "" where none is.
    """

    guarantee: Literal["at-least-once", "at-most-once"] = "at-least-once"
    ordered: bool = False
    scales: bool = True
    positions: bool = False
    bulk: bool = False
    group: tuple[str, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict)
    wanted: Mapping[str, Wanted] = field(default_factory=dict)
    loses: str = ""


_OLDEST: Final = Wanted(
    "oldest",
    "with newest, events that were handed over before the first commit are lost at the next "
    "rebalance",
)
_ONCE: Final = Wanted("true", "with false, each event is tried once: whatever fails is lost")
_KEEP_ON: Final = Wanted("-1", "after so many tries Dapr skips the event: it is lost")
_CONSTANT: Final = Wanted(
    "constant", "with exponential, Dapr skips an event after 15 minutes of tries: it is lost"
)
_MANUAL: Final = Wanted("false", "with true, an event is acknowledged before it is handled")
_LONGER: Final = Wanted(None, "with 0, what a dead worker had in hand is lost")
_SESSION: Final = Wanted("false", "with true, what comes while no worker runs is lost")
_DURABLE: Final = Wanted("true", "with false, the queue is gone when the broker restarts")
_AT_ONCE: Final = Wanted("1", "with 0, the broker does not wait for an acknowledgement")

KINDS: Final[Mapping[str, Kind]] = {
    "pubsub.kafka": Kind(
        ordered=True,
        positions=True,
        bulk=True,
        group=("consumerGroup",),
        given={"initialOffset": "oldest", "backOffDuration": "1s"},
        wanted={
            "initialOffset": _OLDEST,
            "consumeRetryEnabled": _ONCE,
            "backOffMaxRetries": _KEEP_ON,
            "backOffPolicy": _CONSTANT,
        },
    ),
    "pubsub.jetstream": Kind(
        group=("durableName", "queueGroupName"),
        # Without ackWait, what is given back comes again at once, in a hot loop.
        given={"ackWait": "30s", "maxAckPending": "64"},
        wanted={
            "concurrency": Wanted(
                "single",
                "with parallel the component acknowledges an event before it is handled, so that "
                "a crash loses it",
            ),
            "ackPolicy": Wanted("explicit", "without it nothing waits for an acknowledgement"),
            "ackWait": _LONGER,
            "maxDeliver": Wanted(
                "-1", "the broker hands out no more what came so often: it is lost"
            ),
            "memoryStorage": Wanted(
                "false", "with true, the broker forgets at its restart what workers have had"
            ),
        },
    ),
    "pubsub.redis": Kind(
        group=("consumerID",),
        given={"processingTimeout": "60s", "redeliverInterval": "15s"},
        wanted={"processingTimeout": _LONGER, "redeliverInterval": _LONGER},
    ),
    "pubsub.rabbitmq": Kind(
        group=("consumerID",),
        given={"requeueInFailure": "true", "durable": "true", "deletedWhenUnused": "false"},
        wanted={
            "autoAck": _MANUAL,
            "requeueInFailure": Wanted("true", "with false, the broker drops what is given back"),
            "deletedWhenUnused": _SESSION,
            "durable": _DURABLE,
        },
    ),
    "pubsub.mqtt3": Kind(
        group=("consumerID",),
        scales=False,
        given={"qos": "1", "cleanSession": "false"},
        wanted={"qos": _AT_ONCE, "cleanSession": _SESSION},
    ),
    "pubsub.in-memory": Kind(
        guarantee="at-most-once",
        scales=False,
        loses="it is in the sidecar's memory, and kept for nobody",
    ),
    "bindings.kafka": Kind(
        ordered=True,
        positions=True,
        group=("consumerGroup",),
        # Dapr's own default tries each event once.
        given={"consumeRetryEnabled": "true", "initialOffset": "oldest", "backOffDuration": "1s"},
        wanted={
            "initialOffset": _OLDEST,
            "consumeRetryEnabled": _ONCE,
            "backOffMaxRetries": _KEEP_ON,
            "backOffPolicy": _CONSTANT,
        },
    ),
    "bindings.rabbitmq": Kind(
        given={"durable": "true", "deleteWhenUnused": "false"},
        wanted={"deleteWhenUnused": _SESSION, "durable": _DURABLE, "exclusive": _SESSION},
    ),
    "bindings.cron": Kind(
        guarantee="at-most-once", scales=False, loses="a time that comes while no worker runs"
    ),
}

_TOPIC: Final = Kind()
"""Of a pub/sub component that is not in the table: what Dapr's own contract says."""
_BINDING: Final = Kind(
    guarantee="at-most-once",
    loses="Dapr tries each event once, whether or not the worker has it",
)
"""Of an input binding that is not in the table: nothing makes it come again."""


def kind_of(type: str | None, *, topic: bool) -> Kind:
    """What is read; `type` None for a component that is not written in the spec."""
    return KINDS.get(type or "", _TOPIC if topic else _BINDING)


def is_pubsub(type: str) -> bool:
    return type.startswith("pubsub.")


def is_binding(type: str) -> bool:
    return type.startswith("bindings.")


def name_of(namespace: str, name: str, entry: str) -> str:
    """A component's name in Dapr, of the resource and the entry it is written in."""
    readable = _UNSAFE.sub("-", f"{name}-{entry}".lower()).strip("-")[:40].strip("-")
    return f"ofe-{readable}-{digest(namespace, name, entry)[:8]}"


SCHEME: Final = "dapr://"
"""Of an app that is invoked through the sidecar, wherever that is; see `invoke_url`."""


def app_uri(sink: DaprSink) -> str:
    """The address of an app and its method: `dapr://app/method`, through the sidecar that the
    worker finds, or an http:// one through the sidecar that the spec names."""
    uri = f"{SCHEME}{sink.app_id}/{(sink.method or '').lstrip('/')}"
    return invoke_url(uri, f"http://{sink.sidecar}") if sink.sidecar else uri


def invoke_url(uri: str, sidecar: str) -> str:
    """Where `dapr://app/method` is called; `sidecar` is the URL of its HTTP API."""
    app, _, method = uri.removeprefix(SCHEME).partition("/")
    return f"{sidecar}/v1.0/invoke/{quote(app, safe='')}/method/{quote(method, safe='/')}"


def settings(component: DaprComponent) -> dict[str, str]:
    """Its metadata, secrets in place, as Dapr reads it."""
    return {one.name: text(one.value) for one in component.metadata}


def text(value: Any) -> str:
    """A setting as text: YAML's true, and numbers, too."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def mistakes(component: DaprComponent, kind: Kind) -> list[tuple[int, str]]:
    """Settings that lose events: the index in its metadata, and the sentence that says why."""
    found = []
    wanted = {name.lower(): (name, one) for name, one in kind.wanted.items()}
    for index, setting in enumerate(component.metadata):
        name, one = wanted.get(setting.name.lower(), ("", None))
        if one is None:
            continue
        is_now = text(setting.value).strip()
        if one.value is None:
            if _is_zero(is_now):
                found.append((index, f"{name} must be longer than 0: {one.why}"))
        elif is_now.lower() != one.value:
            found.append((index, f"{name} must be {one.value}, not {is_now}: {one.why}"))
    return found


def _is_zero(duration: str) -> bool:
    if not _SWITCHED_OFF.match(duration):
        return False
    digits = duration.rstrip("abcdefghijklmnopqrstuvwxyz")
    return digits.startswith("-") or not digits.strip("0.")


def input_component(name: str, component: DaprComponent, group: str) -> Manifest:
    """The component that a source reads: the user's settings, and what they need beside them.

    Args:
        group: who shares the work, the same for all workers of an entry.
    """
    kind = kind_of(component.type, topic=is_pubsub(component.type))
    # A JetStream durable has no dots.
    named = group.replace(".", "-") if "durableName" in kind.group else group
    own = dict(kind.given) | dict.fromkeys(kind.group, named)
    if is_binding(component.type):
        own["direction"] = "input"
    return _manifest(name, component, own)


def output_component(name: str, component: DaprComponent) -> Manifest:
    """The component that a sink calls."""
    return _manifest(name, component, {"direction": "output"})


def _manifest(name: str, component: DaprComponent, own: Mapping[str, str]) -> Manifest:
    given = settings(component)
    taken = {setting.lower() for setting in given}
    if "consumerid" in taken:  # means the same where there is a setting of another name, too
        taken |= {"consumergroup"}
    filled = given | {key: value for key, value in own.items() if key.lower() not in taken}
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": name},
        "spec": {
            "type": component.type,
            "version": component.version,
            "metadata": [{"name": key, "value": value} for key, value in filled.items()],
        },
    }
