"""The JetStream side of topics: three streams, a bucket, and their consumers.

    <stream>-events    event.> topic.>   kept for replay until space is needed
    <stream>-inboxes   inbox.> due.>     a message leaves when it is settled
    <stream>-dead      dead.>            nothing leaves by itself
    KV_<stream>-store                    the Store's bucket

Subjects are the topics with the stream's prefix in front (`ofevents.event...`),
so that several buses, and strangers' subjects, live on one server.

Called by the driver at each connect (`Streams.create`) and for `ensure` and
`remove`; `room` says what happens when the bus is full. Everything is asked over the
JetStream API in JSON; nothing is cached, so workers of other versions and a
server that lost its disk are met as they are.

JetStream keeps messages back only in a stream that discards old ones at its
limit, so the inboxes have none; `room` refuses in its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

from ofevents.bus import topics as names
from ofevents.bus.link import Link
from ofevents.bus.options import JetStreamOptions
from ofevents.errors import ConfigError, Disconnected
from ofevents.ports import Consumer

Which = Literal["events", "inboxes", "dead"]
NANO: Final = 1_000_000_000
MAX_ACK_PENDING: Final = 65_536
"""Unsettled messages of one group in all its workers; each bounds its own in-flight."""

_STREAM_OF: Final[dict[str, Which]] = {
    "event": "events",
    "topic": "events",
    "inbox": "inboxes",
    "dead": "dead",
}
_SHARES: Final = 3
_DEFAULT_BYTES: Final = 10 * 1024**3
_LEAST_DEAD: Final = 1024**2
_LEAST_BYTES: Final = 16 * 1024**2
_PLAIN: Final = re.compile(r"[^A-Za-z0-9_=-]")
_NOT_FOUND: Final = (10014, 10059)  # consumer, stream
_NO_STORAGE: Final = (10028, 10047)


class ApiError(Exception):
    """What the JetStream API answered; `code` is its own error code."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("description", "unknown error"))
        self.code = int(error.get("err_code", 0))
        self.status = int(error.get("code", 0))


def durable(group: str) -> str:
    """A consumer's name on the server: no dots there, `~` stands for one."""
    return _PLAIN.sub(lambda m: "~" if m.group() == "." else f"%{ord(m.group()):02X}", group)[:240]


