"""The CloudEvent as one immutable value, its rules and its formats."""

from ofevents.event.rules import Scalar, check_attributes, digest, is_json, parse_time
from ofevents.event.value import Event, EventView

__all__ = [
    "Event",
    "EventView",
    "Scalar",
    "check_attributes",
    "digest",
    "is_json",
    "parse_time",
]
