"""Runs one event entry of an EventSource: emit = stamp + filter + publish.

`run` is what `ofevents run` and `ofevents source` call; the rest is how it works:
`worker` (connections, adapter, stop), `standing` (health, waiting), `screen`
(attributes, dataSchema, filter), `emit` (to the bus), `direct` (to a function,
where there is no bus), `letters` (dead letters).
"""

from ofevents.source.worker import run

__all__ = ["run"]
