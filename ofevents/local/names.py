"""How topics are shown to a person: as short as `tail` and `send` take them.

Called by what `run`, `topics` and `tail` print.
"""

from __future__ import annotations

from ofevents.bus import topics
from ofevents.errors import ConfigError


def typed(topic: str, namespace: str = "default") -> str:
    """The shortest name that means this topic in that namespace; the full one for others."""
    try:
        kind, parts = topics.split(topic)
    except ConfigError:
        return topic
    if kind == "topic" and parts[0] == namespace:
        shown = parts[1]
    elif kind == "event":
        shown = "/".join(parts[1:] if parts[0] == namespace else parts)
    else:
        return topic
    return shown if topics.parse(shown, namespace) == topic else topic
