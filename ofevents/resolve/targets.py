"""Sinks, dead letters and delivery settings as a worker is given them."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from ofevents import registry
from ofevents.api import dapr
from ofevents.api.resolved import (
    HttpAuth,
    HttpTarget,
    ResolvedDelivery,
    SinkTarget,
    Target,
    TopicTarget,
)
from ofevents.api.sink import DeliverySettings, Sink
from ofevents.api.trigger import Subscriber
from ofevents.bus import topics
from ofevents.resolve.expressions import compile_key
from ofevents.resolve.problems import Path, nearest
from ofevents.resolve.scope import Scope

_PLACES: Final = {
    "kafka": {"topic"},
    "nats": {"subject"},
    "mqtt": {"topic"},
    "rabbitmq": {"exchange", "routing_key"},
    "redis": {"stream"},
    "dapr": {"app_id", "method", "component_name", "operation"},
}
"""What a subscriber without a name is called after; never what may hold a credential."""

_HTTP_ONLY: Final = ("headers", "auth", "tls", "proxy")
"""Fields of a sink that only `uri` and `ref` have a use for."""

_REFS = {
    "v1": "Service",
    "serving.knative.dev/v1": "Service",
    "core.openfunction.io/v1beta1": "Function",
    "core.openfunction.io/v1beta2": "Function",
}


def resolve_sink(scope: Scope, path: Path, sink: Sink) -> Target | None:
    """Where a sink is called; None where the problem says why it cannot be."""
    if sink.brokers:
        return _broker(scope, path, sink, sink.brokers[0])
    if sink.uri is not None and sink.ref is not None:
        scope.warn((*path, "ref"), "uri wins over ref, which is not read")
    uri = sink.uri if sink.uri is not None else _ref(scope, (*path, "ref"), sink)
    filled = scope.dump(path, sink, {"headers", "auth", "tls"})
    if sink.tls is not None and sink.tls.insecure_skip_verify:
        message = "a sink's server is verified: give tls.ca"
        scope.error((*path, "tls", "insecureSkipVerify"), message)
    if uri is None:
        return None
    tls = filled.get("tls", {})
    return HttpTarget(
        uri=uri,
        headers=filled.get("headers", {}),
        auth=_auth(filled.get("auth")),
        ca=tls.get("ca"),
        cert=tls.get("cert"),
        key=tls.get("key"),
        proxy=sink.proxy,
    )


def _broker(scope: Scope, path: Path, sink: Sink, name: str) -> SinkTarget | HttpTarget | None:
    """A broker that is written to directly; the fields of an HTTP call have no place there."""
    own: Path = (*path, name)
    spec = scope.dump(own, getattr(sink, name))
    if name not in registry.names("ofevents.sinks"):
        scope.warn(
            own,
            f"this version of ofevents cannot deliver to {name} yet; use uri, ref or a topic",
            blocks=True,
        )
        return None
    for field in _HTTP_ONLY:
        if getattr(sink, field):
            scope.error(
                (*path, field), f"{field} is about an HTTP call; {name} has its own fields for it"
            )
    if sink.dapr is not None and sink.dapr.app_id is not None:
        return HttpTarget(uri=dapr.app_uri(sink.dapr), headers=sink.dapr.metadata)
    if name == "dapr" and "component" in spec:
        place = ".".join(map(str, path))
        derived = dapr.name_of(scope.namespace, scope.document.name, place)
        spec.setdefault("componentName", derived)
    key = spec.pop("key", None)
    scope.expression((*own, "key"), key, compile_key)
    if name == "mqtt" and spec["qos"] == 0:
        scope.warn((*own, "qos"), "with qos 0 the broker confirms nothing: events may be lost")
    if name == "nats" and not spec["jetstream"]:
        scope.warn(
            (*own, "jetstream"),
            "core NATS keeps nothing: an event that nobody listens for is lost",
        )
    return SinkTarget(sink=name, spec=spec, key=key)


def _ref(scope: Scope, path: Path, sink: Sink) -> str | None:
    ref = sink.ref
    assert ref is not None
    if ref.api_version not in _REFS:
        near = nearest(ref.api_version, _REFS)
        message = f"{ref.api_version} {ref.kind} cannot be called"
        scope.error((*path, "apiVersion"), message, expected=", ".join(_REFS), near=near)
        return None
    if ref.kind != _REFS[ref.api_version]:
        near = _REFS[ref.api_version]
        scope.error((*path, "kind"), f"{ref.api_version} has no kind {ref.kind}", near=near)
        return None
    found = scope.found((*path, "name"), lambda: scope.look_up.url(scope.namespace, ref))
    return None if found is None else str(found)


def _auth(filled: dict[str, Any] | None) -> HttpAuth | None:
    if not filled:
        return None
    basic, oauth2 = filled.get("basic"), filled.get("oauth2")
    names = {
        "tokenUrl": "token_url",
        "clientId": "client_id",
        "clientSecret": "client_secret",
        "scope": "scope",
    }
    return HttpAuth(
        bearer=filled.get("bearer"),
        basic=(basic["username"], basic["password"]) if basic else None,
        oauth2={names[key]: value for key, value in oauth2.items()} if oauth2 else None,
    )


def resolve_delivery(settings: DeliverySettings | None) -> ResolvedDelivery:
    """Delivery settings in seconds and counts; the defaults without any."""
    if settings is None:
        return ResolvedDelivery()
    batch = settings.batch
    return ResolvedDelivery(
        timeout=settings.timeout,
        retries=settings.retries,
        backoff=settings.backoff,
        max_backoff=settings.max_backoff,
        concurrency=settings.concurrency,
        rate=settings.rate_limit,
        ordered=settings.ordered,
        format=settings.format,
        batch_size=batch.size if batch else 0,
        batch_wait=batch.wait if batch else 0.0,
        deliver_after=settings.deliver_after,
    )


def resolve_dead_letter(
    scope: Scope, path: Path, sink: Sink | None, topic: str | None
) -> Target | None:
    """Where dead letters go; None for the owner's own. `path` is of the fields' parent."""
    if sink is not None:
        return resolve_sink(scope, (*path, "deadLetterSink"), sink)
    return topic_target(scope, topic) if topic is not None else None


def topic_target(scope: Scope, topic: str) -> TopicTarget:
    """A topic that the user names, in the document's namespace."""
    return TopicTarget(topic=topics.user(scope.namespace, topic))


def derived_name(subscriber: Subscriber, condition: str | None) -> str:
    """A name for a subscriber without one: stable while condition and target stay."""
    if subscriber.sink is not None and subscriber.sink.brokers:
        name = subscriber.sink.brokers[0]
        own = getattr(subscriber.sink, name).model_dump(mode="json", include=_PLACES[name])
        target: Any = {name: own}
        word = "-".join([name, *(part for part in own.values() if isinstance(part, str))])
    elif subscriber.sink is not None:
        target = subscriber.sink.model_dump(mode="json", exclude_none=True, include={"uri", "ref"})
        uri, ref = subscriber.sink.uri, subscriber.sink.ref
        word = (ref.name if ref else "") if uri is None else uri.partition("://")[2]
    else:
        target, word = {"topic": subscriber.topic}, subscriber.topic or ""
    slug = re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")[:40].rstrip("-") or "subscriber"
    text = json.dumps([condition, target], sort_keys=True)
    return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
