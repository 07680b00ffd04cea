"""Files to checked documents, with every mistake of every file at once.

`load` is called by `ofevents run`, `validate` and the workers; `interpret` also by
whoever has an object without a file (admission, the controller).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import ValidationError

from ofevents.api import documents as api
from ofevents.api.eventbus import ClusterEventBus
from ofevents.api.meta import API_VERSION, GROUP
from ofevents.resolve.explain import explain
from ofevents.resolve.problems import Path, Position, Problem, locate, nearest, show_path
from ofevents.resolve.reading import RawDocument, read
from ofevents.resolve.salvage import salvage

SUFFIXES: Final = (".yaml", ".yml", ".json")
_SKIPPED: Final = ("kustomization.yaml", "kustomization.yml")
"""Files of a folder that say how it is applied, and are no resources."""
_FOREIGN_KINDS: Final = ("Secret", "Service", "Function")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A document that its model accepted, and where it stands."""

    file: str
    model: api.Document
    positions: Mapping[Path, Position] = field(default_factory=dict, repr=False)

    @property
    def kind(self) -> str:
        return self.model.kind

    @property
    def name(self) -> str:
        return self.model.metadata.name

    @property
    def namespace(self) -> str:
        """ "" for a ClusterEventBus."""
        if isinstance(self.model, ClusterEventBus):
            return ""
        return self.model.metadata.namespace or "default"

    @property
    def resource(self) -> str:
        """`Trigger shop/orders`."""
        return label(self.kind, self.namespace, self.name)


def label(kind: str, namespace: str, name: str) -> str:
    """How a resource is named to people."""
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


@dataclass(frozen=True, slots=True)
class Documents:
    """What the files hold: the good documents, and the problems of all."""

    loaded: tuple[Loaded, ...]
    problems: tuple[Problem, ...]
    files: tuple[str, ...] = ()
    """Every file that was read, for `--watch`."""
    refused: tuple[Loaded, ...] = ()
    """What could be salvaged of documents with errors, to look for more of them."""

    def of(self, *kinds: type[api.Document]) -> Iterator[Loaded]:
        """The documents of these models, in the order of the files."""
        return (each for each in self.loaded if isinstance(each.model, kinds))


def load(paths: Iterable[str | FilePath]) -> Documents:
    """Read files and folders (their .yaml, .yml and .json, not subfolders; `-` is stdin).

    Never raises for what is in them: look at `problems`.
    """
    raw: list[RawDocument] = []
    problems: list[Problem] = []
    files: dict[str, None] = {}
    for path in paths:
        found, missing = _files(path)
        problems += missing
        files.update(dict.fromkeys(found))
    for file in files:
        text = _text(file, problems)
        if text is not None:
            documents, wrong = read(text, file)
            raw += documents
            problems += wrong
    loaded: list[Loaded] = []
    refused: list[Loaded] = []
    for document in raw:
        problems += document.problems
        for item in _items(document):
            model, wrong = interpret(item.value, file=item.file, positions=item.positions)
            problems += wrong
            if model is not None:
                loaded.append(model)
            elif isinstance(item.value, dict) and (rest := salvage(item.value)) is not None:
                refused.append(Loaded(item.file, rest, item.positions))
    unique, twice = _unique(loaded)
    return Documents(unique, tuple(problems + twice), tuple(files), tuple(refused))


def _files(path: str | FilePath) -> tuple[list[str], list[Problem]]:
    if str(path) == "-":
        return ["-"], []
    path = FilePath(path)
    if not path.is_dir():
        return [str(path)], []
    found = sorted(
        str(each)
        for each in path.iterdir()
        if each.suffix in SUFFIXES
        and each.is_file()
        and not each.name.startswith(".")
        and each.name not in _SKIPPED
    )
    if found:
        return found, []
    message = f"the folder {path} has no {', '.join(SUFFIXES)} files (subfolders are not read)"
    return [], [Problem("error", message, str(path))]


