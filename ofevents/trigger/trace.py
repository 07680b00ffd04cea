"""Each event's way, told to whoever shows it: `ofevents run` prints one line each.

Called by the worker at every end that an event can reach for a subscriber. None
where nobody looks, so that a worker in a pod pays nothing.
"""

from __future__ import annotations

from typing import Literal, Protocol

Outcome = Literal[
    "filtered",  # no subscriber is concerned; `detail` says at which step
    "waiting",  # held for a condition over several inputs
    "delivered",  # the subscriber accepted it
    "inboxed",  # it waits in the subscriber's inbox; `detail` says why
    "dead-lettered",  # given up; `detail` says why
    "retrying",  # a call failed and will be made again; `detail` says why
    "unsettled",  # nothing could take it; the bus hands it out again
]


class Trace(Protocol):
    """Gets one call per event and subscriber; it must be quick and never raise."""

    def __call__(
        self, event_id: str, trigger: str, subscriber: str, outcome: Outcome, detail: str
    ) -> None:
        """`trigger` is `namespace/name`; `subscriber` its name, "" for the whole Trigger."""
        ...
