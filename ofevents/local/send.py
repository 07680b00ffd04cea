"""What `ofevents send` does with its events: to a topic of the bus, or to a webhook."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import orjson

from ofevents.api.resolved import HttpTarget, ResolvedBus
from ofevents.bus import topics
from ofevents.clock import SystemClock
from ofevents.errors import OfeventsError
from ofevents.event import Event
from ofevents.local.find import connect
from ofevents.local.names import typed
from ofevents.ports import Bus, Delivery, Message
from ofevents.subscriber.http import open_http

BATCH: Final = 256
WRITER: Final = "default/cli/send"
TIMEOUT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it: ids in order, and what failed, as sentences."""

    to: str
    sent: tuple[str, ...]
    failed: tuple[str, ...] = ()
    note: str = ""

    def as_json(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    def as_text(self) -> str:
        lines = list(self.failed)
        if self.sent:
            what = f"event {self.sent[0]}" if len(self.sent) == 1 else f"{len(self.sent):,} events"
            lines.append(f"sent {what} to {self.to}")
        return "\n".join([*lines, self.note] if self.note else lines)


async def to_bus(to: str, events: Sequence[Event], resolved: ResolvedBus, namespace: str) -> Report:
    """Publish them on a topic; returns when the bus has stored them all.

    Raises:
        ConfigError: `to` is no topic, or the bus does not answer.
    """
    topic = topics.parse(to, namespace)
    sent: list[str] = []
    async with connect(resolved) as bus:
        try:
            for start in range(0, len(events), BATCH):
                part = events[start : start + BATCH]
                await bus.publish(topic, *(Message(event, WRITER) for event in part))
                sent += [event.id for event in part]
        except OfeventsError as error:
            return Report(to, tuple(sent), failed=(str(error),))
        return Report(to, tuple(sent), note=await _unread(bus, topic, to, namespace))


async def _unread(bus: Bus, topic: str, to: str, namespace: str) -> str:
    """A sentence where nobody reads that topic, with the nearest one that is read."""
    if not bus.features.counts:  # then it does not know either who else reads
        return ""
    report = await bus.inspect()
    read = {one for consumer in report.consumers for one in consumer.topics}
    if topic in read:
        return ""
    near = difflib.get_close_matches(topic, read, n=1)
    hint = f"; did you mean {typed(near[0], namespace)}?" if near else ""
    return f"note: no Trigger or function reads {to}: the bus keeps it, nobody gets it{hint}"


async def to_webhook(
    url: str, events: Sequence[Event], headers: Mapping[str, str], format: str
) -> Report:
    """POST them one by one, as the subscribers of a Trigger are called.

    Raises:
        ConfigError: the address or a header is wrong.
    """
    target = HttpTarget(uri=url, headers=dict(headers))
    sent: list[str] = []
    async with open_http(
        target,
        subscriber="default/cli/send",
        clock=SystemClock(),
        format=format,  # type: ignore[arg-type]
        timeout=TIMEOUT,
    ) as subscriber:
        for event in events:
            try:
                await subscriber.deliver(Delivery("default/cli/send", (event,)))
            except OfeventsError as error:
                return Report(url, tuple(sent), failed=(f"event {event.id}: {error}",))
            sent.append(event.id)
    return Report(url, tuple(sent))
