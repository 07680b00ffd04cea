"""Sets of documents for the tests of resolving: text in, Resolution out."""

from __future__ import annotations

from pathlib import Path

from ofevents.api.resolved import ResolvedSource, ResolvedTrigger
from ofevents.resolve import FileLookUp, Problem, Resolution, load, resolve

HEAD = "apiVersion: events.openfunction.io/v1alpha1\n"


def resource(kind: str, name: str, spec: str, namespace: str = "") -> str:
    """A document; `spec` is YAML, its first line is line 4 of the document."""
    where = f", namespace: {namespace}" if namespace else ""
    indented = "".join(f"  {line}\n" for line in spec.strip("\n").splitlines())
    return f"{HEAD}kind: {kind}\nmetadata: {{name: {name}{where}}}\nspec:\n{indented}"


SHOP = resource(
    "EventSource",
    "shop",
    """
eventBus: default
webhook:
  orders: {}
  payments: {path: /pay}
""",
)


def trigger(subscribers: str, inputs: str = "", more: str = "", name: str = "t") -> str:
    """A Trigger in namespace default on `shop`; the subscribers begin in line 9 of it."""
    inputs = inputs or (
        "  orders: {eventSource: shop, event: orders}\n"
        "  payments: {eventSource: shop, event: payments}"
    )
    return resource(
        "Trigger", name, f"eventBus: default\ninputs:\n{inputs}\nsubscribers:\n{subscribers}{more}"
    )


def of(folder: Path, *documents: str, urls: dict[str, str] | None = None) -> Resolution:
    """The documents, in one file `set.yaml` of the folder, resolved."""
    (folder / "set.yaml").write_text("---\n".join(documents), encoding="utf-8")
    loaded = load([folder])
    return resolve(loaded, FileLookUp(loaded, urls))


def clean(resolution: Resolution) -> Resolution:
    """The same, after making sure that it has no problems."""
    assert not resolution.problems, "\n".join(map(str, resolution.problems))
    return resolution


def only(resolution: Resolution) -> Problem:
    """The one problem, its file as in the folder."""
    assert len(resolution.problems) == 1, "\n".join(map(str, resolution.problems))
    return resolution.problems[0]


def sources(resolution: Resolution) -> dict[str, ResolvedSource]:
    """EventSource workers by entry."""
    return {each.entry: each for each in resolution.workers if isinstance(each, ResolvedSource)}


def triggers(resolution: Resolution) -> list[ResolvedTrigger]:
    """Trigger workers."""
    return [each for each in resolution.workers if isinstance(each, ResolvedTrigger)]
