"""One document while it is resolved: its place, its problems, its references.

Used by `sources.py`, `triggers.py`, `targets.py` and `buses.py`; a path that they
name is turned into a file's line here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from ofevents.api.meta import Model
from ofevents.cel import CelError, Program
from ofevents.resolve.documents import Loaded
from ofevents.resolve.lookup import LookUp, NotFound
from ofevents.resolve.problems import Path, Problem, locate, show_path


class Scope:
    """Collects the problems of one document."""

    def __init__(self, document: Loaded, look_up: LookUp) -> None:
        self.document = document
        self.look_up = look_up
        self.problems: list[Problem] = []

    @property
    def namespace(self) -> str:
        return self.document.namespace or "default"

    def error(self, path: Path, message: str, *, expected: str = "", near: str = "") -> None:
        """The document is wrong there."""
        self._add(self._problem("error", path, message, expected=expected, nearest=near))

    def warn(self, path: Path, message: str, *, near: str = "", blocks: bool = False) -> None:
        """It is allowed, and a person should know; with `blocks` it cannot run as things are."""
        self._add(self._problem("warning", path, message, nearest=near, blocks=blocks))

    def _problem(self, severity: Any, path: Path, message: str, **more: Any) -> Problem:
        place = locate(self.document.positions, path)
        more = {"line": place.line, "column": place.column, **more}
        return Problem(
            severity,
            message,
            self.document.file,
            resource=self.document.resource,
            path=show_path(path),
            **more,
        )

    def blocked(self, *, without: Collection[str] = ()) -> bool:
        """Whether something that it refers to is missing, but for fields of `spec` in `without`."""
        paths = tuple(f"spec.{field}." for field in without)
        return any(each.blocks and not each.path.startswith(paths) for each in self.problems)

    def _add(self, problem: Problem) -> None:
        # An implicit Trigger looks at the same fields as its EventSource does.
        if problem not in self.problems:
            self.problems.append(problem)

    def expression(self, path: Path, text: str | None, compiler: Callable[[str], Program]) -> None:
        """Check an expression; its problems get line and column in the file and in it."""
        if text is None:
            return
        try:
            warnings = compiler(text).warnings
        except CelError as error:
            for problem in error.problems:
                self._expression("error", path, problem)
        else:
            for problem in warnings:
                self._expression("warning", path, problem)

    def _expression(self, severity: Any, path: Path, problem: Any) -> None:
        place = locate(self.document.positions, path)
        line, column = place.line, place.column
        if place.text is not None:
            line = place.text[0] + problem.line - 1
            column = place.text[1] + problem.column - 1
        self._add(
            self._problem(
                severity,
                path,
                problem.message,
                line=line,
                column=column,
                caret=problem.caret,
                inner=(problem.line, problem.column),
            )
        )

    def found(self, path: Path, find: Callable[[], Any]) -> Any:
        """What `find` returns; None and a blocking warning when it leads nowhere."""
        try:
            return find()
        except NotFound as missing:
            self.warn(path, missing.message, near=missing.near, blocks=True)
            return None

    def dump(self, path: Path, model: Model, fields: set[str] | None = None) -> dict[str, Any]:
        """A model as JSON values with secrets in place; camelCase, without what is not set."""
        dumped = model.model_dump(mode="json", by_alias=True, exclude_none=True, include=fields)
        filled = self._fill(path, dumped)
        assert isinstance(filled, dict)
        return filled

    def text(self, path: Path, model: Model, field: str) -> str | None:
        """One credential of a model, with its reference in place."""
        alias = type(model).model_fields[field].alias or field
        found = self.dump(path, model, {field}).get(alias)
        return None if found is None else str(found)

    def _fill(self, path: Path, value: Any) -> Any:
        if isinstance(value, list):
            return [self._fill((*path, index), each) for index, each in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if set(value) == {"valueFrom"} and set(value["valueFrom"]) == {"secretKeyRef"}:
            return self._secret((*path, "valueFrom", "secretKeyRef"), value["valueFrom"])
        if "secretKeyRef" in value and "name" in value:
            # A setting of a Dapr component.
            text = self._secret((*path, "secretKeyRef"), value)
            return {"name": value["name"], "value": text}
        return {key: self._fill((*path, key), each) for key, each in value.items()}

    def _secret(self, path: Path, holder: dict[str, Any]) -> str:
        ref = holder["secretKeyRef"]
        found = self.found(
            path, lambda: self.look_up.secret(self.namespace, ref["name"], ref["key"])
        )
        return str(found) if found is not None else ""
