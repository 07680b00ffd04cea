"""The Kafka client on its own thread; `kafka` hands it one turn after another.

librdkafka's calls block, and its callbacks (assignment, errors, commits) run inside
them, so everything that touches the consumer happens on one thread: a turn commits,
pauses or resumes, and polls. Callbacks that concern the lanes ask the event loop and
wait for its answer.

**`newest` loses nothing.** Left to `auto.offset.reset`, a new group would begin
wherever the topic's end is when the first fetch happens, and again after a crash
before its first commit. Instead the first member of a group without any position
commits the ends of all partitions before it reads; from then on, and for partitions
that are added later, what is not committed begins at the oldest record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from ofevents.errors import ConfigError, Disconnected, OfeventsError

CONNECT: Final = 10.0
"""Seconds to reach a broker before `Disconnected` is raised."""
_ANSWER: Final = 10.0
"""Seconds for one question to the brokers."""
LAST_COMMIT: Final = 1.0
"""Seconds that the commit of partitions that leave is tried for."""
_LATER_AGAIN: Final = 0.05

_LOGIN: Final = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}
_FORBIDDEN: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
_LATER: Final = {
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}
"""The group takes the same commit a moment later."""
_HARMLESS: Final = {KafkaError._MAX_POLL_EXCEEDED, KafkaError._PARTITION_EOF}
"""The client goes on by itself after these."""

Offsets = Mapping[int, int]
"""Partition -> the offset to go on from: one after the last record that is settled."""


@dataclass(slots=True)
class Owner:
    """What the reader asks of the event loop's side; called on the reader's thread.

    Attributes:
        release: these partitions go to another member: end their lanes, and return
            the offsets that are settled.
        lose: these are gone already: end their lanes, commit nothing.
        uncommitted: the brokers did not take this commit.
        lagging: so many records of our partitions are not committed yet.
    """

    release: Callable[[list[int]], Offsets]
    lose: Callable[[list[int]], None]
    uncommitted: Callable[[Offsets], None]
    lagging: Callable[[int], None]


@dataclass(slots=True)
class Reader:
    """One consumer; every method is called on one thread, which they block."""

    config: dict[str, Any]
    topic: str
    newest: bool
    owner: Owner
    live: bool = False
    """Whether the group has given this member its partitions, be it none."""
    _consumer: Consumer = field(init=False)
    _gathered: list[Message] = field(default_factory=list)
    _paused: bool = False
    _failure: OfeventsError | None = None
    _problem: KafkaError | None = None
    _down: bool = False

    def open(self) -> None:
        """Make the client; connects to nothing yet.

        Raises:
            KafkaException, ValueError: it refuses its settings.
        """
        callbacks = {
            "error_cb": self._on_error,
            "on_commit": self._on_commit,
            "stats_cb": self._on_statistics,
        }
        self._consumer = Consumer({**self.config, **callbacks})

    def connect(self) -> None:
        """Reach a broker, find the topic, join the group.

        Raises:
            Disconnected: no broker within CONNECT seconds, or no such topic yet.
            ConfigError: the brokers refuse the login, or reading the topic.
        """
        deadline = time.monotonic() + CONNECT
        while (error := self._find_topic()) is not None:
            self._consumer.poll(0)  # serves the callbacks, which know more
            if self._failure is not None:
                raise self._failure
            if self._down or time.monotonic() > deadline:
                raise Disconnected(f"{self._where()} cannot be reached: {self._why(error)}")
        self._consumer.subscribe(
            [self.topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose
        )

    def _find_topic(self) -> KafkaError | None:
        try:
            metadata = self._consumer.list_topics(self.topic, timeout=1.0)
        except KafkaException as exception:
            error: KafkaError = exception.args[0]
            return error
        problem = metadata.topics[self.topic].error
        if problem is not None:
            raise self._meaning(problem)
        return None

    def turn(self, limit: int, wait: float, commit: Offsets) -> list[Message]:
        """Commit, then return up to `limit` records, waiting `wait` seconds for the first.

        With `limit` 0 all partitions are paused until a turn asks for records again:
        the group needs a member to poll, also while it can take nothing.

        Raises:
            Disconnected: the brokers are gone.
            ConfigError: they refuse us.
        """
        if commit:
            self._consumer.commit(offsets=self._positions(commit), asynchronous=True)
        if self._paused != (limit == 0):
            self._paused = limit == 0
            change = self._consumer.pause if self._paused else self._consumer.resume
            change(self._consumer.assignment())
        self._gathered = []
        first = self._consumer.poll(wait)
        if first is not None:
            self._gathered.append(first)
            if limit > 1:
                # All that is here already; a timeout would wait for the number. On a line
                # of its own: partitions may leave within it, and what `_drop` keeps is new.
                more = self._consumer.consume(limit - 1, 0)
                self._gathered += more
        if self._failure is not None:
            raise self._failure
        if self._down:
            self._look_again()
        return self._records()

    def close(self) -> None:
        """Commit what is settled, leave the group and end the client's threads."""
        try:
            self._consumer.poll(0)  # learn that the brokers are gone, before waiting for them
        except KafkaException:
            pass  # nothing to learn
        # Closing calls _revoke, which commits.
        self._consumer.close()

    # -- callbacks, inside poll, consume and close ----------------------------

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            if self.newest and partitions:
                self._begin_at_the_end(consumer)
            consumer.incremental_assign(partitions)
            if partitions:
                # One that was lost while it was paused would come back paused.
                change = consumer.pause if self._paused else consumer.resume
                change(partitions)
            self.live = True
        except KafkaException as error:
            self._failure = Disconnected(
                f"{self._where()}: the group's positions could not be read: {error.args[0].str()}"
            )

    def _begin_at_the_end(self, consumer: Consumer) -> None:
        metadata = consumer.list_topics(self.topic, timeout=_ANSWER)
        every = [TopicPartition(self.topic, one) for one in metadata.topics[self.topic].partitions]
        if any(one.offset >= 0 for one in consumer.committed(every, timeout=_ANSWER)):
            return
        for one in every:
            _, one.offset = consumer.get_watermark_offsets(one, timeout=_ANSWER)
        consumer.commit(offsets=every, asynchronous=False)

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = self._drop(partitions)
        settled = self.owner.release(gone)
        if settled:
            self._commit_last(consumer, settled)

    def _commit_last(self, consumer: Consumer, settled: Offsets) -> None:
        """Commit before these partitions go. What is not taken comes again, to the next owner.

        While the group hands out partitions anew it takes no commit, and one that came
        at that moment is taken a little later.
        """
        deadline = time.monotonic() + LAST_COMMIT
        while not self._down:
            try:
                consumer.commit(offsets=self._positions(settled), asynchronous=False)
                return
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                if error.code() not in _LATER or time.monotonic() > deadline:
                    return
            time.sleep(_LATER_AGAIN)

    def _lose(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.owner.lose(self._drop(partitions))

    def _drop(self, partitions: list[TopicPartition]) -> list[int]:
        """Forget what this turn has read of partitions that are not ours any more."""
        gone = [one.partition for one in partitions]
        self._gathered = [one for one in self._gathered if one.partition() not in gone]
        return gone

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._down = True
        elif error.code() in _LOGIN:
            self._failure = ConfigError(f"{self._where()} refuse the login: {error.str()}")
        elif error.fatal():
            self._failure = Disconnected(f"{self._where()}: {error.str()}")
        else:
            self._problem = error

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        failed = {one.partition: one.offset for one in partitions if error or one.error}
        if failed:
            self.owner.uncommitted(failed)

    def _on_statistics(self, text: str) -> None:
        partitions = orjson.loads(text)["topics"].get(self.topic, {}).get("partitions", {})
        self.owner.lagging(sum(map(_behind, partitions.values())))

    # -- what the brokers say --------------------------------------------------

    def _look_again(self) -> None:
        """All connections are down: a broker that closed idle ones answers at once."""
        try:
            self._consumer.list_topics(self.topic, timeout=2.0)
        except KafkaException as exception:
            reason = self._why(exception.args[0])
            raise Disconnected(f"{self._where()} are gone: {reason}") from exception
        self._down = False

    def _records(self) -> list[Message]:
        problems = [error for one in self._gathered if (error := one.error()) is not None]
        if not problems:
            return self._gathered
        for error in problems:
            if error.code() not in _HARMLESS and not error.retriable():
                raise self._meaning(error)
        return [one for one in self._gathered if one.error() is None]

    def _meaning(self, error: KafkaError) -> OfeventsError:
        if error.code() in _LOGIN | _FORBIDDEN:
            return ConfigError(f"{self._where()} refuse to read {self.topic}: {error.str()}")
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            return Disconnected(f"{self._where()} have no topic {self.topic!r}: create it")
        return Disconnected(f"{self._where()}: {error.str()}")

    def _why(self, error: KafkaError) -> str:
        return (self._problem or error).str()

    def _where(self) -> str:
        return f"Kafka brokers {self.config['bootstrap.servers']}"

    def _positions(self, offsets: Offsets) -> list[TopicPartition]:
        return [TopicPartition(self.topic, one, offset) for one, offset in offsets.items()]


def _behind(statistics: dict[str, Any]) -> int:
    """Records of one partition that are not committed; 0 where it is not ours."""
    lag: int = statistics["consumer_lag"]
    if lag < 0 and statistics["fetch_state"] == "active":
        # Nothing was ever committed: all that it holds.
        lag = statistics["hi_offset"] - max(0, statistics["lo_offset"])
    return max(0, lag)
