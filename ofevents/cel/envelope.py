"""Which attributes a CloudEvent has, as far as that is known before one arrives.

The nine attributes are known; extensions are open, so any name of lower-case letters
and digits may be one. A name that is nearly an attribute's (`event.tpe`) is taken for a
slip of the pen and refused: an extension that really is called so can be read as
`event["tpe"]`.
"""

from __future__ import annotations

import re

from ofevents.cel.types import DYN, EVENT_ENVELOPE, Type

WELL_KNOWN = frozenset(
    """authid authtype causationid correlationid dataref deprecationfrom expirytime partitionkey
    recordedtime sampledrate sequence sequencetype severitynumber severitytext traceparent
    tracestate""".split()  # noqa: SIM905 - as words
)
"""Extensions that have a specification; never taken for a misspelt attribute."""

_EXTENSION = re.compile(r"[a-z0-9]+")


def attribute(name: str, owner: str, *, quoted: bool) -> Type | str:
    """The attribute's type, or the message that says what is wrong with the name.

    `owner` is the event as the expression names it. `quoted` is the form `event["name"]`,
    which is not suspected of a slip.
    """
    known = EVENT_ENVELOPE.get(name)
    if known is not None:
        return known
    meant = _meant(name)
    if _EXTENSION.fullmatch(name):
        if quoted or name in WELL_KNOWN or meant is None:
            return DYN
        return (
            f"no such attribute {name}, did you mean {meant}? "
            f'(an extension of that name is read with {owner}["{name}"])'
        )
    hint = meant or f"data.{name}"
    return (
        f"no such attribute {name}: a CloudEvent's attributes are lower-case letters and digits, "
        f"did you mean {owner}.{hint}?"
    )


def _meant(name: str) -> str | None:
    """The attribute that the name is nearly."""
    plain = re.sub("[^a-z0-9]", "", name.lower())
    if plain in EVENT_ENVELOPE:
        return plain
    best: tuple[int, str] | None = None
    for candidate in EVENT_ENVELOPE:
        allowed = 0 if len(candidate) < 4 else 1 if len(candidate) < 6 else 2
        far = _distance(plain, candidate)
        if far <= allowed and (best is None or far < best[0]):
            best = far, candidate
    return best[1] if best else None


def _distance(a: str, b: str) -> int:
    """Edits (insert, delete, replace, swap neighbours) from one word to the other."""
    if abs(len(a) - len(b)) > 2:
        return 3
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, last, row = row, before, [i]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
