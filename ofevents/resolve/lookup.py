"""Finding what a resource refers to: the port, and the one that looks in files.

`resolve` asks a `LookUp` and knows nothing else of the world. `FileLookUp` is that
of a folder; the controller's asks the API server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ofevents.api.documents import Document, Function, KnativeService, Secret, Service
from ofevents.api.eventbus import ClusterEventBus, EventBus, EventBusSpec, JetStreamSpec
from ofevents.api.eventsource import EventSource
from ofevents.api.sink import Ref
from ofevents.errors import ConfigError
from ofevents.resolve.documents import Documents, Loaded, label
from ofevents.resolve.problems import nearest


class NotFound(Exception):
    """A reference that leads nowhere; the message says what is missing.

    `near` is the name that was probably meant, "" for none; `unseen` is for what may be
    there, and is where nothing can be looked at.
    """

    def __init__(self, message: str, near: str = "", *, unseen: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.near = near
        self.unseen = unseen


@dataclass(frozen=True, slots=True)
class FoundBus:
    """A bus by its full name: `namespace/name`, or just the name of a cluster-wide one."""

    name: str
    spec: EventBusSpec


def parse_urls(texts: Iterable[str]) -> dict[str, str]:
    """`name=URL` and `namespace/name=URL` options as the `urls` of a FileLookUp.

    Raises:
        ConfigError: naming the text that is neither.
    """
    urls = {}
    for text in texts:
        name, equals, url = text.partition("=")
        if not name or not equals or not url.startswith(("http://", "https://")):
            raise ConfigError(f"{text!r} is no override; expected name=http://host:port/path")
        urls[name] = url
    return urls


class LookUp(Protocol):
    """Every method raises NotFound for a reference that leads nowhere."""

    def secret(self, namespace: str, name: str, key: str) -> str:
        """The text under a key of a Secret."""
        ...

    def bus(self, namespace: str, name: str) -> FoundBus:
        """The namespace's EventBus of that name, or else the ClusterEventBus."""
        ...

    def event_source(self, namespace: str, name: str) -> EventSource:
        """An EventSource that a Trigger reads."""
        ...

    def url(self, namespace: str, ref: Ref) -> str:
        """Where a Service or Function can be called."""
        ...


class FileLookUp:
    """Looks in a set of documents.

    Args:
        documents: the set.
        urls: where services run locally: `name` or `namespace/name` -> URL; wins.
    """

    def __init__(self, documents: Documents, urls: Mapping[str, str] | None = None) -> None:
        self._urls = dict(urls or {})
        self._documents = documents
        self._index: dict[tuple[type[Document], str, str], Loaded] = {
            (type(each.model), each.namespace, each.name): each for each in documents.loaded
        }
        self._refused = {each.resource for each in documents.problems if each.severity == "error"}

    def _find(self, namespace: str, name: str, kind: type[Document]) -> Document:
        if found := self._index.get((kind, namespace, name)):
            return found.model
        known = self._documents.of(kind)
        same = [each.name for each in known if each.namespace == namespace]
        what = label("Service" if kind is KnativeService else kind.__name__, namespace, name)
        if what in self._refused:
            raise NotFound(f"{what} has errors itself")
        raise NotFound(f"{what} is not in the set", nearest(name, same))

    def secret(self, namespace: str, name: str, key: str) -> str:
        found = self._find(namespace, name, Secret)
        assert isinstance(found, Secret)
        try:
            value = found.value(key)
        except UnicodeDecodeError:
            raise NotFound(f"key {key} of Secret {namespace}/{name} is not text") from None
        if value is None:
            near = nearest(key, [*found.data, *found.string_data])
            raise NotFound(f"Secret {namespace}/{name} has no key {key}", near)
        return value

    def bus(self, namespace: str, name: str) -> FoundBus:
        own = self._index.get((EventBus, namespace, name))
        found = own or self._index.get((ClusterEventBus, "", name))
        if found is not None:
            assert isinstance(found.model, (EventBus, ClusterEventBus))
            return FoundBus(f"{namespace}/{name}" if own else name, found.model.spec)
        for what in (label("EventBus", namespace, name), label("ClusterEventBus", "", name)):
            if what in self._refused:
                raise NotFound(f"{what} has errors itself")
        if name == "default":
            # A folder without an EventBus runs on a server of its own.
            return FoundBus("default", EventBusSpec(jetstream=JetStreamSpec()))
        known = [each.name for each in self._documents.of(EventBus, ClusterEventBus)]
        raise NotFound(
            f"neither EventBus {namespace}/{name} nor ClusterEventBus {name} is in the set",
            nearest(name, [*known, "default"]),
        )

    def event_source(self, namespace: str, name: str) -> EventSource:
        found = self._find(namespace, name, EventSource)
        assert isinstance(found, EventSource)
        return found

    def url(self, namespace: str, ref: Ref) -> str:
        where = ref.namespace or namespace
        for key in (f"{where}/{ref.name}", ref.name):
            if key in self._urls:
                return self._urls[key]
        kinds: dict[str, type[Document]] = {
            "v1": Service,
            "serving.knative.dev/v1": KnativeService,
        }
        found = self._find(where, ref.name, kinds.get(ref.api_version, Function))
        assert isinstance(found, (Service, KnativeService, Function))
        if found.url:
            return found.url
        if isinstance(found, Service):
            return f"http://{ref.name}.{where}.svc.cluster.local"
        raise NotFound(
            f"{label(ref.kind, where, ref.name)} does not say where it can be called "
            "(annotation events.openfunction.io/url, or its status)"
        )
