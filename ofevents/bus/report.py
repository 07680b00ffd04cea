"""What is on the bus, counted: `Bus.inspect` on JetStream.

Called for `ofevents topics`, lag metrics and status. Messages of an inbox that
are not due yet count as its messages and as pending for its group. JetStream
counts messages per topic but bytes only per stream: a topic's size is its share
of the stream's bytes by its number of messages.
"""

from __future__ import annotations

from collections import Counter

from ofevents.bus.layout import STREAMS, filters
from ofevents.bus.streams import Streams
from ofevents.ports import BusReport, ConsumerReport, TopicReport


async def inspect(streams: Streams) -> BusReport:
    """See `Bus.inspect`."""
    topics: list[TopicReport] = []
    consumers: dict[str, ConsumerReport] = {}
    layout = streams.layout
    for which in STREAMS:
        stream = layout.stream(which)
        state = await streams.subjects(stream)
        now: Counter[str] = Counter()
        later: Counter[str] = Counter()
        for subject, count in state["subjects"].items():
            topic = layout.topic(subject)
            if topic.startswith("due."):
                later[topic.removeprefix("due.").rpartition(".")[0]] += count
            else:
                now[topic] += count
        each = state["bytes"] / state["messages"] if state["messages"] else 0
        topics += [TopicReport(one, n, round(n * each)) for one, n in (now + later).items()]
        for info in await streams.consumers(stream):
            group = info["config"].get("metadata", {}).get("ofevents-group")
            if group is None:
                continue
            read = tuple(map(layout.topic, filters(info)))
            before = consumers.get(group, ConsumerReport(group, (), 0, 0))
            consumers[group] = ConsumerReport(
                group,
                before.topics + read,
                before.pending + info["num_pending"] + sum(later[one] for one in read),
                before.in_flight + info["num_ack_pending"],
            )
    return BusReport(
        tuple(sorted(topics, key=lambda one: one.topic)),
        tuple(sorted(consumers.values(), key=lambda one: one.group)),
    )
