"""The streams, the bucket and the consumers on the server: created, read, removed.

Called by the driver at each connect (`create`) and for `ensure`, `inspect` and
`remove`; what they are called and how they are set is `layout`. Everything is
asked over the JetStream API in JSON; nothing is cached, so workers of other
versions and a server that lost its disk are met as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from ofevents.bus.layout import SHARES, STREAMS, Layout, Which, durable, filters
from ofevents.bus.link import Link
from ofevents.errors import ConfigError, Disconnected
from ofevents.ports import Consumer

_DEFAULT_BYTES: Final = 10 * 1024**3
_LEAST_BYTES: Final = 16 * 1024**2
_NOT_FOUND: Final = (10014, 10059)  # consumer, stream
_NO_STORAGE: Final = (10028, 10047)
_IN_USE: Final = 10058  # a stream of that name, configured in another way
_SIZE: Final = "ofevents-max-bytes"
"""In the metadata of a stream that is created larger than it shall be: its size."""
_TRIES: Final = 10


class ApiError(Exception):
    """What the JetStream API answered; `code` is its own error code."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("description", "unknown error"))
        self.code = int(error.get("err_code", 0))
        self.status = int(error.get("code", 0))


class Streams:
    """The streams of one bus, over a Link.

    Attributes:
        layout: their names.
        events_limit: most bytes of the events stream, once created.
    """

    def __init__(self, link: Link, layout: Layout) -> None:
        self.layout = layout
        self.events_limit = 0
        self._link = link

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

    async def _if_there(
        self, subject: str, request: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """As `api`; None where the stream or consumer does not exist."""
        try:
            return await self.api(subject, request)
        except ApiError as error:
            if error.code in _NOT_FOUND:
                return None
            raise

    async def info(self, stream: str) -> dict[str, Any]:
        """State and configuration of a stream."""
        return await self.api(f"STREAM.INFO.{stream}")

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

    async def consumer(self, stream: str, group: str) -> dict[str, Any] | None:
        """State and configuration of a group's consumer, None where there is none."""
        return await self._if_there(f"CONSUMER.INFO.{stream}.{durable(group)}")

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
            for which in STREAMS:
                config = self.layout.stream_config(which)
                await self._provide(which, config)
                if which == "events":
                    events = await self.info(config["name"])
                    self.events_limit = events["config"]["max_bytes"]
            await self._provide(None, self.layout.bucket_config())
        except ApiError as error:
            if error.status >= 500 and error.code not in _NO_STORAGE:
                raise Disconnected(f"JetStream is not ready: {error}") from error
            raise ConfigError(f"the nats-server refuses the bus's streams: {error}") from error

    async def _provide(self, which: Which | None, config: dict[str, Any]) -> None:
        """Bring it up to date, or create it; `which` is None for the bucket.

        Workers that meet on a fresh server all find nothing and create it: who comes
        second is refused, and finds what the first one made.
        """
        for left in reversed(range(_TRIES)):
            if await self._update(config):
                return
            try:
                await self._create(which, config)
                return
            except ApiError as error:
                # The first one's stream may also have taken the storage.
                if error.code not in (_IN_USE, *_NO_STORAGE) or not left:
                    raise
                if error.code != _IN_USE and not await self._there(config["name"]):
                    raise

    async def _there(self, stream: str) -> bool:
        return await self._if_there(f"STREAM.INFO.{stream}") is not None

    async def _update(self, config: dict[str, Any]) -> bool:
        """Bring an existing stream up to date; False where there is none."""
        found = await self._if_there(f"STREAM.INFO.{config['name']}")
        if found is None:
            return False
        current = found["config"]
        # Storage cannot change; the server would refuse all of the update for it.
        wanted = {**current, **config, "storage": current["storage"]}
        if size := (current.get("metadata") or {}).get(_SIZE):
            # Whoever created it has not made it smaller yet, or has died before.
            wanted |= {"max_bytes": int(size)} if "max_bytes" not in config else {}
            wanted["metadata"] = {k: v for k, v in current["metadata"].items() if k != _SIZE}
        if wanted != current:
            await self.api(f"STREAM.UPDATE.{config['name']}", wanted)
        return True

    async def _create(self, which: Which | None, config: dict[str, Any]) -> None:
        """Create it with the size asked for, or with as much as the server grants."""
        create = f"STREAM.CREATE.{config['name']}"
        if "max_bytes" in config or which is None:
            await self.api(create, config)
            return
        size = self.layout.limit(which, self.events_limit or _DEFAULT_BYTES)
        while True:
            try:
                if which != "events":
                    await self.api(create, {**config, "max_bytes": size})
                    return
                # Asked for with room for all the other shares.
                roomy = {"max_bytes": SHARES * size, "metadata": {_SIZE: str(size)}}
                await self.api(create, {**config, **roomy})
                await self._update(config)
                return
            except ApiError as error:
                if error.code not in _NO_STORAGE or size // 2 < _LEAST_BYTES:
                    raise
            size //= 2

    async def ensure(self, consumers: Sequence[Consumer]) -> None:
        """Create or update each group's consumer, one per stream its topics lie in."""
        for wanted in consumers:
            by_stream = self.layout.by_stream(wanted.topics)
            try:
                for which in STREAMS:
                    stream = self.layout.stream(which)
                    if topics := by_stream.get(stream):
                        await self._ensure(stream, wanted, topics)
                    else:
                        await self._if_there(f"CONSUMER.DELETE.{stream}.{durable(wanted.group)}")
            except ApiError as error:
                raise ConfigError(
                    f"the bus refuses consumer group {wanted.group!r} on "
                    f"{', '.join(wanted.topics)}: {error}"
                ) from error

    async def _ensure(self, stream: str, wanted: Consumer, topics: list[str]) -> None:
        create = f"CONSUMER.CREATE.{stream}.{durable(wanted.group)}"
        current = await self.consumer(stream, wanted.group)
        if current is None:
            config = self.layout.consumer_config(stream, wanted, topics)
            try:
                await self.api(
                    create, {"stream_name": stream, "config": config, "action": "create"}
                )
                return
            except ApiError:
                # Another worker may have created it in the same moment.
                current = await self.consumer(stream, wanted.group)
                if current is None:
                    raise
        settings = self.layout.consumer_settings(topics)
        before = {**current["config"], "filter_subjects": filters(current)}
        before.pop("filter_subject", None)
        after = {**before, **settings}
        same_topics = set(before["filter_subjects"]) == set(settings["filter_subjects"])
        if same_topics and after == {**before, "filter_subjects": settings["filter_subjects"]}:
            return
        await self.api(create, {"stream_name": stream, "config": after, "action": "update"})

    # -- removing -----------------------------------------------------------

    async def remove(self, topics: Sequence[str], groups: Sequence[str]) -> None:
        """Delete consumers, then messages; what is not there is no error."""
        layout = self.layout
        try:
            for group in groups:
                for which in STREAMS:
                    await self._if_there(f"CONSUMER.DELETE.{layout.stream(which)}.{durable(group)}")
            for topic in topics:
                stream = layout.stream_of(topic)
                purge = f"STREAM.PURGE.{stream}"
                await self._if_there(purge, {"filter": layout.subject(topic)})
                if stream == layout.stream("inboxes"):
                    await self._if_there(purge, {"filter": layout.scheduled_subject(topic, "*")})
        except ApiError as error:
            raise Disconnected(f"the bus could not remove it: {error}") from error
