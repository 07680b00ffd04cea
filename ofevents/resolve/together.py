"""What is wrong between resources that are each right: seen only over the whole set."""

from __future__ import annotations

from typing import Any

from ofevents.api.eventsource import EventSource
from ofevents.api.trigger import Trigger
from ofevents.api.webhook import WebhookSpec
from ofevents.resolve.documents import Documents, Loaded
from ofevents.resolve.problems import Path, Problem, locate, show_path


def check_together(documents: Documents) -> list[Problem]:
    """Warnings that concern several documents."""
    return [*_open_to_all(documents), *_same_address(documents)]


def _warning(document: Loaded, path: Path, message: str) -> Problem:
    place = locate(document.positions, path)
    return Problem(
        "warning",
        message,
        document.file,
        place.line,
        place.column,
        document.resource,
        show_path(path),
    )


def _open_to_all(documents: Documents) -> list[Problem]:
    """EventSources without allowNamespaces that a Trigger of another namespace reads."""
    readers: dict[tuple[str, str], set[str]] = {}
    for each in documents.of(Trigger):
        assert isinstance(each.model, Trigger)
        for given in each.model.spec.inputs.values():
            namespace = given.namespace or each.namespace
            if given.event_source is not None and namespace != each.namespace:
                readers.setdefault((namespace, given.event_source), set()).add(each.resource)
    problems = []
    for document in documents.of(EventSource):
        assert isinstance(document.model, EventSource)
        names = readers.get((document.namespace, document.name))
        if names and document.model.spec.allow_namespaces is None:
            message = (
                f"{', '.join(sorted(names))} of another namespace reads these events; say in "
                "allowNamespaces which namespaces may"
            )
            problems.append(_warning(document, ("spec", "allowNamespaces"), message))
    return problems


def _same_address(documents: Documents) -> list[Problem]:
    """Webhooks at one address: on the cluster each has a Pod, in one process one is refused."""
    taken: dict[tuple[Any, ...], str] = {}
    problems = []
    for document in documents.of(EventSource):
        assert isinstance(document.model, EventSource)
        for kind, name, entry in document.model.spec.entries():
            if not isinstance(entry, WebhookSpec) or entry.port == 0:
                continue
            path = entry.path or f"/{document.name}/{name}"
            owner = f"{document.resource} {name}"
            other = taken.setdefault((entry.host, entry.port, path), owner)
            if other != owner:
                message = (
                    f"{other} has the same address http://{entry.host}:{entry.port}{path}: in one "
                    "process, as with `ofevents run`, one of them is refused; give it another path"
                )
                problems.append(_warning(document, ("spec", kind, name), message))
    return problems
