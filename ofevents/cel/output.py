"""CEL values as JSON, what a `payload` puts into an event, and as text, what attributes

and keys are.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

from ofevents.cel.access import lookup
from ofevents.cel.convert import fit_any
from ofevents.cel.limits import Budget, LimitExceeded, Limits
from ofevents.cel.values import Duration, Optional, Timestamp, plain, type_name
from ofevents.clock import SystemClock
from ofevents.errors import EvaluationError

_LIMITS = Limits()


def to_json(value: object, limits: Limits = _LIMITS) -> Any:
    """The value as dict, list, str, int, float, bool or None.

    Numbers are exact (a uint is an int), timestamps RFC 3339 text, durations seconds
    (`90s`), bytes base64, keys that are no string become their text. Raises
    EvaluationError for what JSON cannot hold (NaN, Infinity, a type, a lone surrogate)
    and for what is over the limits of size, steps and depth.
    """
    budget = Budget(limits, SystemClock())
    return _json(budget, value, limits.depth, "$")


def to_text(value: object, what: str) -> str:
    """Text as it is, a number or truth as text.

    Raises:
        EvaluationError: it is anything else; `what` begins the sentence.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    raise EvaluationError(f"{what} must be text, not {type(value).__name__}")


def _json(B: Budget, value: Any, depth: int, path: str) -> Any:
    value = plain(value)
    if value is None or type(value) is bool:
        return value
    if type(value) is str:
        return _text(B, value, path)
    if type(value) is float:
        if not math.isfinite(value):
            raise EvaluationError(f"{path}: JSON has no {value}")
        return value
    if isinstance(value, int):
        return fit_any(value)
    if isinstance(value, Timestamp | Duration):
        return str(value)
    if type(value) is bytes:
        B.make(len(value) * 4 // 3)
        return base64.b64encode(value).decode()
    if depth <= 0:
        raise LimitExceeded(f"{path[:80]}: nested too deeply, or contains itself")
    if type(value) in (list, tuple):
        B.make(8 * len(value))
        return [_json(B, each, depth - 1, f"{path}[]") for each in B.walk(value)]
    if isinstance(value, Mapping):
        B.make(16 * len(value))
        return _object(B, value, depth, path)
    if type(value) is Optional:
        return _json(B, value.value, depth - 1, path) if value.present else None
    raise EvaluationError(f"{path}: JSON has no {type_name(value)}")


def _text(B: Budget, value: str, path: str) -> str:
    B.make(len(value))
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise EvaluationError(f"{path}: a string with a lone surrogate is no text") from None
    return value


def _object(B: Budget, value: Mapping[Any, Any], depth: int, path: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key in B.walk(list(value)):
        name = _key(B, key, path)
        if name in made:
            raise EvaluationError(f"{path}: two keys are written {name!r} in JSON")
        made[name] = _json(B, lookup(value, key), depth - 1, f"{path}.{name}"[:200])
    return made


def _key(B: Budget, key: Any, path: str) -> str:
    if type(key) is bool:
        return "true" if key else "false"
    return _text(B, str(plain(key)) if not isinstance(key, int) else str(fit_any(key)), path)
