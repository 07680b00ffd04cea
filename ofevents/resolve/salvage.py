"""What is left of a refused document when its wrong parts are taken away.

Its expressions are checked all the same, so that a bad duration does not hide a
bad condition: all errors at once. Nothing runs from what is salvaged.
"""

from __future__ import annotations

import copy
from typing import Any, Final

from pydantic import ValidationError

from ofevents.api import documents as api
from ofevents.resolve.explain import path_of
from ofevents.resolve.problems import Path

_PASSES: Final = 20
_BUS: Final[Path] = ("spec", "eventBus")
_FILLED: Final = "salvaged"
"""Stands for a missing text, so that what is beside it is still checked."""
_STANDS_FOR: Final[dict[str, Any]] = {"topic": _FILLED}
"""An input or a subscriber that is wrong: its name and its index still count."""


def salvage(value: Any) -> api.Document | None:
    """The document without what its model refuses, None when too little is left."""
    model = api.find(str(value.get("apiVersion")), str(value.get("kind")))
    if model is None:
        return None
    rest = copy.deepcopy(value)
    filled: set[Path] = set()
    for _ in range(_PASSES):
        try:
            return model.model_validate(rest, by_alias=True, by_name=False)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                path = path_of(detail)
                missing = detail["type"] == "missing"
                if missing and path not in filled and _fill(rest, path):
                    filled.add(path)
                elif not _take_away(rest, path[:-1] if missing or path in filled else path):
                    return None
    return None


def _fill(document: dict[str, Any], path: Path) -> bool:
    """Put a text where one is missing; False where nothing can be put."""
    holder: Any = document
    try:
        for part in path[:-1]:
            holder = holder[part]
    except (KeyError, IndexError, TypeError):
        return False
    if not isinstance(holder, dict):
        return False
    holder[path[-1]] = "default" if path == _BUS else _FILLED
    return True


def _take_away(document: dict[str, Any], path: Path) -> bool:
    """Remove what stands at the path; False when that would be nearly everything."""
    if len(path) < 2 or path[0] != "spec":
        return False
    holder: Any = document
    for part in path[:-1]:
        try:
            holder = holder[part]
        except (KeyError, IndexError, TypeError):
            return True  # Gone with something around it.
    last = path[-1]
    if path[1] in ("inputs", "subscribers") and len(path) == 3:
        holder[last] = dict(_STANDS_FOR)
    elif isinstance(holder, dict):
        holder.pop(last, None)
    else:
        # Taking an item out would move those behind it.
        return _take_away(document, path[:-1])
    return True
