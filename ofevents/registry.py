"""Name -> class through entry points: the one door for our drivers and strangers'.

Called by `source`, `local`, `cli` and the conformance tests. A class is imported
when it is first asked for, so a worker loads only the client library it uses;
a missing library names the extra that installs it.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from ofevents.errors import ConfigError

Group = Literal["ofevents.sources", "ofevents.sinks", "ofevents.buses"]

_WHAT = {"ofevents.sources": "source", "ofevents.sinks": "sink", "ofevents.buses": "bus driver"}


def names(group: Group) -> tuple[str, ...]:
    """Every registered name of a group, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=group)}))


@cache
def load(group: Group, name: str) -> Any:
    """The class registered under that name.

    Raises:
        ConfigError: not registered (with the nearest name), or its client library
            is not installed (with the command that installs it).
    """
    points: dict[str, EntryPoint] = {point.name: point for point in entry_points(group=group)}
    what = _WHAT[group]
    if name not in points:
        near = difflib.get_close_matches(name, points, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        known = ", ".join(sorted(points)) or "none"
        raise ConfigError(
            f"this version of ofevents has no {what} {name!r} (installed: {known}){hint}"
        )
    try:
        return points[name].load()
    except ImportError as error:
        if (error.name or "").partition(".")[0] in ("ofevents", "ofevents_adapters"):
            raise  # a defect of ours: no package would mend it
        raise ConfigError(
            f"the {what} {name!r} needs a library that is not installed ({error.name}): "
            f"pip install 'ofevents[{name}]'"
        ) from error
