"""The status of a resource, as a value: conditions merged by type, never appended.

    Ready     the workers run and are connected, or are scaled to zero
    Stalled   a person should act; the reason says on what
    Warning   it runs, and a person should know something

Pure. A time changes only with its condition's status, so that nothing is written while
nothing has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from ofevents.controller.pods import WorkerState
from ofevents.resolve import Blocked, Problem

_LONGEST: Final = 1024
Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition without its time."""

    type: str
    status: Truth
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a status is made of.

    Attributes:
        trouble: what keeps it from working, (reason, sentence), the worst first.
        warnings: what a person should know, as sentences.
        workers: the workers that shall run.
        idle: what its readiness is called where it has no worker of its own.
        sink: where events are delivered, for `kubectl get`.
        suspended: it is asked to do nothing.
    """

    trouble: Sequence[tuple[str, str]] = ()
    warnings: Sequence[tuple[str, str]] = ()
    workers: Sequence[WorkerState] = ()
    idle: tuple[Truth, str, str] = ("True", "Ready", "")
    sink: str | None = None
    suspended: bool = False


def sentences(problems: Iterable[Problem]) -> str:
    """Problems in one text: where in the resource, and what."""
    return _short("; ".join(f"{one.path}: {one.sentence}" if one.path else one.sentence
                            for one in problems))  # fmt: skip


def blocked(found: Iterable[Blocked]) -> list[tuple[str, str]]:
    """Workers that cannot run as trouble; the same reason once."""
    seen: dict[str, None] = {}
    for one in found:
        seen.setdefault(sentences(one.problems))
    return [("ReferenceNotFound", text) for text in seen]


def conditions(facts: Facts) -> list[Condition]:
    """Ready, Stalled and Warning."""
    stalled = [*facts.trouble]
    stalled += [(one.reason, _of(one, facts)) for one in facts.workers if one.state == "stalled"]
    return [_ready(facts, stalled), _told("Stalled", stalled), _told("Warning", facts.warnings)]


def _ready(facts: Facts, stalled: Sequence[tuple[str, str]]) -> Condition:
    if stalled:
        return Condition("Ready", "False", stalled[0][0], _joined(stalled))
    starting = [one for one in facts.workers if one.state == "starting"]
    if starting:
        text = "; ".join(_of(one, facts) for one in starting)
        return Condition("Ready", "False", starting[0].reason, _short(text))
    if not facts.workers:
        return Condition("Ready", *facts.idle)
    reasons = {one.reason for one in facts.workers}
    if facts.suspended and "Updating" not in reasons:  # one from before it was may still work
        return Condition("Ready", "True", "Suspended", "spec.suspend is true")
    notable = [one for one in facts.workers if one.message and one.reason != "ScaledToZero"]
    message = "; ".join(_of(one, facts) for one in notable)
    for reason in ("Updating", "Scaling", "Running", "ScaledToZero"):
        if reason in reasons:
            return Condition("Ready", "True", reason, _short(message))
    return Condition("Ready", "True", "Running", _short(message))


def _of(worker: WorkerState, facts: Facts) -> str:
    return f"{worker.name}: {worker.message}" if len(facts.workers) > 1 else worker.message


def _told(type: str, found: Sequence[tuple[str, str]]) -> Condition:
    if not found:
        return Condition(type, "False", "None")
    return Condition(type, "True", found[0][0], _joined(found))


def _joined(found: Sequence[tuple[str, str]]) -> str:
    return _short("; ".join(dict.fromkeys(text for _, text in found if text)))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def merge(
    before: Mapping[str, Any] | None, facts: Facts, generation: int, now: float
) -> tuple[dict[str, Any], list[Condition]]:
    """The status to write, and the conditions whose status or reason has changed."""
    old = {each["type"]: each for each in (before or {}).get("conditions") or ()}
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    changed, shown = [], []
    for one in conditions(facts):
        was = old.get(one.type, {})
        same = was.get("status") == one.status
        if not same or was.get("reason") != one.reason:
            changed.append(one)
        shown.append({
            "type": one.type,
            "status": one.status,
            "reason": one.reason,
            "message": one.message,
            "lastTransitionTime": was.get("lastTransitionTime", stamp) if same else stamp,
            "observedGeneration": generation,
        })  # fmt: skip
    status: dict[str, Any] = {"conditions": shown, "observedGeneration": generation}
    if facts.sink:
        status["sink"] = facts.sink
    return status, changed
