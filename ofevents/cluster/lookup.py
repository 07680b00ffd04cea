"""What resources refer to, answered out of the caches; and what was asked for.

`resolve` asks a `ClusterLookUp` made for one resolution. A Secret's value is answered by
a marker that stands for it, so that no credential gets into a resolved spec: `secrets`
says which. `asked` names every referent, found or not: when one of them appears, changes
or goes away, this resolution, and no other, is made again.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from ofevents.api.documents import Function, KnativeService, Service
from ofevents.api.eventbus import ClusterEventBus, EventBus
from ofevents.api.eventsource import EventSource
from ofevents.api.secretref import marker
from ofevents.api.sink import Ref
from ofevents.cluster import kinds
from ofevents.cluster.cache import Object
from ofevents.cluster.caches import Caches
from ofevents.cluster.kinds import Kind
from ofevents.resolve import Documents, FoundBus, Loaded, NotFound, interpret, resolve
from ofevents.resolve.documents import label
from ofevents.resolve.problems import nearest

Referent = tuple[Kind, str, str]
"""Kind, namespace ("" for cluster-wide kinds) and name."""
_REF_KINDS: Final = {"v1": kinds.SERVICE, "serving.knative.dev/v1": kinds.KNATIVE_SERVICE}
_MODELS: Final[dict[Kind, type[Service | KnativeService | Function]]] = {
    kinds.SERVICE: Service,
    kinds.KNATIVE_SERVICE: KnativeService,
    kinds.FUNCTION: Function,
    kinds.FUNCTION_BETA1: Function,
}


@dataclass(frozen=True, slots=True)
class UsedSecret:
    """A key of a Secret that a resolution has used, with its value now."""

    name: str
    key: str
    value: str


class ClusterLookUp:
    """The look-up of one resolution.

    Attributes:
        asked: the referents, found or not.
        secrets: marker -> what it stands for.
    """

    def __init__(self, caches: Caches) -> None:
        self._caches = caches
        self.asked: set[Referent] = set()
        self.secrets: dict[str, UsedSecret] = {}

    def secret(self, namespace: str, name: str, key: str) -> str:
        found = self._find(kinds.SECRET, namespace, name)
        data = found.get("data") or {}
        if key not in data:
            near = nearest(key, data)
            raise NotFound(f"Secret {namespace}/{name} has no key {key}", near)
        try:
            value = base64.b64decode(data[key]).decode()
        except (UnicodeDecodeError, binascii.Error):
            raise NotFound(f"key {key} of Secret {namespace}/{name} is not text") from None
        mark = marker(name, key)
        self.secrets[mark] = UsedSecret(name, key, value)
        return mark

    def bus(self, namespace: str, name: str) -> FoundBus:
        own = self._look(kinds.EVENT_BUS, namespace, name)
        found = own or self._look(kinds.CLUSTER_EVENT_BUS, "", name)
        if found is None:
            known = [
                *self._caches[kinds.EVENT_BUS].names(namespace),
                *self._caches[kinds.CLUSTER_EVENT_BUS].names(""),
            ]
            raise NotFound(
                f"there is neither EventBus {namespace}/{name} nor ClusterEventBus {name}",
                nearest(name, known),
            )
        what = label(found["kind"], namespace if own else "", name)
        model = _sound(found, what)
        assert isinstance(model, (EventBus, ClusterEventBus))
        if sentence := homeless(model):
            raise NotFound(f"{what}: {sentence}")
        return FoundBus(f"{namespace}/{name}" if own else name, model.spec)

    def event_source(self, namespace: str, name: str) -> EventSource:
        found = self._find(kinds.EVENT_SOURCE, namespace, name)
        loaded, _ = interpret(found)
        if loaded is None or not isinstance(loaded.model, EventSource):
            raise NotFound(f"EventSource {namespace}/{name} has errors itself")
        return loaded.model

    def allowed(self, namespace: str, name: str) -> Sequence[str] | None:
        """`allowNamespaces` of an EventSource, as it is written; None where it says nothing.

        Read even of one that has errors elsewhere: what it forbids, it forbids.
        """
        found = self._look(kinds.EVENT_SOURCE, namespace, name) or {}
        allowed = (found.get("spec") or {}).get("allowNamespaces")
        return allowed if isinstance(allowed, list) else None

    def url(self, namespace: str, ref: Ref) -> str:
        where = ref.namespace or namespace
        kind = _REF_KINDS.get(ref.api_version, kinds.FUNCTION)
        if kind is kinds.FUNCTION and not self._caches[kind].there:
            self.asked.add((kind, where, ref.name))
            kind = kinds.FUNCTION_BETA1
        found = self._find(kind, where, ref.name)
        what = label(ref.kind, where, ref.name)
        try:
            model = _MODELS[kind].model_validate(_known(found))
        except ValidationError:
            raise NotFound(f"{what} is not of a form that ofevents reads") from None
        if model.url:
            return model.url
        if isinstance(model, Service):
            return _service_url(model, where, ref.name)
        raise NotFound(f"{what} does not say yet where it can be called (status)")

    def _look(self, kind: Kind, namespace: str, name: str) -> Object | None:
        self.asked.add((kind, namespace, name))
        return self._caches[kind].get(namespace, name)

    def _find(self, kind: Kind, namespace: str, name: str) -> Object:
        found = self._look(kind, namespace, name)
        if found is not None:
            return found
        what = label(kind.kind, namespace, name)
        if not self._caches.watches(namespace):
            sentence = f"{what}: this controller does not look at namespace {namespace}"
            raise NotFound(sentence, unseen=True)
        if not self._caches[kind].there:
            raise NotFound(f"{what}: this cluster has no {kind.kind} of {kind.api_version}")
        raise NotFound(f"there is no {what}", nearest(name, self._caches[kind].names(namespace)))


def homeless(bus: EventBus | ClusterEventBus) -> str:
    """What an embedded bus lacks on a cluster; "" for any other."""
    spec = bus.spec.jetstream
    if spec is None or spec.url is not None:
        return ""
    return (
        "a cluster has no embedded bus: give spec.jetstream.url the address of a NATS server "
        "with JetStream, such as nats://nats.nats:4222"
    )


def _known(found: Object) -> dict[str, Any]:
    """Without what the model of a referent has no use for."""
    metadata = {
        name: value
        for name, value in found["metadata"].items()
        if name in ("name", "namespace", "annotations")
    }
    rest = {name: found[name] for name in ("spec", "status") if found.get(name)}
    return {"apiVersion": found["apiVersion"], "kind": found["kind"], "metadata": metadata, **rest}


def _service_url(service: Service, namespace: str, name: str) -> str:
    """Its name, with the port where it has one only and that is not HTTP's own."""
    ports = [each.get("port") for each in (service.spec or {}).get("ports") or ()]
    port = f":{ports[0]}" if len(ports) == 1 and ports[0] != 80 else ""
    return f"http://{name}.{namespace}.svc.cluster.local{port}"


def _sound(found: Object, what: str) -> Any:
    """The model of one of our own kinds, if nothing is wrong with it."""
    loaded, _ = interpret(found)
    if loaded is None or resolve(Documents((Loaded("", loaded.model),), ())).errors:
        raise NotFound(f"{what} has errors itself")
    return loaded.model
