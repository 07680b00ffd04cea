"""Where topics lie on JetStream: names of streams, subjects and consumers. Pure.

    <stream>-events    event.>         kept for replay until space is needed
    <stream>-topics    topic.>         the same, apart from the events
    <stream>-inboxes   inbox.> due.>   a message leaves when it is settled
    <stream>-dead      dead.>          nothing leaves by itself
    KV_<stream>-store                  the Store's bucket

What settles events writes to the other streams, so none of them shares its room
with the events: sources that fill the bus would keep Triggers from writing the
topics, and with that from settling the events that fill it.

Subjects are the topics with the stream's prefix in front (`ofevents.event...`),
so that several buses, and strangers' subjects, live on one server.

JetStream keeps messages back until they are due only in a stream that discards
old ones at its limit, so the inboxes have none; `room` refuses in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, Literal

from ofevents.bus import topics as names
from ofevents.bus.options import JetStreamOptions
from ofevents.errors import ConfigError
from ofevents.ports import Consumer

Which = Literal["events", "topics", "inboxes", "dead"]
STREAMS: Final[tuple[Which, ...]] = ("events", "topics", "inboxes", "dead")
REPLAYED: Final[tuple[Which, ...]] = ("events", "topics")
"""Those that keep what is settled until its space is needed or maxAge has passed."""
SHARES: Final = 3
"""How often the events' limit all of the bus fits in. Of each limit of the events: 1 for
them, 1/2 for the user topics, 1 for the inboxes, 1/4 for the dead letters, and 1/4 that
stays for the store."""
NANO: Final = 1_000_000_000
MAX_ACK_PENDING: Final = 65_536
"""Unsettled messages of one group in all its workers; each bounds its own in-flight."""

_STREAM_OF: Final[dict[str, Which]] = {
    "event": "events",
    "topic": "topics",
    "inbox": "inboxes",
    "dead": "dead",
}
_PARTS: Final[dict[Which, int]] = {"events": 1, "topics": 2, "inboxes": 1, "dead": 4}
"""What the events' limit is divided by for each stream's own; see `SHARES`."""
_LEAST: Final = 1024**2
"""The least limit of a part, so that it takes a large event also where maxBytes is small."""
_NOT_IN_NAME: Final = re.compile(r"[^A-Za-z0-9_=-]")
_TOPIC: Final = re.compile(r"[A-Za-z0-9_=-]+(\.[A-Za-z0-9_=-]+)+\Z")


def durable(group: str) -> str:
    """A consumer's name on the server: no dots there, `~` stands for one."""
    return _NOT_IN_NAME.sub(lambda m: "~" if m.group() == "." else f"%{ord(m.group()):02X}", group)[
        :240
    ]


@lru_cache(maxsize=4096)
def _which(topic: str) -> Which:
    kind, _ = names.split(topic)
    if not _TOPIC.match(topic):
        raise ConfigError(
            f"{topic!r} is no topic: its parts are letters, digits, '_' and '-', others escaped"
        )
    return _STREAM_OF[kind]


class Layout:
    """The names and configurations of one bus."""

    def __init__(self, options: JetStreamOptions) -> None:
        self._options = options
        self._prefix = options.stream + "."
        self.bucket = f"{options.stream}-store"

    def stream(self, which: Which) -> str:
        return f"{self._options.stream}-{which}"

    def stream_of(self, topic: str) -> str:
        """The stream a topic lives in; ConfigError for what is no topic."""
        return self.stream(_which(topic))

    def by_stream(self, topics: Iterable[str]) -> dict[str, list[str]]:
        """Topics grouped by their stream, in order, each once."""
        found: dict[str, list[str]] = {}
        for topic in dict.fromkeys(topics):
            found.setdefault(self.stream_of(topic), []).append(topic)
        return found

    def subject(self, topic: str) -> str:
        return self._prefix + topic

    def topic(self, subject: str) -> str:
        """The inverse of `subject`."""
        return subject[len(self._prefix) :]

    def scheduled_subject(self, topic: str, id: str) -> str:
        """Where a message waits until it is due: a subject of its own."""
        return f"{self._prefix}due.{topic}.{id}"

    # -- configurations -----------------------------------------------------

    def stream_config(self, which: Which) -> dict[str, Any]:
        """Without `max_bytes` where the server decides about it; see `limit`."""
        options = self._options
        kinds = [kind for kind, stream in _STREAM_OF.items() if stream == which]
        config: dict[str, Any] = {
            "name": self.stream(which),
            "subjects": [f"{self._prefix}{kind}.>" for kind in kinds],
            "storage": options.storage,
            "num_replicas": options.replicas,
            "duplicate_window": int(options.duplicate_window * NANO),
            "allow_direct": True,
            "max_age": 0,
            "retention": "limits",
            "discard": "new",
        }
        if which in REPLAYED:
            config["max_age"] = int(options.max_age * NANO)
            config["duplicate_window"] = min(config["duplicate_window"], config["max_age"])
        if which == "inboxes":
            config["subjects"].append(f"{self._prefix}due.>")
            config |= {"retention": "workqueue", "discard": "old", "allow_msg_schedules": True}
            config["max_bytes"] = -1
        elif options.max_bytes:
            config["max_bytes"] = self.limit(which, options.max_bytes)
        return config

    def limit(self, which: Which, events: int) -> int:
        """A stream's limit by that of the events, in bytes; see `SHARES`."""
        part = _PARTS[which]
        return events if part == 1 else max(events // part, _LEAST)

    def bucket_config(self) -> dict[str, Any]:
        """Of the store: a NATS KV bucket with times to live per key."""
        return {
            "name": f"KV_{self.bucket}",
            "subjects": [f"$KV.{self.bucket}.>"],
            "storage": self._options.storage,
            "num_replicas": self._options.replicas,
            "max_msgs_per_subject": 1,
            "max_bytes": -1,
            "discard": "new",
            "allow_direct": True,
            "allow_rollup_hdrs": True,
            "allow_msg_ttl": True,
            "deny_delete": True,
        }

    def consumer_settings(self, topics: Iterable[str]) -> dict[str, Any]:
        """What `ensure` brings up to date in a consumer that exists."""
        return {
            "filter_subjects": [*map(self.subject, topics)],
            "ack_wait": int(self._options.ack_wait * NANO),
            "max_ack_pending": MAX_ACK_PENDING,
            "max_deliver": -1,
        }

    def consumer_config(self, stream: str, wanted: Consumer, topics: list[str]) -> dict[str, Any]:
        """Of a new consumer. An inbox is always read from its beginning."""
        name = durable(wanted.group)
        everything = wanted.start == "earliest" or stream == self.stream("inboxes")
        return {
            "durable_name": name,
            "name": name,
            "description": "consumer group of ofevents",
            "deliver_policy": "all" if everything else "new",
            "ack_policy": "explicit",
            "replay_policy": "instant",
            "metadata": {"ofevents-group": wanted.group},
            **self.consumer_settings(topics),
        }


def filters(consumer: dict[str, Any]) -> list[str]:
    """The subjects that a consumer, as the server shows it, reads."""
    config = consumer["config"]
    one = config.get("filter_subject")
    return list(config.get("filter_subjects") or ([one] if one else []))