def _text(file: str, problems: list[Problem]) -> str | None:
    try:
        if file == "-":
            return sys.stdin.read()
        return FilePath(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        problems.append(Problem("error", "there is no such file or folder", file))
    except UnicodeDecodeError as error:
        problems.append(Problem("error", f"not UTF-8 text: byte {error.start} is wrong", file))
    except OSError as error:
        problems.append(Problem("error", f"cannot be read: {error.strerror}", file))
    return None


def _items(document: RawDocument) -> Iterator[RawDocument]:
    """The document itself, or the items of a `kind: List` as kubectl prints it."""
    value = document.value
    is_list = isinstance(value, dict) and value.get("kind") == "List"
    if not is_list or not isinstance(value.get("items"), list):
        yield document
        return
    for index, item in enumerate(value["items"]):
        start: Path = ("items", index)
        positions = {
            path[2:]: place for path, place in document.positions.items() if path[:2] == start
        }
        yield RawDocument(document.file, item, positions)


def _unique(loaded: list[Loaded]) -> tuple[tuple[Loaded, ...], list[Problem]]:
    first: dict[tuple[str, str, str], Loaded] = {}
    problems = []
    for each in loaded:
        group = each.model.api_version.rpartition("/")[0]
        key = (f"{group}/{each.kind}", each.namespace, each.name)
        if (other := first.setdefault(key, each)) is not each:
            there = locate(other.positions, ("metadata", "name"))
            here = locate(each.positions, ("metadata", "name"))
            problems.append(
                Problem(
                    "error",
                    f"{each.resource} is declared twice; also in {other.file}:{there.line}",
                    each.file,
                    here.line,
                    here.column,
                    each.resource,
                    "metadata.name",
                )
            )
    return tuple(first.values()), problems


def interpret(
    value: Any, *, file: str = "", positions: Mapping[Path, Position] | None = None
) -> tuple[Loaded | None, list[Problem]]:
    """One document as its model, or the problems that keep it from being one.

    A document of a foreign group (a Deployment, say) is neither: it gets a warning.
    """
    places = positions or {}
    name = _label(value)

    def problem(
        path: Path, message: str, expected: str = "", near: str = "", severity: Any = "error"
    ) -> Problem:
        at = locate(places, path)
        shown = show_path(path)
        return Problem(severity, message, file, at.line, at.column, name, shown, expected, near)

    if not isinstance(value, dict):
        return None, [problem((), "a document must be a mapping with apiVersion, kind and spec")]
    version, kind = value.get("apiVersion"), value.get("kind")
    model = api.find(version, kind) if isinstance(version, str) and isinstance(kind, str) else None
    if model is None:
        return None, [problem(*_unknown(version, kind))]
    try:
        document = model.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        found = explain(error, model)
        return None, [problem(path, message, *rest) for path, message, *rest in found]
    return Loaded(file, document, places), []


def _unknown(version: Any, kind: Any) -> tuple[Path, str, str, str, str]:
    """Why no model fits: an error when it was probably meant for us, else a warning."""
    kinds = [*api.RESOURCES, *_FOREIGN_KINDS]
    for field_name, found in (("apiVersion", version), ("kind", kind)):
        if not isinstance(found, str):
            expected = API_VERSION if field_name == "apiVersion" else ", ".join(api.RESOURCES)
            return (), f"{field_name} is missing", expected, "", "error"
    group = version.rpartition("/")[0]
    if group == GROUP or (not group and kind not in ("Secret", "Service")):
        if version != API_VERSION and (group == GROUP or kind in api.RESOURCES):
            return ("apiVersion",), f"unknown apiVersion {version}", "", API_VERSION, "error"
        if group == GROUP:
            near = nearest(kind, api.RESOURCES)
            return ("kind",), f"unknown kind {kind}", ", ".join(api.RESOURCES), near, "error"
    if kind in api.RESOURCES or nearest(group, [GROUP]):
        expected = f"{API_VERSION} for the kinds {', '.join(api.RESOURCES)}"
        return ("apiVersion",), f"apiVersion {version} is not read", expected, "", "error"
    read_kinds = ", ".join(kinds)
    return (), f"{version} {kind} is not read (only {read_kinds} are)", "", "", "warning"


def _label(value: Any) -> str:
    """The resource's name for a problem, as far as the document has one."""
    if not isinstance(value, dict) or not isinstance(value.get("metadata"), dict):
        return ""
    kind, metadata = value.get("kind"), value["metadata"]
    name, namespace = metadata.get("name"), metadata.get("namespace") or "default"
    if not all(isinstance(each, str) for each in (kind, name, namespace)):
        return ""
    return label(str(kind), "" if kind == "ClusterEventBus" else namespace, str(name))