class Streams:
    """The streams of one bus, over a Link.

    Attributes:
        events_limit: most bytes of the events stream, once created.
    """

    def __init__(self, link: Link, options: JetStreamOptions) -> None:
        self._link = link
        self._options = options
        self._prefix = options.stream + "."
        self.events_limit = 0

    # -- names --------------------------------------------------------------

    def stream(self, which: Which) -> str:
        return f"{self._options.stream}-{which}"

    @property
    def bucket(self) -> str:
        return f"{self._options.stream}-store"

    def stream_of(self, topic: str) -> str:
        """The stream a topic lives in; ConfigError for what is no topic."""
        return self.stream(_STREAM_OF[names.split(topic)[0]])

    def subject(self, topic: str) -> str:
        return self._prefix + topic

    def scheduled_subject(self, topic: str, id: str) -> str:
        """Where a message waits until it is due: a subject of its own."""
        return f"{self._prefix}due.{topic}.{id}"

    def topic(self, subject: str) -> str:
        return subject[len(self._prefix) :]

    def by_stream(self, topics: Iterable[str]) -> dict[str, list[str]]:
        """Topics grouped by their stream, in order, each once."""
        found: dict[str, list[str]] = {}
        for topic in dict.fromkeys(topics):
            found.setdefault(self.stream_of(topic), []).append(topic)
        return found

    # -- the API ------------------------------------------------------------

    async def api(self, subject: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the JetStream API.

        Raises:
            ApiError: it refused.
            Disconnected: no answer, or JetStream is not ready on the server.
        """
        body = json.dumps(request).encode() if request is not None else b""
        msg = await self._link.ask(f"$JS.API.{subject}", body)
        if msg.headers and msg.headers.get("Status") == "503":
            raise Disconnected("JetStream does not answer: it is not enabled, or not ready yet")
        answer: dict[str, Any] = json.loads(msg.data)
        if "error" in answer:
            raise ApiError(answer["error"])
        return answer

    async def info(self, stream: str) -> dict[str, Any]:
        """State and configuration of a stream."""
        return await self.api(f"STREAM.INFO.{stream}")

    async def consumer(self, stream: str, group: str) -> dict[str, Any] | None:
        """State and configuration of a group's consumer, None where there is none."""
        try:
            return await self.api(f"CONSUMER.INFO.{stream}.{durable(group)}")
        except ApiError as error:
            if error.code in _NOT_FOUND:
                return None
            raise

    async def consumers(self, stream: str) -> list[dict[str, Any]]:
        """All durable consumers of a stream."""
        found: list[dict[str, Any]] = []
        while True:
            page = await self.api(f"CONSUMER.LIST.{stream}", {"offset": len(found)})
            found += page["consumers"] or []
            if len(found) >= page["total"] or not page["consumers"]:
                return [one for one in found if one["config"].get("durable_name")]

    # -- creating -----------------------------------------------------------

    async def create(self) -> None:
        """Create the streams and the bucket, or update what differs."""
        try:
            for which in ("events", "inboxes", "dead"):
                await self._create_stream(self._stream_config(which))
            await self._create_stream(self._bucket_config())
            events = await self.info(self.stream("events"))
            self.events_limit = events["config"]["max_bytes"]
        except ApiError as error:
            if error.status >= 500 and error.code not in _NO_STORAGE:
                raise Disconnected(f"JetStream is not ready: {error}") from error
            raise ConfigError(f"the nats-server refuses the bus's streams: {error}") from error

    def _stream_config(self, which: Which) -> dict[str, Any]:
        kinds = [kind for kind, stream in _STREAM_OF.items() if stream == which]
        config: dict[str, Any] = {
            "name": self.stream(which),
            "subjects": [f"{self._prefix}{kind}.>" for kind in kinds],
            "storage": self._options.storage,
            "num_replicas": self._options.replicas,
            "duplicate_window": int(self._options.duplicate_window * NANO),
            "allow_direct": True,
            "max_age": 0,
            "retention": "limits",
            "discard": "new",
        }
        if which == "events":
            config["max_age"] = int(self._options.max_age * NANO)
            config["duplicate_window"] = min(config["duplicate_window"], config["max_age"])
        if which == "inboxes":
            config["subjects"].append(f"{self._prefix}due.>")
            config |= {"retention": "workqueue", "discard": "old", "allow_msg_schedules": True}
            config["max_bytes"] = -1
        return config

    def _bucket_config(self) -> dict[str, Any]:
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

    async def _create_stream(self, config: dict[str, Any]) -> None:
        try:
            current = (await self.info(config["name"]))["config"]
        except ApiError as error:
            if error.code not in _NOT_FOUND:
                raise
            await self._create_sized(config)
            return
        if "max_bytes" not in config and self._options.max_bytes:
            config["max_bytes"] = self._size(config, self._options.max_bytes)
        # Storage cannot change; the server would refuse all of the update for it.
        wanted = {**current, **config, "storage": current["storage"]}
        if wanted != current:
            await self.api(f"STREAM.UPDATE.{config['name']}", wanted)

    def _size(self, config: dict[str, Any], events: int) -> int:
        """A stream's limit by that of the events: dead letters may take a quarter of it."""
        dead = config["name"] == self.stream("dead")
        return max(events // 4, _LEAST_DEAD) if dead else events

    async def _create_sized(self, config: dict[str, Any]) -> None:
        """Create it with the size asked for, or with as much as the server grants."""
        name = config["name"]
        if "max_bytes" in config or self._options.max_bytes:
            config.setdefault("max_bytes", self._size(config, self._options.max_bytes or 0))
            await self.api(f"STREAM.CREATE.{name}", config)
            return
        size = self._size(config, self.events_limit or _DEFAULT_BYTES)
        while True:
            # Asked for with room for the inboxes, the dead letters and the store.
            roomy = _SHARES * size if name == self.stream("events") else size
            try:
                await self.api(f"STREAM.CREATE.{name}", {**config, "max_bytes": roomy})
                break
            except ApiError as error:
                if error.code not in _NO_STORAGE or size // 2 < _LEAST_BYTES:
                    raise
            size //= 2
        if roomy != size:
            await self.api(f"STREAM.UPDATE.{name}", {**config, "max_bytes": size})

    async def ensure(self, consumers: Sequence[Consumer]) -> None:
        """Create or update each group's consumer, one per stream its topics lie in."""
        for wanted in consumers:
            for stream, topics in self.by_stream(wanted.topics).items():
                try:
                    await self._ensure_consumer(stream, wanted, [*map(self.subject, topics)])
                except ApiError as error:
                    raise ConfigError(
                        f"the bus refuses consumer group {wanted.group!r} on "
                        f"{', '.join(topics)}: {error}"
                    ) from error

    async def _ensure_consumer(self, stream: str, wanted: Consumer, subjects: list[str]) -> None:
        name = durable(wanted.group)
        current = await self.consumer(stream, wanted.group)
        settings: dict[str, Any] = {
            "filter_subjects": subjects,
            "ack_wait": int(self._options.ack_wait * NANO),
            "max_ack_pending": MAX_ACK_PENDING,
            "max_deliver": -1,
        }
        if current is None:
            everything = wanted.start == "earliest" or stream == self.stream("inboxes")
            config = {
                "durable_name": name,
                "name": name,
                "description": "consumer group of ofevents",
                "deliver_policy": "all" if everything else "new",
                "ack_policy": "explicit",
                "replay_policy": "instant",
                "metadata": {"ofevents-group": wanted.group},
                **settings,
            }
            action = "create"
        else:
            config = {**current["config"], **settings}
            config.pop("filter_subject", None)
            before = current["config"].get("filter_subjects") or [
                current["config"].get("filter_subject")
            ]
            same = {**current["config"], "filter_subjects": before}
            same.pop("filter_subject", None)
            if same == {**config, "filter_subjects": before} and set(before) == set(subjects):
                return
            action = "update"
        request = {"stream_name": stream, "config": config, "action": action}
        try:
            await self.api(f"CONSUMER.CREATE.{stream}.{name}", request)
        except ApiError as error:
            # Another worker created it in the same moment: look at what it made.
            if action == "create" and await self.consumer(stream, wanted.group) is not None:
                await self._ensure_consumer(stream, wanted, subjects)
            else:
                raise error

    # -- removing -----------------------------------------------------------

    async def remove(self, topics: Sequence[str], groups: Sequence[str]) -> None:
        """Delete consumers, then messages; what is not there is no error."""
        for group in groups:
            for which in ("events", "inboxes", "dead"):
                await self._if_there(f"CONSUMER.DELETE.{self.stream(which)}.{durable(group)}")
        for topic in topics:
            stream = self.stream_of(topic)
            await self._if_there(f"STREAM.PURGE.{stream}", {"filter": self.subject(topic)})
            if stream == self.stream("inboxes"):
                waiting = self.scheduled_subject(topic, "*")
                await self._if_there(f"STREAM.PURGE.{stream}", {"filter": waiting})

    async def _if_there(self, subject: str, request: dict[str, Any] | None = None) -> None:
        try:
            await self.api(subject, request)
        except ApiError as error:
            if error.code not in _NOT_FOUND:
                raise Disconnected(f"the bus could not remove it: {error}") from error

    # -- counting -----------------------------------------------------------

    async def subjects(self, stream: str) -> dict[str, Any]:
        """State of a stream with `subjects`: each with its number of messages."""
        found: dict[str, int] = {}
        while True:
            request = {"subjects_filter": ">", "offset": len(found)}
            answer = await self.api(f"STREAM.INFO.{stream}", request)
            page = answer["state"].get("subjects") or {}
            found |= page
            if not page or len(found) >= answer.get("total", 0):
                state: dict[str, Any] = answer["state"]
                return {**state, "subjects": found}


def filters(consumer: dict[str, Any]) -> list[str]:
    """The subjects a consumer reads."""
    config = consumer["config"]
    one = config.get("filter_subject")
    return list(config.get("filter_subjects") or ([one] if one else []))
