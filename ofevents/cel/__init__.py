"""CEL on events: the expressions of filters, conditions and payloads.

`compile` checks an expression once, when its resource is loaded; `Program.evaluate`
reads the event as it is. Callers: `resolve` and `api` (checking), `source` and
`trigger` (evaluating). Depends on nothing of ofevents but `errors` and `clock`.
"""

from ofevents.cel.compile import Program, compile
from ofevents.cel.environment import ON_EVENT, Environment
from ofevents.cel.limits import LimitExceeded, Limits
from ofevents.cel.output import to_json, to_text
from ofevents.cel.problems import CelError, Problem
from ofevents.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    EVENT,
    EVENT_ENVELOPE,
    INT,
    LIST,
    MAP,
    NULL,
    STRING,
    TIMESTAMP,
    UINT,
    Keyed,
    ListOf,
    MapOf,
    OptionalOf,
    Type,
)
from ofevents.cel.values import NONE, CelType, Duration, Optional, Timestamp, UInt

__all__ = [
    "BOOL", "BYTES", "DOUBLE", "DURATION", "DYN", "EVENT", "EVENT_ENVELOPE", "INT", "LIST", "MAP",
    "NONE", "NULL", "ON_EVENT", "STRING", "TIMESTAMP", "UINT", "CelError", "CelType", "Duration",
    "Environment", "Keyed", "LimitExceeded", "Limits", "ListOf", "MapOf", "Optional", "OptionalOf",
    "Problem", "Program", "Timestamp", "Type", "UInt", "compile", "to_json", "to_text",
]  # fmt: skip
