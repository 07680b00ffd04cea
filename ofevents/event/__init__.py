"""The CloudEvent as one immutable value, its rules and its formats."""

from ofevents.event.http import from_http, to_http, to_http_batch
from ofevents.event.rules import (
    Scalar,
    check_attributes,
    digest,
    format_time,
    is_json,
    parse_time,
)
from ofevents.event.value import BrokenEvent, Event
from ofevents.event.view import EventView

__all__ = [
    "BrokenEvent",
    "Event",
    "EventView",
    "Scalar",
    "check_attributes",
    "digest",
    "format_time",
    "from_http",
    "is_json",
    "parse_time",
    "to_http",
    "to_http_batch",
]
