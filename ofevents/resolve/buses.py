"""An EventBus's spec as its driver and options, and what is wrong with it."""

from __future__ import annotations

from typing import Any, Final

from ofevents.api.eventbus import (
    DRIVERS,
    DaprBusSpec,
    EventBusSpec,
    JetStreamSpec,
    NatsStreamingSpec,
)
from ofevents.api.resolved import ResolvedBus
from ofevents.bus import dapr_kinds
from ofevents.resolve.lookup import FoundBus
from ofevents.resolve.problems import Path
from ofevents.resolve.scope import Scope

_SPEC: Final[Path] = ("spec",)
_SCHEMES: Final = ("nats", "tls", "ws", "wss")


def check_bus(scope: Scope, spec: EventBusSpec) -> None:
    """What the schema cannot say; called once for each EventBus document."""
    given = [
        driver
        for driver, value in zip(
            DRIVERS, (spec.jetstream, spec.dapr, spec.nats_streaming), strict=True
        )
        if value is not None
    ]
    if not given:
        expected = "one of jetstream, dapr; `jetstream: {}` is a server that ofevents runs itself"
        scope.error(_SPEC, "an EventBus needs a driver", expected=expected)
    if len(given) > 1:
        names = " and ".join(given)
        scope.error((*_SPEC, given[-1]), f"an EventBus has one driver, this one has {names}")
    if spec.jetstream is not None:
        _check_jetstream(scope, spec.jetstream)
    if spec.dapr is not None:
        _check_dapr(scope, spec.dapr)
    if spec.nats_streaming is not None:
        scope.warn(
            (*_SPEC, "natsStreaming"),
            "NATS Streaming has ended: this bus is read as jetstream on natsURL, and the server "
            "there must be a NATS server with JetStream; write jetstream: {url: ...} instead",
        )


def _check_jetstream(scope: Scope, spec: JetStreamSpec) -> None:
    path: Path = (*_SPEC, "jetstream")
    for one in (spec.url or "").split(","):
        scheme, found, _ = one.strip().partition("://")
        if found and scheme not in _SCHEMES:
            scope.error(
                (*path, "url"),
                f"a NATS server is not reached by {scheme}://",
                expected="nats://HOST:PORT, tls://, ws:// or wss://",
            )
    if spec.url is not None and spec.sync is not None:
        scope.error(
            (*path, "sync"),
            "sync is a setting of the server that ofevents runs itself; with url it is that "
            "server's own setting (sync_interval)",
        )
    if spec.tls is not None and spec.tls.insecure_skip_verify:
        scope.error((*path, "tls", "insecureSkipVerify"), "a bus verifies its server: give tls.ca")
    if spec.credentials is not None:
        given = [name for name in ("username", "token", "nkey", "creds")
                 if getattr(spec.credentials, name) is not None]  # fmt: skip
        if len(given) > 1:
            names = " and ".join(given)
            scope.error((*path, "credentials"), f"credentials are of one form, not {names}")


def _check_dapr(scope: Scope, spec: DaprBusSpec) -> None:
    path: Path = (*_SPEC, "dapr")
    if spec.pubsub is None and spec.type is None:
        scope.error(path, "dapr needs a component", expected="pubsub: {type: pubsub.kafka, ...}")
    elif spec.pubsub is not None and (spec.type or spec.version or spec.metadata):
        scope.error(path, "type, version and metadata stand under pubsub, or directly, not both")
    else:
        _check_pubsub(scope, path, spec)


def _check_pubsub(scope: Scope, path: Path, spec: DaprBusSpec) -> None:
    """What the driver would refuse, where it is written, and what it does not know."""
    below: Path = path if spec.pubsub is None else (*path, "pubsub")
    type = spec.type if spec.pubsub is None else spec.pubsub.type
    metadata = (spec.metadata if spec.pubsub is None else spec.pubsub.metadata) or []
    if type is None:
        return
    settings = {one.name: str(one.value) for one in metadata if one.value is not None}
    places = {one.name: index for index, one in enumerate(metadata)}
    for name, sentence in dapr_kinds.mistakes(type, settings):
        scope.error((*below, "metadata", places[name], "value"), sentence)
    if (trimmed := dapr_kinds.trimmed(type, settings)) is not None:
        name, sentence = trimmed
        scope.warn((*below, "metadata", places[name], "value"), sentence)
    if not type.startswith("pubsub."):
        sentence = f"{type} is no pub/sub component, and a bus is one"
        scope.error((*below, "type"), sentence, expected="pubsub.<name>")
    elif not dapr_kinds.known(type):
        scope.warn(
            (*below, "type"),
            f"ofevents has not been tried with {type}: nothing is promised of this bus but that "
            "it hands events over; pubsub.kafka, pubsub.jetstream and pubsub.redis are known",
        )


def check_trigger_bus(scope: Scope, path: Path, bus: ResolvedBus, *, ordered: bool) -> None:
    """What a Trigger needs of its bus."""
    if bus.driver != "dapr":
        return
    if "state" not in bus.options:
        scope.error(
            path,
            f"EventBus {bus.name} has no store, and a Trigger keeps there what its subscribers "
            "are owed; give spec.dapr.state a component such as state.redis",
        )
    type = bus.options["pubsub"]["type"]
    if ordered and not dapr_kinds.features(type, store=True).ordered:
        scope.error(
            path,
            f"a subscriber of this Trigger is ordered, and {type} keeps no order; "
            "pubsub.kafka does",
        )


def resolve_bus(scope: Scope, path: Path, found: FoundBus) -> ResolvedBus:
    """Driver and options; `path` is where the user names the bus (secrets are its own)."""
    spec = found.spec
    if spec.dapr is not None:
        return ResolvedBus(name=found.name, driver="dapr", options=_dapr(scope, path, spec.dapr))
    if spec.nats_streaming is not None:
        return ResolvedBus(
            name=found.name, driver="jetstream", options=_nats_streaming(spec.nats_streaming)
        )
    options = _jetstream(scope, path, spec.jetstream or JetStreamSpec())
    return ResolvedBus(name=found.name, driver="jetstream", options=options)


def _jetstream(scope: Scope, path: Path, spec: JetStreamSpec) -> dict[str, Any]:
    options: dict[str, Any] = {
        "url": spec.url,
        "embedded": True if spec.url is None else None,
        "monitoring": spec.monitoring,
        "stream": spec.stream,
        "replicas": spec.replicas,
        "storage": spec.storage,
        "max_age": spec.max_age,
        "max_bytes": spec.max_bytes,
        "duplicate_window": spec.duplicate_window,
        "sync": spec.sync,
    }
    if spec.credentials is not None:
        filled = scope.dump(path, spec.credentials)
        options["credentials"] = {
            "user" if name == "username" else name: value for name, value in filled.items()
        }
    if spec.tls is not None:
        options["tls"] = scope.dump(path, spec.tls, {"ca", "cert", "key"})
    return {name: value for name, value in options.items() if value is not None}


def _nats_streaming(spec: NatsStreamingSpec) -> dict[str, Any]:
    scale = spec.scale_option
    monitoring = scale.nats_server_monitoring_endpoint if scale is not None else None
    return {"url": spec.nats_url} | ({"monitoring": monitoring} if monitoring else {})


def _dapr(scope: Scope, path: Path, spec: DaprBusSpec) -> dict[str, Any]:
    filled = scope.dump(path, spec)
    short = {key: filled.pop(key) for key in ("type", "version", "metadata") if key in filled}
    if "pubsub" not in filled:
        filled["pubsub"] = {"version": "v1", "metadata": [], **short}
    return filled
