"""A program of a user: reads a topic of the bus, and appends each event's id to a file.

OFEVENTS_BUS_URL=nats://... python tests/e2e/reader.py TOPIC FILE
"""

from __future__ import annotations

import sys

from ofevents.function import Event, Function

topic, file = sys.argv[1:]
function = Function("reader")


@function.on_topic(topic)
def keep(event: Event) -> None:
    with open(file, "a") as ids:
        ids.write(f"{event.id}\n")


if __name__ == "__main__":
    function.run()
