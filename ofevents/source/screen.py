"""Decides what becomes of an event before the bus: stamp, check, filter. Pure.

Called by both ways out of a source (`emit`, `direct`), in this order:

1. `attributes`: CEL that the user wrote sets type, source, subject, id, partitionkey;
   nothing else ever changes an event (promise 3).
2. `dataSchema`: what violates it is dead-lettered with the path of the violation.
3. `filter`: what it does not let through goes no further.

An expression that fails on an event follows `onError`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ofevents.api.resolved import ResolvedSource
from ofevents.cel import STRING, Program, to_text
from ofevents.errors import BadEvent, EvaluationError, PermanentError
from ofevents.event import BrokenEvent, Event, check_attributes
from ofevents.resolve.expressions import compile_filter, compile_value
from ofevents.telemetry import FILTERED

_LONGEST: Final = 300
"""Characters of a violation's sentence: it quotes the data."""

Check = Callable[[Any], None]


class SchemaViolation(PermanentError):
    """The data is not what `dataSchema` says; the message has the path."""

    reason = "SchemaViolation"


class Screened(PermanentError):
    """The event must be dead-lettered.

    Attributes:
        where: the step that failed: adapter, attributes, dataSchema or filter.
        error: why.
    """

    def __init__(self, where: str, error: PermanentError) -> None:
        super().__init__(str(error))
        self.where = where
        self.error = error
        self.reason = error.reason


class Screen:
    """What one entry asks of its events; made once, when the worker starts."""

    def __init__(self, spec: ResolvedSource) -> None:
        """Compiles everything. Raises ConfigError (CelError) for what does not compile."""
        self._attributes: list[tuple[str, Program]] = [
            (name, compile_value(text, STRING)) for name, text in spec.attributes.items()
        ]
        self._check = None if spec.data_schema is None else _schema_check(spec.data_schema)
        self._filter = None if spec.filter is None else compile_filter(spec.filter)
        self._skip = spec.on_error == "skip"
        self._filtered = FILTERED.labels(spec.namespace, spec.name, "source", "filter")
        self._failed = FILTERED.labels(spec.namespace, spec.name, "source", "onError")

    def judge(self, event: Event) -> Event | None:
        """The event as it goes on, None where it goes no further.

        Raises:
            Screened: it must be dead-lettered.
        """
        if isinstance(event, BrokenEvent):
            raise Screened("adapter", event.error)
        if self._attributes:
            try:
                event = self._stamp(event)
            except (EvaluationError, BadEvent) as error:
                self._on_error("attributes", error)
                return None
        if self._check is not None:
            try:
                self._check(event.value)
            except (SchemaViolation, EvaluationError) as error:
                raise Screened("dataSchema", error) from error
        if self._filter is None:
            return event
        try:
            wanted = self._filter.evaluate({"event": event.view()})
        except EvaluationError as error:
            self._on_error("filter", error)
            return None
        if wanted:
            return event
        self._filtered.inc()
        return None

    def _stamp(self, event: Event) -> Event:
        bindings = {"event": event.view()}
        made = {
            name: to_text(program.evaluate(bindings), f"attribute {name}")
            for name, program in self._attributes
        }
        stamped = event.replace(**made)
        check_attributes(stamped.attributes)
        return stamped

    def _on_error(self, where: str, error: PermanentError) -> None:
        if not self._skip:
            raise Screened(where, error) from error
        self._failed.inc()


def _schema_check(schema: dict[str, Any]) -> Check:
    # jsonschema takes 0.1 s to import, and few sources have a schema.
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    from ofevents.resolve.dataschema import data_validator

    validator = data_validator(schema)

    def check(value: Any) -> None:
        try:
            worst = best_match(validator.iter_errors(value))
        except Unresolvable as error:
            raise SchemaViolation(f"the schema's $ref {error.ref!r} leads nowhere") from None
        if worst is not None:
            path = worst.json_path.replace("$", "data", 1)
            raise SchemaViolation(f"{path[:_LONGEST]}: {worst.message[:_LONGEST]}")

    return check
